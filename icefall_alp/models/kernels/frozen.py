# SPDX-License-Identifier: Apache-2.0
"""Weights that do not change for a while: what products in C make of them is kept."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn

PANEL = 48  # columns of a weight that loops in C turn over together, at most
_entered = threading.local()


@dataclass
class Panels:
    """Weights (n, depth) of one operation, turned over.

    Attributes:
        space: memory for them, float32; None where they are not kept.
        filled: whether they are there; who calls a loop sets it afterwards.
        weights: what they are made of, and so the memory that must not become another weight's.
        states: by which a change is noticed.
    """

    space: Tensor | None = None
    filled: bool = False
    weights: tuple[Tensor, ...] = ()
    states: tuple[tuple[int, ...], ...] = ()


class FrozenWeights:
    """Context, of the thread that enters it, within which no parameter may change; entered again, it still has all.

    On a CPU the loops in C then turn a weight that is a parameter over once instead of in every call, for as much
    memory again, until the object goes. Elsewhere, and in half precision, it changes nothing. A change that raises a
    parameter's version or moves it is noticed all the same; one through `.data` is not.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], Panels] = {}

    def __enter__(self) -> FrozenWeights:
        _entered.contexts = [*getattr(_entered, "contexts", ()), self]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _entered.contexts = _entered.contexts[:-1]

    def panels(self, parameters: tuple[nn.Parameter, ...]) -> Panels:
        """Of the weights of one operation."""
        key = tuple(map(id, parameters))
        states = tuple((weight._version, weight.data_ptr(), *weight.stride()) for weight in parameters)
        kept = self._kept.get(key)
        if kept is None or kept.states != states:
            numbers = sum((weight.shape[0] + PANEL) * weight.shape[1] for weight in parameters)
            space = torch.empty(numbers, dtype=torch.float32, device="cpu")
            # with the parameters themselves, whose ids are then nobody else's, and their present memory
            kept = Panels(space, False, (*parameters, *(weight.detach() for weight in parameters)), states)
            self._kept[key] = kept
        return kept


def panels_of(*weights: Tensor) -> Panels:
    """`FrozenWeights.panels` for parameters in such a context; elsewhere nothing is kept."""
    contexts = getattr(_entered, "contexts", None)
    if not contexts or not all(isinstance(weight, nn.Parameter) and not weight.is_inference() for weight in weights):
        return Panels()
    return contexts[-1].panels(weights)
