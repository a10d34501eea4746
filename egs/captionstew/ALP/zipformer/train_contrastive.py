#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Contrastive pretraining: pull each clip towards its caption (paper, Eq. 1).

./run.sh --stage 5 --stop-stage 5 --objective contrastive
"""

from __future__ import annotations

from train import initial_encoder, run

from icefall_alp.config import ContrastiveConfig
from icefall_alp.data.datasets import CaptionDataset
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective


def build_objective(config: ContrastiveConfig) -> ContrastiveObjective:
    """Two towers into one space."""
    return ContrastiveObjective(
        audio_encoder=initial_encoder(config),
        text_encoder=TextEncoder.build(config.text_encoder),
        embedding_dim=config.embedding_dim,
        initial_temperature=config.initial_temperature,
    )


if __name__ == "__main__":
    run(ContrastiveConfig, build_objective, CaptionDataset.open)
