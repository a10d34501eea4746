# SPDX-License-Identifier: Apache-2.0
"""Rows of all processes together, with gradients that find their way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from icefall_alp.utils.distributed import all_reduce_sum, gather_blocks, rank, world_size


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Concatenate the rows of all processes and let gradients flow back to where each row came from.

    Args:
        tensor: (n, ...) floating point; n may differ between processes and be 0, the rest must agree.

    Returns:
        (sum of n, ...), rows ordered by rank. Backward sums the gradients of every process and returns this
        process's rows: exact when the loss of the whole is the sum of the processes' losses.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        blocks = gather_blocks(tensor)
        ctx.start = sum(len(block) for block in blocks[: rank()])
        ctx.length = len(tensor)
        return torch.cat(blocks)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce_sum(gradient.contiguous())[ctx.start : ctx.start + ctx.length]
