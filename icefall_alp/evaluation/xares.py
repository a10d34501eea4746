# SPDX-License-Identifier: Apache-2.0
"""An exported encoder as X-ARES wants one: `ALP_ENCODER=exp/<run>/encoder python -m xares.run FILE TASKS`.

X-ARES builds the encoder without arguments, so its folder comes from the environment variable `ALP_ENCODER`.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from icefall_alp.data.fbank import SAMPLING_RATE
from icefall_alp.evaluation.waveform_encoder import MIN_SAMPLES, WaveformEncoder
from icefall_alp.utils.errors import UserError


class ZipformerEncoder(WaveformEncoder):
    """Waveforms (B, S) to frames (B, T, C), with the attributes that X-ARES reads."""

    sampling_rate = SAMPLING_RATE
    hop_size_in_ms = 40

    def __init__(self, folder: str = "") -> None:
        folder = folder or os.environ.get("ALP_ENCODER", "")
        if not folder:
            raise UserError("ALP_ENCODER is not set; it names the folder of the encoder, exp/<run>/encoder")
        super().__init__(folder)

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, S) or (S,) at 16 kHz to frames (B, T, C) float32; what is shorter than 0.1 s is padded."""
        audio = torch.atleast_2d(audio)
        audio = torch.nn.functional.pad(audio, (0, max(0, MIN_SAMPLES - audio.shape[1])))
        frames, _ = super().forward(audio, torch.full((len(audio),), audio.shape[1], device=audio.device))
        return frames
