# SPDX-License-Identifier: Apache-2.0
"""The gradient of a Balancer on a GPU in Triton: sums of every channel, the line made of them, and what it adds.

Settings are numbers, or lie on the device: then activations are read only if the share is not 0.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from icefall_alp.models.kernels import plain
from icefall_alp.models.kernels.plain import Numbers
from icefall_alp.models.kernels.triton_tiles import STEPS, own_share, own_tile, programs_for, sizes_of, tile_for

TINY = tl.constexpr(plain.TINY)


@triton.jit
def moments(
    x_at, settings_at, sums_at, squares_at, rows, channels,
    STEPS: tl.constexpr, LIVE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some rows' sum and sum of squares of a block of channels, to be summed in order."""
    column = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    if LIVE:
        rows = tl.where(tl.load(settings_at + 4) != 0.0, rows, 0)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    squares = tl.zeros((ROWS, BLOCK), tl.float32)
    for step in range(STEPS):
        row = own_share(step, STEPS, ROWS)
        inside = (row < rows) & (column < channels)
        x = tl.load(x_at + row.to(tl.int64) * channels + column, mask=inside, other=0.0).to(tl.float32)
        total += x
        squares += x * x
    place = tl.program_id(0).to(tl.int64) * channels + column
    tl.store(sums_at + place, tl.sum(total, 0)[None, :], mask=column < channels)
    tl.store(squares_at + place, tl.sum(squares, 0)[None, :], mask=column < channels)


@triton.jit
def _outside(value, low, high):
    """1 above the interval, -1 below, 0 inside."""
    return tl.where(value > high, 1.0, 0.0) - tl.where(value < low, 1.0, 0.0)


@triton.jit
def line_from_moments(
    sums_at, settings_at, line_at, rows, channels, low_mean, high_mean, low_rms, high_rms, grad_scale,
    LIVE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of each channel the intercept, then the slope, from its sum, then that of squares: `closed_modifiers`."""
    if LIVE:
        low_mean, high_mean = tl.load(settings_at), tl.load(settings_at + 1)
        low_rms, high_rms = tl.load(settings_at + 2), tl.load(settings_at + 3)
        grad_scale = tl.load(settings_at + 4)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mean = tl.load(sums_at + column, mask=column < channels, other=0.0) / rows
    square = tl.load(sums_at + channels + column, mask=column < channels, other=0.0) / rows
    raw_var = square - mean * mean
    var = tl.maximum(raw_var, TINY)
    std = tl.sqrt(var)
    side = _outside(mean / std, low_mean, high_mean) / std
    bend = tl.where(raw_var > TINY, side * mean / var, 0.0)
    floored = tl.maximum(square, TINY)
    size = tl.where(square > TINY, _outside(tl.sqrt(floored), low_rms, high_rms) / floored, 0.0)
    intercept, slope = side + bend * mean, size - bend
    middle = intercept + slope * mean
    loss_rms = tl.sqrt(middle * middle + slope * slope * tl.maximum(raw_var, 0.0))
    scale = grad_scale / tl.maximum(loss_rms, TINY)
    tl.store(line_at + column, intercept * scale, mask=column < channels)
    tl.store(line_at + channels + column, slope * scale, mask=column < channels)


@triton.jit
def add_line(
    x_at, grad_at, settings_at, line_at, out_at, rows, channels,
    LIVE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """grad + |grad| (intercept + slope x), the line of each channel."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    read = rows
    if LIVE:
        read = tl.where(tl.load(settings_at + 4) != 0.0, rows, 0)
    x = tl.load(x_at + start + column, mask=inside & (row < read), other=0.0).to(tl.float32)
    grad = tl.load(grad_at + start + column, mask=inside, other=0.0).to(tl.float32)
    line = tl.load(line_at + column, mask=column < channels, other=0.0)
    line += x * tl.load(line_at + channels + column, mask=column < channels, other=0.0)
    tl.store(out_at + start + column, (grad + tl.abs(grad) * line).to(out_at.dtype.element_ty), mask=inside)


def balancer_gradient(x: Tensor, grad: Tensor, settings: Numbers, dim: int) -> Tensor:
    """Kernels for the sums of every channel, the line made of them, and what it adds.

    Where the settings are on the device kernels read them there, and activations only if the share is not 0.
    """
    laid = x.movedim(dim, -1).contiguous()
    (rows, channels), tile = sizes_of(laid), tile_for(laid.shape[-1])
    blocks = (triton.cdiv(channels, tile["BLOCK"]),)
    num_programs = max(1, triton.cdiv(rows, STEPS * tile["ROWS"]))
    shares = torch.empty(2, num_programs, channels, dtype=torch.float32, device=x.device)
    live = isinstance(settings, Tensor)
    told, numbers = (settings, (0.0,) * 5) if live else (shares, settings)
    moments[(num_programs, *blocks)](laid, told, *shares, rows, channels, STEPS=STEPS, LIVE=live, **tile)
    sums = shares.sum(1)
    line = torch.empty_like(sums)
    line_from_moments[blocks](
        sums, told, line, max(1, rows), channels, *numbers, LIVE=live, ROWS=1, BLOCK=tile["BLOCK"]
    )
    out = torch.empty_like(laid, dtype=grad.dtype)
    add_line[programs_for(rows, channels, tile)](
        laid, grad.movedim(dim, -1).contiguous(), told, line, out, rows, channels, LIVE=live, **tile
    )
    return out.movedim(-1, dim)
