# SPDX-License-Identifier: Apache-2.0
"""ScaledAdam's element-wise work on a CPU in C: one pass over memory, two in a step that changes sizes."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from icefall_alp.models.kernels import chains, native
from icefall_alp.models.kernels.native_library import call

PIECE = 1 << 14  # elements: a turn of a thread
ALIGNMENT = 16  # elements
FLOAT32 = {"dtype": torch.float32, "device": "cpu"}  # whatever the defaults are


def loops_suit(params: list[Tensor]) -> bool:
    """Whether the loops know these parameters, all on one device."""
    if chains.form_for(params[0].device.type) is not native:
        return False
    return all(p.is_cpu and p.dtype == torch.float32 and p.is_contiguous() for p in params)


class ScaledAdamLoops:
    """State of a group's parameters and the loops over it; the same calls as `ScaledAdamRows`, which describes them.

    Args:
        params: P float32 tensors.

    Attributes:
        exp_avg_sq, delta: the state of each parameter, in its shape, zero at first.
    """

    def __init__(self, params: list[Tensor]) -> None:
        numels = [p.numel() for p in params]
        starts = [0, *accumulate(numel + -numel % ALIGNMENT for numel in numels)]
        self._params = params
        size = starts.pop()
        self._state = [torch.zeros(size, **FLOAT32) for _ in range(2)]
        self.exp_avg_sq, self.delta = (
            [flat[start : start + p.numel()].view(p.shape) for start, p in zip(starts, params, strict=True)]
            for flat in self._state
        )
        self._pieces = torch.tensor(
            [
                (index, first, min(PIECE, numel - first), start + first)
                for index, (numel, start) in enumerate(zip(numels, starts, strict=True))
                for first in range(0, numel, PIECE)
            ],
            device="cpu",
        )
        self._num_pieces = torch.tensor([-(-numel // PIECE) for numel in numels], device="cpu")

    def update(
        self, grads: list[Tensor], factor: Tensor | None, inverse_size: Tensor, betas: tuple[float, float],
        eps: float, rate: float, move: bool,
    ) -> Tensor:  # fmt: skip
        """See `ScaledAdamRows.update`; the sums are the same for any number of threads."""
        grads = [grad.contiguous() for grad in grads]
        sums = torch.empty(len(self._pieces), **FLOAT32)
        beta1, beta2 = betas
        call(
            "scaled_adam", None, self._pieces, self._addresses(), _addresses(grads), *self._state, inverse_size, sums,
            len(sums), 1.0 if factor is None else float(factor), beta2, 1 - beta2, eps, beta1, rate, move,
        )  # fmt: skip
        return torch.segment_reduce(sums, "sum", lengths=self._num_pieces, unsafe=True)

    def grow(self, growth: Tensor) -> None:
        """See `ScaledAdamRows.grow`."""
        call("scaled_adam_grow", None, self._pieces, self._addresses(), self._state[1], growth, len(self._pieces))

    def _addresses(self) -> Tensor:
        if not loops_suit(self._params):
            raise RuntimeError("parameters changed their type or layout after the first step: make a new optimizer")
        torch.autograd.graph.increment_version(self._params)  # as PyTorch's own operations do when they write
        return _addresses(self._params)


def _addresses(tensors: list[Tensor]) -> Tensor:
    return torch.tensor([tensor.data_ptr() for tensor in tensors], device="cpu")
