#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Supervised tagging: the paper's Zipformer-AEC, the start of its "-init" runs, and encoders of one dataset (Table 7).

./run.sh --stage 4 --stop-stage 4
./run.sh --stage 4 --stop-stage 4 --supervised "vggsound nsynth"
"""

from __future__ import annotations

from functools import partial

from train import initial_encoder, run

from icefall_alp.config import TaggingConfig
from icefall_alp.data.datasets import LabelDataset, read_class_list
from icefall_alp.objectives.tagging import TaggingObjective


def build_objective(config: TaggingConfig) -> TaggingObjective:
    """Encoder, and a linear layer per frame averaged over time."""
    return TaggingObjective(
        audio_encoder=initial_encoder(config),
        num_classes=len(read_class_list(config.data.class_list)),
        dropout=config.dropout,
        multi_label=config.multi_label,
    )


if __name__ == "__main__":
    run(TaggingConfig, build_objective, partial(LabelDataset.open))
