# SPDX-License-Identifier: Apache-2.0
"""The features of `fbank` on a CPU in C (`fbank_loops.c`): a few windows side by side, in one pass."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from icefall_alp.utils.native_library import NativeLibrary

LIBRARY = NativeLibrary("fbank_loops", [Path(__file__).with_suffix(".c")], [], {"fbank": (9, 3, 0, 1)})
_POINTS = 512


def suit(waveforms: Tensor) -> bool:
    """Whether the loops reach them, and there is a compiler."""
    return waveforms.device.type == "cpu" and LIBRARY.functions is not None


class FbankLoops:
    """The loops with their tables.

    Args:
        window: (400,) float64.
        weights: (257, 80) of the filters; the last point of the spectrum is not used.
        preemphasis: share of the sample before.
        floor: of the energies.
    """

    def __init__(self, window: Tensor, weights: Tensor, preemphasis: float, floor: float) -> None:
        angles = 2 * np.pi * np.arange(_POINTS) / _POINTS
        turns = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
        used = [np.flatnonzero(column) for column in weights.numpy().T]
        packed = np.concatenate([weights.numpy()[points, k] for k, points in enumerate(used)])
        starts = np.array([(points[0], len(points)) for points in used])
        tables = (window.numpy(), turns, packed.astype(np.float64), starts, _places(), np.array([preemphasis, floor]))
        self._tables = [torch.from_numpy(np.ascontiguousarray(table)) for table in tables]

    def __call__(self, signals: Tensor, feature_lens: Tensor, features: Tensor) -> None:
        """Fill the valid frames of features (N, T, 80) from signals (N, >= 240 + 160 T), both contiguous float32."""
        num_clips, num_frames, _ = features.shape
        lens = feature_lens.to("cpu", torch.int64).contiguous()
        sizes = (num_clips, signals.shape[1], num_frames)
        LIBRARY.call("fbank", signals, lens, features, *self._tables, *sizes, torch.get_num_threads())


@cache
def _places() -> np.ndarray:
    """Where a transform of 256 points by fours leaves each: its number to base 4, read backwards."""
    digits = np.stack([np.arange(256) // 4**power % 4 for power in range(4)])
    return (digits * 4 ** np.arange(3, -1, -1)[:, None]).sum(0)
