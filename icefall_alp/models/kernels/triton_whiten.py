# SPDX-License-Identifier: Apache-2.0
"""The gradient of Whiten on a GPU in Triton: one pass over the activations judges them, a second one corrects.

Everything between the two is made of matrices as wide as a group of channels. Activations in 16 bits lose nothing
when tensor cores multiply them as TF32, the second pass's matrix is rounded to their type first; float32 is multiplied
in three parts, nearly as exactly as by its own units.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from icefall_alp.models.kernels import closed_modifiers
from icefall_alp.models.kernels.operations import count
from icefall_alp.models.kernels.plain import TINY, Number

TILE = {"tf32": 64, "tf32x3": 32, "ieee": 32}  # rows and columns that a program multiplies at once
SHARE = 4096  # rows that one program sums over
ROUNDING = 1e-6  # of sums, relative


@triton.jit
def scatter(
    x_at, scale_at, sums_at, products_at, rows, channels, size,
    SHARE: tl.constexpr, LIVE: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of a share of the rows, sums of channels and of the products of two blocks of channels of one group."""
    if LIVE:
        rows = tl.where(tl.load(scale_at) != 0.0, rows, 0)
    blocks, share = tl.cdiv(size, BLOCK), tl.program_id(0)
    pair = tl.program_id(1) % (blocks * blocks)
    first, step = tl.program_id(1) // (blocks * blocks) * size, tl.arange(0, BLOCK)
    high, wide = pair // blocks * BLOCK + step, pair % blocks * BLOCK + step
    products = tl.zeros((BLOCK, BLOCK), tl.float32)
    sums = tl.zeros((BLOCK,), tl.float32)
    for begin in range(share * SHARE, min(share * SHARE + SHARE, rows), ROWS):
        row = begin + tl.arange(0, ROWS)
        start = x_at + row.to(tl.int64) * channels + first
        above, aside = (row < rows)[None, :] & (high < size)[:, None], (row < rows)[:, None] & (wide < size)[None, :]
        left = tl.load(start[None, :] + high[:, None], mask=above, other=0.0).to(tl.float32)
        right = tl.load(start[:, None] + wide[None, :], mask=aside, other=0.0).to(tl.float32)
        products = tl.dot(left, right, products, input_precision=PRECISION)
        sums += tl.sum(right, 0)
    line = (share.to(tl.int64) * channels + first + high) * size
    tl.store(
        products_at + line[:, None] + wide[None, :], products, mask=(high < size)[:, None] & (wide < size)[None, :]
    )
    tl.store(sums_at + share.to(tl.int64) * channels + first + wide, sums, mask=(wide < size) & (pair < blocks))


