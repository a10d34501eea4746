# SPDX-License-Identifier: Apache-2.0
"""What Python tells a step of training, as numbers on the device: for steps that are recorded once and then replayed.

A replayed step runs no Python: it finds its decisions (does this regulariser look?) and the present values of schedules
in one tensor. While a step is recorded, what would have answered is kept, in order; before a replay all are asked,
in the same order, so that the same random numbers decide, and their answers are sent in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from icefall_alp.utils.transfer import send

Ask: TypeAlias = Callable[[], Sequence[float] | None]

CAPACITY = 2**16  # numbers; an encoder of the paper's size asks for some 3,000
ALIGNED = 4  # numbers: a kernel is compiled again for a pointer that is not a multiple of 16 bytes


class Panel:
    """Numbers of one recorded step.

    Args:
        device: of the step.
    """

    def __init__(self, device: torch.device) -> None:
        self._numbers = torch.zeros(CAPACITY, device=device)
        self.restart()

    def restart(self) -> None:
        """Forget what was asked: the step is recorded again."""
        self._asked: list[tuple[Ask, int]] = []
        self._used = 0

    def read(self, ask: Ask, size: int) -> Tensor:
        """Where the answers of `ask` will be found: (size,) float32, zeros where it answers None."""
        place = self._numbers.narrow(0, self._used, size)
        width = -(-size // ALIGNED) * ALIGNED
        self._asked.append((ask, width))
        self._used += width
        return place

    def refresh(self) -> None:
        """Ask again, and let the device have the answers before what it does next."""
        answers: list[float] = []
        for ask, width in self._asked:
            answer = tuple(ask() or ())
            answers += answer + (0.0,) * (width - len(answer))
        self._numbers[: self._used].copy_(send(torch.tensor(answers), self._numbers.device))
