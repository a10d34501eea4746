#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Captioning pretraining: predict each caption from the clip, left to right and in parallel (paper, Eq. 2 and 3).

./run.sh --stage 5 --stop-stage 5 --objective captioning
"""

from __future__ import annotations

from train import initial_encoder, run

from icefall_alp.config import CaptioningConfig
from icefall_alp.data.datasets import CaptionDataset
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective


def build_objective(config: CaptioningConfig) -> CaptioningObjective:
    """A decoder that attends to the encoder's frames."""
    audio_encoder = initial_encoder(config)
    return CaptioningObjective(
        audio_encoder=audio_encoder,
        text_decoder=TextDecoder.build(config.text_decoder, audio_encoder.output_dim),
        parallel_fraction=config.parallel_fraction,
        label_smoothing=config.label_smoothing,
    )


if __name__ == "__main__":
    run(CaptioningConfig, build_objective, CaptionDataset.open)
