# SPDX-License-Identifier: Apache-2.0
"""ScaledAdam's element-wise work for any device and type: few operations over all parameters together.

The state of all parameters lies in buffers of rows of equal width, each parameter starting on a new row (the rest of
its last row stays zero). One element-wise operation then serves hundreds of tensors, a sum per parameter is a sum per
row followed by one segmented sum, and a factor per parameter is a factor per row. Long buffers are worked through in
chunks that fit the processor's cache.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor

from icefall_alp.models.kernels import chains

ROW_WIDTH = 256  # elements
CPU_CHUNK = 1 << 20  # elements: fits the cache
DEVICE_CHUNK = 1 << 26  # elements: elsewhere few launches matter more


def kernels_suit(params: list[Tensor]) -> bool:
    """Whether the kernels of `triton_scaled_adam` know these parameters, all on one device."""
    if chains.form_for(params[0].device.type) in (chains.plain, chains.closed, chains.native):
        return False
    return all(p.dtype == torch.float32 and p.is_contiguous() for p in params)


class ScaledAdamRows:
    """State of a group's parameters and the arithmetic on it; the same calls as `ScaledAdamLoops`.

    Args:
        params: P tensors on one device.
        dtype: of the state.

    Attributes:
        exp_avg_sq, delta: the state of each parameter, in its shape, zero at first.
    """

    def __init__(self, params: list[Tensor], dtype: torch.dtype) -> None:
        device = params[0].device
        counts = [-(-p.numel() // ROW_WIDTH) for p in params]
        rows = [torch.zeros(sum(counts), ROW_WIDTH, dtype=dtype, device=device) for _ in range(2)]
        self.exp_avg_sq, self.delta = (_views(buffer, params) for buffer in rows)
        limit = (CPU_CHUNK if device.type == "cpu" else DEVICE_CHUNK) // ROW_WIDTH
        items = _groups_of_at_most(limit, counts)
        space = [rows[0].new_zeros(max(sum(counts[item]) for item in items), ROW_WIDTH) for _ in range(2)]
        starts = [0, *accumulate(sum(counts[item]) for item in items)]
        self._chunks = [
            _Chunk(params[item], item, counts[item], [buffer[start:end] for buffer in rows], space)
            for item, (start, end) in zip(items, pairwise(starts), strict=True)
        ]

    def update(
        self, grads: list[Tensor], factor: Tensor | None, inverse_size: Tensor, betas: tuple[float, float],
        eps: float, rate: float, move: bool,
    ) -> Tensor:  # fmt: skip
        """Update the state from the gradients and, if `move`, the parameters from `delta`.

        Args:
            grads: like the parameters.
            factor: () of the gradients; where it is 0 they count as zero, whatever they hold. None is 1.
            inverse_size: (P,) what the denominators are multiplied by.
            betas: decay of the gradients' first and second moment.
            eps: added to the second moment's root.
            rate: of the gradient over the denominator in `delta`.
            move: False when `grow` follows.

        Returns:
            (P,) sums of parameter times gradient.
        """
        return torch.cat(
            [
                chunk.update(grads[chunk.items], factor, inverse_size[chunk.items], betas, eps, rate, move)
                for chunk in self._chunks
            ]
        )

    def grow(self, growth: Tensor) -> None:
        """Add growth (P,) times the parameters to `delta`, and `delta` to the parameters."""
        for chunk in self._chunks:
            chunk.grow(growth[chunk.items])


class _Chunk:
    """Consecutive parameters: their rows of the state, and views shaped like them into work space that chunks share."""

    def __init__(
        self, params: list[Tensor], items: slice, counts: list[int], state: list[Tensor], space: list[Tensor]
    ) -> None:
        self.params, self.items = params, items
        self.exp_avg_sq, self.delta = state
        self.grads, self.values = (buffer[: sum(counts)] for buffer in space)
        self.lengths = torch.tensor(counts, device=self.delta.device)
        self.row_item = torch.repeat_interleave(torch.tensor(counts)).to(self.delta.device)
        self.grad_views, self.value_views = _views(self.grads, params), _views(self.values, params)
        self.delta_views = _views(self.delta, params)
        flat, ends = self.grads.view(-1), accumulate(count * ROW_WIDTH for count in counts)
        gaps = [flat[end - -p.numel() % ROW_WIDTH : end] for p, end in zip(params, ends, strict=True)]
        self.grad_gaps = [gap for gap in gaps if gap.numel()]

    def update(
        self, grads: list[Tensor], factor: Tensor | None, inverse_size: Tensor, betas: tuple[float, float],
        eps: float, rate: float, move: bool,
    ) -> Tensor:  # fmt: skip
        beta1, beta2 = betas
        torch._foreach_copy_(self.grad_views, grads)
        if self.grad_gaps:  # where the chunk before had its gradients
            torch._foreach_zero_(self.grad_gaps)
        if factor is not None:
            self.grads.mul_(factor).masked_fill_(factor == 0, 0.0)
        self.exp_avg_sq.mul_(beta2).addcmul_(self.grads, self.grads, value=1 - beta2)
        torch._foreach_copy_(self.value_views, self.params)
        products = self.values.mul_(self.grads).sum(1)
        sums = torch.segment_reduce(products, "sum", lengths=self.lengths, unsafe=True)
        denominator = torch.sqrt(self.exp_avg_sq, out=self.values).add_(eps)
        denominator.mul_(inverse_size[self.row_item].unsqueeze(1))
        self.delta.mul_(beta1).addcdiv_(self.grads, denominator, value=-rate)
        if move:
            torch._foreach_add_(self.params, self.delta_views)
        return sums

    def grow(self, growth: Tensor) -> None:
        torch._foreach_copy_(self.value_views, self.params)
        self.delta.addcmul_(self.values, growth[self.row_item].unsqueeze(1))
        torch._foreach_add_(self.params, self.delta_views)


def _groups_of_at_most(limit: int, sizes: list[int]) -> list[slice]:
    """Cut a sequence into runs whose sizes add up to at most the limit, or that hold one item."""
    starts, total = [0], 0
    for index, size in enumerate(sizes):
        if total and total + size > limit:
            starts.append(index)
            total = 0
        total += size
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(sizes)], strict=True)]


def _views(rows: Tensor, params: list[Tensor]) -> list[Tensor]:
    """Rows (num_rows, ROW_WIDTH) seen as the parameters that lie in them."""
    flat, start, views = rows.view(-1), 0, []
    for p in params:
        views.append(flat[start : start + p.numel()].view(p.shape))
        start += -(-p.numel() // ROW_WIDTH) * ROW_WIDTH
    return views
