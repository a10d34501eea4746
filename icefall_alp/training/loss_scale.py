# SPDX-License-Identifier: Apache-2.0
"""Factor on the loss under float16, so that small gradients do not vanish: halved after an overflow, doubled again
after a while without one. Other precisions need none: their factor is 1 for ever.
"""

from __future__ import annotations

START, GROWTH_STEPS = 2.0**16, 1000
LARGEST = 2.0**24


class LossScale:
    """The present factor, always a power of two, so that multiplying and dividing by it loses nothing.

    Args:
        precision: of the configuration: float32, bfloat16 or float16.
    """

    def __init__(self, precision: str) -> None:
        self.is_needed = precision == "float16"
        self.value = START if self.is_needed else 1.0
        self.num_good = 0

    def update(self, is_finite: bool) -> None:
        """Adapt after a step whose loss and gradients were finite, or not."""
        if not self.is_needed:
            return
        self.num_good = self.num_good + 1 if is_finite else 0
        if not is_finite:
            self.value /= 2
        elif self.num_good % GROWTH_STEPS == 0:
            self.value = min(LARGEST, 2 * self.value)

    def state(self) -> list[float]:
        """For checkpoints."""
        return [self.value, self.num_good]

    def set_state(self, state: list[float]) -> None:
        """Continue from `state`."""
        self.value, self.num_good = float(state[0]), int(state[1])
