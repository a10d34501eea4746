# SPDX-License-Identifier: Apache-2.0
"""Log-Mel filterbanks as Kaldi computes them, for whole batches.

16 kHz, 80 bins from 20 Hz to 7600 Hz, 25 ms povey windows every 10 ms, mean of each window removed, pre-emphasis
0.97, power spectrum of 512 points, no dither, edges reflected (`snip_edges=False`). Samples lie in [-1, 1] and the
floor below the logarithm is float32's epsilon, as in Lhotse; frames past a clip's end hold ln(1e-10).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

SAMPLING_RATE = 16000  # Hz
NUM_BINS = 80
FRAME_RATE = 100  # Hz
PADDING = math.log(1e-10)
MIN_FRAMES = 9  # what the encoder needs at least

_WINDOW, _SHIFT, _FFT = 400, 160, 512  # samples
_LEAD = (_WINDOW - _SHIFT) // 2  # the first window begins this far before the first sample
_TAIL = 200  # no window reaches further past the last sample
_BLOCK = math.gcd(_WINDOW, _SHIFT)
_PREEMPHASIS = 0.97
_ROWS_ON_CPU, _ROWS_ELSEWHERE = 256, 1 << 17  # windows per block: what fits the cache, what fits the memory
_ROW_MULTIPLE = 64


def mel_weights() -> Tensor:
    """Triangular filters, evenly spaced on Kaldi's Mel scale: (257, 80) float32, the Nyquist bin unused."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz, dtype=np.float64) / 700.0)

    corners = np.linspace(mel(20.0), mel(SAMPLING_RATE / 2 - 400.0), NUM_BINS + 2)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = mel(np.arange(_FFT // 2 + 1) * SAMPLING_RATE / _FFT)[:, None]
    weights = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(min=0.0)
    weights[-1] = 0.0
    return torch.from_numpy(weights).float()


class Fbank(nn.Module):
    """Waveforms to log-Mel features, on any device; a clip's features do not depend on its batch."""

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(_WINDOW, periodic=False, dtype=torch.float64).pow(0.85).float()
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("weights", mel_weights(), persistent=False)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            waveforms: (N, S) float32 in [-1, 1] at 16 kHz; what lies past a clip's length is ignored.
            lens: (N,) samples of each clip.

        Returns:
            features (N, T, 80) with T = round(S / 160), and feature_lens (N,) = round(lens / 160).
        """
        num_frames = (waveforms.shape[1] + _SHIFT // 2) // _SHIFT
        feature_lens = (lens + _SHIFT // 2) // _SHIFT
        signal = _reflect_edges(waveforms, lens.to(waveforms.device))
        # The window is zero at its first sample, so pre-emphasis may look across the window's start, and the mean of
        # the window can be taken away after it: (x - m) - 0.97 (x' - m) = (x - 0.97 x') - 0.03 m.
        sums = signal.unflatten(1, (-1, _BLOCK)).sum(2).unfold(1, _WINDOW // _BLOCK, _SHIFT // _BLOCK).sum(2)
        means = sums[..., None] * ((1.0 - _PREEMPHASIS) / _WINDOW)
        emphasized = torch.zeros_like(signal)
        torch.sub(signal[:, 1:], signal[:, :-1] * _PREEMPHASIS, out=emphasized[:, 1:])
        frames = emphasized.unfold(1, _WINDOW, _SHIFT)
        rows = _ROWS_ON_CPU if waveforms.device.type == "cpu" else _ROWS_ELSEWHERE
        step = max(1, rows // max(1, len(waveforms)))
        features = waveforms.new_empty(len(waveforms), num_frames, NUM_BINS)
        for start in range(0, num_frames, step):
            block = slice(start, min(start + step, num_frames))
            features[:, block] = self._mel_energies(frames[:, block], means[:, block])
        features = features.clamp_(min=torch.finfo(torch.float32).eps).log_()
        past_end = torch.arange(num_frames, device=features.device) >= feature_lens.to(features.device)[:, None]
        return features.masked_fill_(past_end[..., None], PADDING), feature_lens

    def _mel_energies(self, frames: Tensor, means: Tensor) -> Tensor:
        windowed = torch.mul(frames, self.window).addcmul_(means, self.window, value=-1.0)
        real, imaginary = torch.view_as_real(torch.fft.rfft(windowed, n=_FFT)).unbind(-1)
        power = real.square().addcmul_(imaginary, imaginary).flatten(0, 1)
        # Few rows take another matrix kernel, whose sums round differently: a clip's features would depend on how
        # many windows happen to be left for its last block.
        num_rows = len(power)
        energies = nn.functional.pad(power, (0, 0, 0, -num_rows % _ROW_MULTIPLE)) @ self.weights
        return energies[:num_rows].unflatten(0, frames.shape[:2])


def _reflect_edges(waveforms: Tensor, lens: Tensor) -> Tensor:
    """Continue each clip as its mirror image on both sides: (N, S) to (N, >= 120 + S + 200), a multiple of 80."""
    num_clips, num_samples = waveforms.shape
    width = math.ceil((_LEAD + num_samples + _TAIL) / _BLOCK) * _BLOCK
    signal = waveforms.new_zeros(num_clips, width)
    signal[:, _LEAD : _LEAD + num_samples] = waveforms
    lens = lens[:, None]
    lead = torch.arange(-_LEAD, 0, device=lens.device)
    signal[:, :_LEAD] = waveforms.gather(1, _mirror(lead.expand(num_clips, -1), lens))
    tail = lens + torch.arange(_TAIL, device=lens.device)
    return signal.scatter_(1, tail + _LEAD, waveforms.gather(1, _mirror(tail, lens)))


def _mirror(positions: Tensor, lens: Tensor) -> Tensor:
    lens = lens.clamp(min=1)
    positions = positions % (2 * lens)
    return torch.minimum(positions, 2 * lens - 1 - positions)
