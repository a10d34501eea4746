# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions over time and of images for a GPU, the same kernels for any number of frames and clips.

A library chooses, and may compile, something for every new shape of a batch, and batches come in many. Filters are read
in float32, under autocast too; sums are float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels.operations import count
from icefall_alp.models.kernels.triton_tiles import own_tile, programs_for

WIDTH = 64  # channels of a program
ELEMENTS, ELEMENTS_OF_IMAGES = 4096, 2048  # of its tile
PRODUCTS = 8192  # that it makes at a time for the gradients of filters
SHARE = 64  # frames of an image in one partial sum of these


@triton.jit
def convolve(
    x_at, weight_at, bias_at, y_at, rows, frames, bins, out_bins, channels, stride, before,
    HIGH: tl.constexpr, WIDE: tl.constexpr, TURNED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows (item, frame, bin) of channels; filters (HIGH * WIDE, channels), turned round and without bias if TURNED."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    line, bin = row // out_bins - HIGH // 2, row % out_bins - before
    frame = row // out_bins % frames - HIGH // 2
    near = x_at + (line.to(tl.int64) * bins + bin) * stride + column
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    if not TURNED:
        total += tl.load(bias_at + column, mask=column < channels, other=0.0).to(tl.float32)
    for high in range(HIGH):
        here = inside & (frame + high >= 0) & (frame + high < frames)
        for wide in range(WIDE):
            seen = here & (bin + wide >= 0) & (bin + wide < bins)
            x = tl.load(near + (high * bins + wide) * stride, mask=seen, other=0.0).to(tl.float32)
            tap = HIGH * WIDE - 1 - (high * WIDE + wide) if TURNED else high * WIDE + wide
            total += x * tl.load(weight_at + tap * channels + column, mask=column < channels, other=0.0).to(tl.float32)
    tl.store(y_at + start + column, total.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def filter_gradients(
    x_at, grad_at, sums_at, frames, bins, out_bins, channels, stride, before,
    HIGH: tl.constexpr, WIDE: tl.constexpr, TAPS: tl.constexpr, SHARE: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Partial sums (share, HIGH * WIDE + 1, channels) of the gradients of the filters and, last, of the bias."""
    blocks, shares = tl.cdiv(channels, BLOCK), tl.cdiv(frames, SHARE)
    share, first = tl.program_id(0) // blocks, tl.program_id(0) % blocks * BLOCK
    item, begin = (share // shares).to(tl.int64), share % shares * SHARE
    tap, row, column = tl.arange(0, TAPS)[:, None, None], tl.arange(0, ROWS)[None, :, None], tl.arange(0, BLOCK) + first
    column = column[None, None, :]
    above, left, there = tap // WIDE - HIGH // 2, tap % WIDE - before, (tap < HIGH * WIDE) & (column < channels)
    near = x_at + ((item * frames + above) * bins + row + left) * stride + column
    pulled = grad_at + (item * frames * out_bins + row) * channels + column
    rest = tl.where(tap == HIGH * WIDE, 1.0, 0.0).to(x_at.dtype.element_ty)
    total = tl.zeros((TAPS, ROWS, BLOCK), tl.float32)
    for frame in range(begin, tl.minimum(begin + SHARE, frames)):
        here = there & (frame + above >= 0) & (frame + above < frames)
        for bin in range(0, out_bins, ROWS):
            own = bin + row + left
            inside = (bin + row < out_bins) & (column < channels)
            grad = tl.load(pulled + (frame * out_bins + bin) * channels, mask=inside, other=0.0).to(tl.float32)
            seen = here & (own >= 0) & (own < bins)
            x = tl.load(near + (frame * bins + bin) * stride, mask=seen, other=rest).to(tl.float32)
            total += x * grad
    tap, column = tl.arange(0, TAPS)[:, None], (tl.arange(0, BLOCK) + first)[None, :]
    places = (share.to(tl.int64) * (HIGH * WIDE + 1) + tap) * channels + column
    tl.store(sums_at + places, tl.sum(total, 1), mask=(tap <= HIGH * WIDE) & (column < channels))


class _Depthwise(torch.autograd.Function):
    """x (N, T, F, C), whose pixels lie `stride` apart, with filters (C, 1, HIGH, WIDE).

    The number of frames stays; there are `before` bins of zeros before and behind. Time is an image of one frame.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, before: int, stride: int) -> Tensor:
        filters = weight.flatten(1).t().contiguous()
        ctx.save_for_backward(x, filters)
        ctx.size, ctx.before, ctx.stride, ctx.types = weight.shape, before, stride, (weight.dtype, bias.dtype)
        return _convolved(x, stride, filters, bias.contiguous(), weight.shape[2:], before)

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x, filters = ctx.saved_tensors
        grad, taps, grad_x = grad.to(x.dtype).contiguous(), ctx.size[2:], None
        if ctx.needs_input_grad[0]:
            grad_x = _convolved(grad, grad.shape[3], filters, None, taps, taps[1] - 1 - ctx.before)
        sums = _filter_gradients(x, ctx.stride, grad, taps, ctx.before)
        grad_weight = sums[:-1].t().reshape(ctx.size).to(ctx.types[0])
        return grad_x, grad_weight, sums[-1].to(ctx.types[1]), None, None


def _convolved(
    x: Tensor, stride: int, filters: Tensor, bias: Tensor | None, taps: tuple[int, int], before: int
) -> Tensor:
    (items, frames, bins, channels), (high, wide) = x.shape, taps
    y = torch.empty(items, frames, bins + 2 * before - wide + 1, channels, dtype=x.dtype, device=x.device)
    rows, block = y.numel() // channels, min(WIDTH, triton.next_power_of_2(channels))
    tile = {"ROWS": (ELEMENTS if high == 1 else ELEMENTS_OF_IMAGES) // block, "BLOCK": block}
    convolve[programs_for(rows, channels, tile)](
        x, filters, filters if bias is None else bias, y, rows, frames, bins, y.shape[2], channels, stride, before,
        HIGH=high, WIDE=wide, TURNED=bias is None, **tile,
    )  # fmt: skip
    count(y.numel(), high, wide)
    return y


def _filter_gradients(x: Tensor, stride: int, grad: Tensor, taps: tuple[int, int], before: int) -> Tensor:
    """Of all filters, and of the bias: (HIGH * WIDE + 1, channels)."""
    (items, frames, bins, channels), (high, wide) = x.shape, taps
    block, most = min(WIDTH, triton.next_power_of_2(channels)), triton.next_power_of_2(high * wide + 1)
    shares = items * triton.cdiv(frames, SHARE)
    sums = torch.empty(shares, high * wide + 1, channels, dtype=torch.float32, device=x.device)
    if shares:
        filter_gradients[(shares * triton.cdiv(channels, block),)](
            x, grad, sums, frames, bins, grad.shape[2], channels, stride, before,
            HIGH=high, WIDE=wide, TAPS=most, SHARE=SHARE, ROWS=PRODUCTS // (most * block), BLOCK=block, num_warps=8,
        )  # fmt: skip
    count(grad.numel(), high, wide)
    return sums.sum(0)


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:  # noqa: D103
    fits = x.dim() == weight.dim() == 3 and _fits(x, weight, bias)
    if not fits or not 0 <= padding < weight.shape[2] <= x.shape[1] + 2 * padding:
        return closed.depthwise_conv(x, weight, bias, padding)
    x = closed.rows_of(x)
    return _Depthwise.apply(x.unsqueeze(1), weight.unsqueeze(2), bias, padding, x.stride(1)).squeeze(1)


def depthwise_image_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: D103
    fits = x.dim() == weight.dim() == 4 and _fits(x, weight, bias) and min(x.shape[1:]) > 0
    if not fits or weight.shape[2] != weight.shape[3] or weight.shape[2] % 2 == 0:
        return closed.depthwise_image_conv(x, weight, bias)
    return _Depthwise.apply(x.contiguous(), weight, bias, weight.shape[2] // 2, x.shape[3])


def _fits(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """A filter for each channel, of a size whose products a program can make at once."""
    channels = x.shape[-1]
    few = channels > 0 and weight[0].numel() < PRODUCTS // WIDTH
    return few and weight.shape[:2] == (channels, 1) and bias.shape == (channels,) and x.dtype != torch.float64
