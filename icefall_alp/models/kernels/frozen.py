# SPDX-License-Identifier: Apache-2.0
"""Weights that do not change for a while: what products in C make of them is kept."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn

PANEL = 48  # columns of a weight that loops in C turn over together, at most
_active: FrozenWeights | None = None


class FrozenWeights:
    """Context within which no parameter changes; entered again, it still has what was made of them.

    On a CPU the loops in C then turn weights over once instead of in every call, for as much memory again. Elsewhere,
    and in half precision, it changes nothing. A parameter that PyTorch's operations changed all the same is noticed.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[Tensor, tuple[Tensor, ...], list[tuple[int, int]]]] = {}
        self._before: list[FrozenWeights | None] = []

    def __enter__(self) -> FrozenWeights:
        global _active
        self._before.append(_active)
        _active = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        global _active
        _active = self._before.pop()

    def panels(self, weights: tuple[Tensor, ...]) -> tuple[Tensor, bool]:
        """Memory for weights (n, depth) of one operation turned over, and whether it is filled already."""
        key = tuple(map(id, weights))  # nobody else's while they are kept too
        states = [(weight._version, weight.data_ptr()) for weight in weights]
        panels, _, filled_from = self._kept.get(key, (None, None, None))
        if filled_from != states:
            panels = torch.empty(sum((weight.shape[0] + PANEL) * weight.shape[1] for weight in weights))
            self._kept[key] = panels, weights, states
        return panels, filled_from == states


def kept_panels(*weights: Tensor) -> tuple[Tensor | None, bool]:
    """`FrozenWeights.panels` for parameters in such a context; otherwise nothing is kept."""
    if _active is None or not all(isinstance(weight, nn.Parameter) for weight in weights):
        return None, False
    return _active.panels(weights)
