# SPDX-License-Identifier: Apache-2.0
"""ScaledAdam's element-wise work on a GPU in Triton: one pass over memory, two in a step that changes sizes.

Parameters and gradients are read and written where they lie: the kernels find them in tables of addresses. A program
works on a piece of one parameter; the sums of the pieces are added in order.
"""

from __future__ import annotations

from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from icefall_alp.models.kernels.scaled_adam_rows import kernels_suit
from icefall_alp.utils.transfer import send

PIECE = 1024  # elements: of one program
# Triton would give a thread four neighbours if it knew that the state lies at multiples of 16 bytes; of what a table
# names it knows nothing and loads elements one by one, which is fast only where neighbours are for other threads.
STATE = ["exp_avg_sq_at", "delta_at"]


@triton.jit
def _piece(pieces_at, PIECE: tl.constexpr):
    """Which parameter, this program's elements in it and in the state, and which of them are there."""
    program, step = tl.program_id(0).to(tl.int64), tl.arange(0, PIECE)
    item = tl.load(pieces_at + 3 * program)
    first = tl.load(pieces_at + 3 * program + 1)
    size = tl.load(pieces_at + 3 * program + 2)
    return item, first + step, program * PIECE + step, step < size


@triton.jit
def _tensor(addresses_at, item):
    """One of the float32 tensors in a table."""
    return tl.load(addresses_at + item).to(tl.pointer_type(tl.float32))


@triton.jit(do_not_specialize_on_alignment=STATE)
def update_pieces(
    pieces_at, params_at, grads_at, exp_avg_sq_at, delta_at, factor_at, inverse_size_at, sums_at,
    beta1, beta2, rest2, eps, rate, MOVE: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """`ScaledAdamRows.update` of each piece; where the factor is 0 gradients, which may be NaN, are not even read."""
    item, place, state, inside = _piece(pieces_at, PIECE)
    inverse_size = tl.load(inverse_size_at + item)
    factor = tl.where(inside, tl.load(factor_at), 0.0)
    square = tl.load(exp_avg_sq_at + state, mask=inside, other=0.0)
    delta = tl.load(delta_at + state, mask=inside, other=0.0)
    param_at = _tensor(params_at, item) + place
    param = tl.load(param_at, mask=inside, other=0.0)
    grad = factor * tl.load(_tensor(grads_at, item) + place, mask=factor != 0.0, other=0.0)
    square = square * beta2 + rest2 * (grad * grad)
    delta = delta * beta1 - rate * grad / ((tl.sqrt(square) + eps) * inverse_size)
    tl.store(exp_avg_sq_at + state, square, mask=inside)
    tl.store(delta_at + state, delta, mask=inside)
    if MOVE:
        tl.store(param_at, param + delta, mask=inside)
    tl.store(sums_at + tl.program_id(0), tl.sum(param * grad))


@triton.jit(do_not_specialize_on_alignment=STATE)
def grow_pieces(pieces_at, params_at, delta_at, growth_at, PIECE: tl.constexpr):
    """`ScaledAdamRows.grow` of each piece."""
    item, place, state, inside = _piece(pieces_at, PIECE)
    param_at = _tensor(params_at, item) + place
    param = tl.load(param_at, mask=inside, other=0.0)
    delta = tl.load(delta_at + state, mask=inside, other=0.0) + param * tl.load(growth_at + item)
    tl.store(delta_at + state, delta, mask=inside)
    tl.store(param_at, param + delta, mask=inside)


class ScaledAdamKernels:
    """State of a group's parameters and the kernels over it; the same calls as `ScaledAdamRows`, which describes them.

    Args:
        params: P float32 tensors on one device.

    Attributes:
        exp_avg_sq, delta: the state of each parameter, in its shape, zero at first.
    """

    def __init__(self, params: list[Tensor]) -> None:
        self._device = params[0].device
        counts = [-(-p.numel() // PIECE) for p in params]
        starts = [0, *accumulate(count * PIECE for count in counts)]
        size = starts.pop()
        self._state = [torch.zeros(size, dtype=torch.float32, device=self._device) for _ in range(2)]
        self.exp_avg_sq, self.delta = (
            [flat[start : start + p.numel()].view(p.shape) for start, p in zip(starts, params, strict=True)]
            for flat in self._state
        )
        self._pieces = self._table(
            [
                (index, first, min(PIECE, p.numel() - first))
                for index, p in enumerate(params)
                for first in range(0, p.numel(), PIECE)
            ]
        )
        self._num_pieces = self._table(counts)
        self._params, self._addresses = params, []

    def update(
        self, grads: list[Tensor], factor: Tensor | None, inverse_size: Tensor, betas: tuple[float, float],
        eps: float, rate: float, move: bool,
    ) -> Tensor:  # fmt: skip
        """See `ScaledAdamRows.update`; the same bits each time."""
        grads = [grad.contiguous() for grad in grads]
        factor = torch.ones_like(inverse_size[:1]) if factor is None else factor
        sums = inverse_size.new_empty(len(self._pieces))
        beta1, beta2 = betas
        update_pieces[(len(sums),)](
            self._pieces, self._params_table(), self._table(_addresses(grads)), *self._state, factor, inverse_size,
            sums, beta1, beta2, 1 - beta2, eps, rate, MOVE=move, PIECE=PIECE,
        )  # fmt: skip
        return torch.segment_reduce(sums, "sum", lengths=self._num_pieces, unsafe=True)

    def grow(self, growth: Tensor) -> None:
        """See `ScaledAdamRows.grow`."""
        grow_pieces[(len(self._pieces),)](self._pieces, self._params_table(), self._state[1], growth, PIECE=PIECE)

    def _params_table(self) -> Tensor:
        """Their addresses (P,), sent again when they have moved."""
        addresses = _addresses(self._params)
        if addresses != self._addresses:
            if not kernels_suit(self._params) or self._params[0].device != self._device:
                raise RuntimeError("parameters changed their type, layout or device: make a new optimizer")
            self._addresses, self._sent = addresses, self._table(addresses)
        torch.autograd.graph.increment_version(self._params)  # as PyTorch's own operations do when they write
        return self._sent

    def _table(self, numbers: list) -> Tensor:
        return send(torch.tensor(numbers, dtype=torch.int64, device="cpu"), self._device)


def _addresses(tensors: list[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
