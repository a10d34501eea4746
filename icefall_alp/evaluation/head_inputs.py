# SPDX-License-Identifier: Apache-2.0
"""What heads are given, on the device: frames or clip means whose channels have mean 0 and deviation 1."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from icefall_alp.models.pooling import valid_frames
from icefall_alp.utils import distributed
from icefall_alp.utils.transfer import send


class Statistics(NamedTuple):
    """Of each channel, float32 on the device: mean (C,) and deviation (C,)."""

    mean: Tensor
    deviation: Tensor


def bounded(deviation: Tensor) -> Tensor:
    """A channel that hardly varies gets a thousandth of the usual deviation: it cannot grow out of bounds elsewhere."""
    return deviation.clamp(min=max(1e-3 * float(deviation.mean()), 1e-6)).float()


def channel_statistics(mean: Tensor, deviation: Tensor) -> Statistics:
    """From mean (C,) and deviation (C,) of what a head is trained on, both in float64 on the CPU."""
    place = distributed.device()
    return Statistics(send(mean.float(), place), send(bounded(deviation), place))


def standardized(values: Tensor, statistics: Statistics) -> Tensor:
    """Values (..., C) less the mean, divided by the deviation."""
    return (values - statistics.mean) / statistics.deviation


def in_a_row(frames: Tensor, lens: Tensor) -> Tensor:
    """Frames (n, T, C) on the device without their padding: (M, C).

    Lens (n,) are those on the CPU, so that nothing has to be waited for.
    """
    rows = valid_frames(lens, frames.shape[1]).flatten().nonzero()[:, 0]
    return frames.flatten(0, 1)[send(rows, frames.device)]
