# SPDX-License-Identifier: Apache-2.0
"""Our encoder behind its fbank, as the benchmarks HEAR and X-ARES want it: from samples to frames."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from icefall_alp.data.fbank import SAMPLING_RATE, Fbank
from icefall_alp.models import AudioEncoder
from icefall_alp.utils.exact_arithmetic import compute_exactly

MIN_SAMPLES = SAMPLING_RATE // 10  # of a waveform: nine fbank frames, rounded up


class WaveformEncoder(nn.Module):
    """An exported encoder that is given waveforms.

    It sets for the whole process that float32 on a GPU is float32 (`compute_exactly`).

    Args:
        folder: `exp/<run>/encoder`, or whatever else `AudioEncoder.load` reads.

    Raises:
        UserError: Nothing readable is there.
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__()
        compute_exactly()  # programs of others never ask `distributed.device`
        self.fbank = Fbank()
        self.encoder = AudioEncoder.load(folder).eval().requires_grad_(False)
        self.output_dim = self.encoder.output_dim

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (N, S) at 16 kHz with lens (N,) to frames (N, T, C) at 25 Hz with lens (N,)."""
        features, feature_lens = self.fbank(waveforms.float(), lens)
        frames, frame_lens = self.encoder(features, feature_lens)
        return frames[:, : int(frame_lens.max())].float(), frame_lens
