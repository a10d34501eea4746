# SPDX-License-Identifier: Apache-2.0
"""Values that change with training time: piecewise-linear schedules read from one shared clock.

A schedule is used only in training mode and once the clock has been set; otherwise its default is.
Nothing here enters the state dict.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
from torch import nn

from icefall_alp.models.kernels.plain import Numbers
from icefall_alp.models.zipformer.clock import Clock


@dataclass(frozen=True, eq=False)
class Schedule:
    """Linear interpolation between `points` (batch count, value), constant outside of them.

    `schedule` gives one object for the same points, whose value at a batch count is computed once for all modules.
    Equal is only a schedule and itself.

    Attributes:
        points: pairs with increasing batch counts.
        default: the value in eval mode, and in training before the first batch count is set.
    """

    points: tuple[tuple[float, float], ...]
    default: float = 0.0

    @lru_cache(maxsize=4096)  # noqa: B019  (it may keep some thousand schedules)
    def at(self, batch_count: float) -> float:
        """Value of the schedule at `batch_count`."""
        return float(np.interp(batch_count, *zip(*self.points, strict=True)))


Scheduled: TypeAlias = Schedule | float


class ScheduledModule(nn.Module):
    """A module with scheduled values; all modules of an encoder share the clock that `attach_clock` gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()

    def now(self, value: Scheduled) -> float:
        """Present value of a schedule (a plain number stays what it is)."""
        if not isinstance(value, Schedule):
            return value
        if not self.training or self.clock.batch_count is None:
            return value.default
        return value.at(self.clock.batch_count)

    def rates(self, *values: Scheduled) -> Numbers:
        """`now` of each; in a recorded step on the device."""
        return self.clock.per_step(lambda: [self.now(value) for value in values], len(values))


@cache
def schedule(*points: tuple[float, float], default: float = 0.0) -> Schedule:
    """Short form of `Schedule` for tables of constants."""
    return Schedule(points, default)


def attach_clock(root: nn.Module, clock: Clock) -> None:
    """Let every scheduled module below `root` read the same clock."""
    for module in root.modules():
        if isinstance(module, ScheduledModule):
            module.clock = clock