@triton.jit
def correct(
    x_at, grad_at, matrix_at, moved_at, scale_at, out_at, rows, channels, size,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """grad + scale (x matrix - moved / rows) of some rows and a block of channels; without scale x is not read."""
    blocks, step = tl.cdiv(size, BLOCK), tl.arange(0, BLOCK)
    first, wide = tl.program_id(1) // blocks * size, tl.program_id(1) % blocks * BLOCK + step
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    start = row.to(tl.int64) * channels + first
    here = (row < rows)[:, None] & (wide < size)[None, :]
    out = tl.load(grad_at + start[:, None] + wide[None, :], mask=here, other=0.0).to(tl.float32)
    scale = tl.load(scale_at)
    if scale != 0.0:
        direction = tl.zeros((ROWS, BLOCK), tl.float32)
        for begin in range(0, size, BLOCK):
            high = begin + step
            known, places = (
                (row < rows)[:, None] & (high < size)[None, :],
                ((first + high) * size)[:, None] + wide[None, :],
            )
            left = tl.load(x_at + start[:, None] + high[None, :], mask=known, other=0.0).to(tl.float32)
            right = tl.load(matrix_at + places, mask=(high < size)[:, None] & (wide < size)[None, :], other=0.0)
            direction = tl.dot(left, right, direction, input_precision=PRECISION)
        moved = tl.load(moved_at + first + wide, mask=wide < size, other=0.0)
        out += scale * (direction - (moved / rows)[None, :])
    tl.store(out_at + start[:, None] + wide[None, :], out.to(out_at.dtype.element_ty), mask=here)


def whiten_gradient(
    x: Tensor, grad: Tensor, num_groups: int, limit: Number, grad_scale: Number
) -> tuple[Tensor, Tensor]:
    """As `plain.whiten_gradient`; the length of the step follows from the scatter, without making the step.

    What differs by no more than the sums' rounding (all rows the same) is not judged, and where the metric cannot
    grow (a single direction) the step is as long as plain's or shorter.
    """
    if x.numel() == 0 or torch.float64 in (x.dtype, grad.dtype):
        return closed_modifiers.whiten_gradient(x, grad, num_groups, limit, grad_scale)
    x, grad, rows = x.contiguous(), grad.contiguous(), x.numel() // x.shape[-1]
    with torch.autocast(x.device.type, enabled=False):  # backward may be called within
        sums, products = _sums(x, rows, num_groups, grad_scale)
        matrix, length, violated = _judged(products, sums, rows, limit, x.dtype)
        norm = torch.linalg.vector_norm(grad, dtype=torch.float32)
        scale = torch.where(violated, grad_scale * norm / (length + TINY), 0)
        return _corrected(x, grad, matrix, sums, scale), violated


def _judged(
    products: Tensor, sums: Tensor, rows: int, limit: Number, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The matrix of the step, rounded to `dtype`; the length of (x - mean) matrix; whether the limit was reached."""
    scattered = torch.baddbmm(products, sums.transpose(1, 2), sums, alpha=-1 / rows)
    mean_diag = scattered.diagonal(dim1=1, dim2=2).sum().abs() / sums.numel()
    rounding = ROUNDING * products.diagonal(dim1=1, dim2=2).sum()
    scattered = scattered / (mean_diag + TINY)  # no larger than the channels: it fits 16 bits, and its cube 32
    metric = scattered.square().sum() / sums.numel()
    violated = (metric >= limit) & (mean_diag * sums.numel() > rounding)
    matrix = scattered.clone()
    matrix.diagonal(dim1=1, dim2=2).sub_(metric)
    matrix = matrix.to(dtype).float()  # TF32 rounds no more
    square = mean_diag * torch.dot(matrix.flatten(), (scattered @ matrix).flatten())
    return matrix, torch.maximum(square, ROUNDING * rounding * matrix.square().sum()).sqrt(), violated


def _sums(x: Tensor, rows: int, num_groups: int, scale: Number) -> tuple[Tensor, Tensor]:
    """Of each channel (num_groups, 1, size) and of the products of two of a group (num_groups, size, size).

    Activations are not read where `scale` is a number on the device and 0.
    """
    (size, tile), shares = _sizes(x, num_groups), triton.cdiv(rows, SHARE)
    sums = torch.empty(shares, x.shape[-1], dtype=torch.float32, device=x.device)
    products = torch.empty(shares, num_groups, size, size, dtype=torch.float32, device=x.device)
    count(rows, x.shape[-1], size)  # correcting is not counted: the device decides
    pairs = num_groups * triton.cdiv(size, tile["BLOCK"]) ** 2
    live = isinstance(scale, Tensor)
    told = scale if live else sums
    scatter[(shares, pairs)](x, told, sums, products, rows, x.shape[-1], size, SHARE=SHARE, LIVE=live, **tile)
    return sums.sum(0).view(num_groups, 1, size), products.sum(0)


def _corrected(x: Tensor, grad: Tensor, matrix: Tensor, sums: Tensor, scale: Tensor) -> Tensor:
    (size, tile), rows = _sizes(x, len(matrix)), x.numel() // x.shape[-1]
    out = torch.empty_like(grad)
    programs = (triton.cdiv(rows, tile["ROWS"]), len(matrix) * triton.cdiv(size, tile["BLOCK"]))
    correct[programs](x, grad, matrix, sums @ matrix, scale, out, rows, x.shape[-1], size, **tile)
    return out


def _sizes(x: Tensor, num_groups: int) -> tuple[int, dict[str, int]]:
    """Channels of a group, and how its products are made: a tile takes at least 16."""
    size, precision = x.shape[-1] // num_groups, "tf32" if x.element_size() == 2 else "tf32x3"
    precision = "ieee" if torch.version.hip else precision  # AMD's have no TF32
    block = max(16, min(TILE[precision], triton.next_power_of_2(size)))
    return size, {"PRECISION": precision, "ROWS": TILE[precision], "BLOCK": block}
