# SPDX-License-Identifier: Apache-2.0
"""Log-Mel filterbanks as Kaldi computes them, for whole batches.

16 kHz, 80 bins from 20 Hz to 7600 Hz, 25 ms povey windows every 10 ms, mean of each window removed, pre-emphasis
0.97, power spectrum of 512 points, no dither, edges reflected (`snip_edges=False`). Samples lie in [-1, 1] and the
floor below the logarithm is float32's epsilon, as in Lhotse; frames past a clip's end hold ln(1e-10).

Everything up to the power spectrum is computed in float64: in float32 a weak bin beside strong ones is good to 1e-3
only, in Kaldi too. On a CPU loops in C compute (`fbank_loops`) where there is a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from icefall_alp.data import fbank_loops

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
_FLOOR = torch.finfo(torch.float32).eps
_ROWS_ON_CPU, _ROWS_ELSEWHERE = 1024, 1 << 16  # windows per block: what fits the cache, what fits the memory
_ROW_MULTIPLE = 64
_BANDS = (0, 32, 48, 64, NUM_BINS)  # filters multiplied together: most points of the spectrum are outside a filter


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

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            waveforms: (N, S) in [-1, 1] at 16 kHz; what lies past a clip's length is ignored.
            lens: (N,) samples of each clip.

        Returns:
            features (N, T, 80) with T = round(S / 160), and feature_lens (N,) = round(lens / 160).
        """
        if lens.shape != waveforms.shape[:1]:
            raise ValueError(f"{len(waveforms)} waveforms with lengths {tuple(lens.shape)}")
        waveforms = waveforms.float()
        num_clips, num_frames = len(waveforms), (waveforms.shape[1] + _SHIFT // 2) // _SHIFT
        feature_lens = (lens + _SHIFT // 2) // _SHIFT
        signal = _reflect_edges(waveforms, lens.to(waveforms.device))
        features = waveforms.new_empty(num_clips, num_frames, NUM_BINS)
        if fbank_loops.suit(waveforms):
            _loops()(signal, feature_lens, features)
        else:
            self._fill(features, signal)
        _pad(features, feature_lens)
        return features, feature_lens

    def _fill(self, features: Tensor, signal: Tensor) -> None:
        """Fill features (N, T, 80) from signals (N, >= 240 + 160 T)."""
        num_clips, num_frames, _ = features.shape
        rows = _ROWS_ON_CPU if features.device.type == "cpu" else _ROWS_ELSEWHERE
        # What a window does not fill of its 512 samples stays zero.
        size = (min(rows, num_clips * num_frames), _FFT)
        space = torch.zeros(size, dtype=torch.float64, device=features.device)
        for clips in _parts(num_clips, rows // max(1, num_frames)):
            emphasized, means = _emphasize(signal[clips].double(), num_frames)
            for frames in _parts(num_frames, rows):
                self._log_energies(emphasized[:, frames], means[:, frames], space, features[clips, frames])

    def _log_energies(self, frames: Tensor, means: Tensor, space: Tensor, features: Tensor) -> None:
        """Fill features (N, T, 80).

        Args:
            frames: (N, T, 400) samples after pre-emphasis, float64.
            means: (N, T, 1) what is to be taken away from each window, float64.
            space: (>= N * T, 512) for the windows, float64, zero from sample 400 on.
            features: (N, T, 80), written to.
        """
        window, weights = _tables(features.device)
        num_rows = frames.shape[0] * frames.shape[1]
        padded = space[:num_rows]
        windows = padded.view(*frames.shape[:2], _FFT)[..., :_WINDOW]
        torch.sub(frames, means, out=windows).mul_(window)
        squares = torch.view_as_real(torch.fft.rfft(padded)).square_()
        # Few rows take another matrix kernel, whose sums round differently: a clip's features would depend on how
        # many windows happen to be left for its last block.
        power = features.new_empty(num_rows + -num_rows % _ROW_MULTIPLE, squares.shape[1])
        power[num_rows:] = 0.0
        torch.add(squares[..., 0], squares[..., 1], out=power[:num_rows])
        energies = features.new_empty(len(power), NUM_BINS)
        for points, bins in _bands():
            torch.mm(power[:, points], weights[points, bins], out=energies[:, bins])
        energies.clamp_(min=_FLOOR)
        torch.log(energies[:num_rows].view(features.shape), out=features)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """The window (400,) float64 and the filters (257, 80) float32."""
    window = torch.hann_window(_WINDOW, periodic=False, dtype=torch.float64, device="cpu").pow(0.85)
    return window.to(device), mel_weights().to(device)


@cache
def _loops() -> fbank_loops.FbankLoops:
    return fbank_loops.FbankLoops(*_tables(torch.device("cpu")), _PREEMPHASIS, _FLOOR)


@cache
def _bands() -> list[tuple[slice, slice]]:
    """Points of the spectrum and the filters that look at them."""
    weights = mel_weights()
    return [(_nonzero_rows(weights[:, bins]), bins) for bins in map(slice, _BANDS[:-1], _BANDS[1:])]


def _pad(features: Tensor, feature_lens: Tensor) -> None:
    if features.device.type == "cpu":
        for clip, length in zip(features, feature_lens.tolist(), strict=True):
            clip[length:] = PADDING
    else:  # all at once, and without waiting for the lengths
        past_end = torch.arange(features.shape[1], device=features.device) >= feature_lens.to(features.device)[:, None]
        features.masked_fill_(past_end[..., None], PADDING)


def _nonzero_rows(weights: Tensor) -> slice:
    places = weights.any(dim=1).nonzero()
    return slice(int(places.min()), int(places.max()) + 1)


def _parts(total: int, size: int) -> Iterator[slice]:
    """Cut a range into parts of about the same size, at most `size` and at least 1."""
    step = math.ceil(total / max(1, math.ceil(total / max(1, size))))
    return (slice(start, min(start + step, total)) for start in range(0, total, max(1, step)))


def _emphasize(signal: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Reflected samples (N, >= 240 + 160 T) to windows (N, T, 400) and what is left of their means (N, T, 1)."""
    # The window is zero at its first sample, so pre-emphasis may look across the window's start, and the mean of the
    # window can be taken away after it: (x - m) - 0.97 (x' - m) = x - 0.97 x' - 0.03 m.
    rest = 1.0 - _PREEMPHASIS
    sums = signal.unflatten(1, (-1, _BLOCK)).sum(2).unfold(1, _WINDOW // _BLOCK, _SHIFT // _BLOCK).sum(2)
    emphasized = torch.empty_like(signal)
    emphasized[:, 0] = 0.0
    torch.sub(signal[:, 1:], signal[:, :-1], alpha=_PREEMPHASIS, out=emphasized[:, 1:])
    return emphasized.unfold(1, _WINDOW, _SHIFT)[:, :num_frames], sums[:, :num_frames, None] * (rest / _WINDOW)


def _reflect_edges(waveforms: Tensor, lens: Tensor) -> Tensor:
    """Continue each clip as its mirror image on both sides: (N, S) to (N, >= 120 + S + 200), a multiple of 80."""
    num_clips, num_samples = waveforms.shape
    width = math.ceil((_LEAD + num_samples + _TAIL) / _BLOCK) * _BLOCK
    signal = waveforms.new_empty(num_clips, width)
    signal[:, _LEAD : _LEAD + num_samples] = waveforms
    signal[:, _LEAD + num_samples :] = 0.0
    lens = lens[:, None]
    lead = torch.arange(-_LEAD, 0, device=lens.device)
    signal[:, :_LEAD] = waveforms.gather(1, _mirror(lead.expand(num_clips, -1), lens))
    tail = lens + torch.arange(_TAIL, device=lens.device)
    return signal.scatter_(1, tail + _LEAD, waveforms.gather(1, _mirror(tail, lens)))


def _mirror(positions: Tensor, lens: Tensor) -> Tensor:
    lens = lens.clamp(min=1)
    positions = positions % (2 * lens)
    return torch.minimum(positions, 2 * lens - 1 - positions)
