# SPDX-License-Identifier: Apache-2.0
"""Convolutions of `native`: depthwise ones over time and of images, and those of images of few channels."""

from __future__ import annotations

import torch
from torch import Tensor

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels.native_library import call
from icefall_alp.models.kernels.native_products import all_float32, float32, known, rows_of
from icefall_alp.models.kernels.operations import count

FEW = 16  # channels
TAPS = 7  # of a depthwise filter of images, as in cpu_depthwise.c
AREA = 32  # frames of one partial sum there


class _DepthwiseConv(torch.autograd.Function):
    """Weight and bias are read in float32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        x, weight = rows_of(x), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _slide(x, weight, bias.contiguous(), padding)

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        items, frames, channels = x.shape
        taps = weight.shape[-1]
        grad = grad.contiguous()
        grad_x = _slide(grad, weight, None, taps - 1 - ctx.padding) if ctx.needs_input_grad[0] else None
        shares = torch.empty(items, taps, channels, device=x.device)
        call(
            "depthwise_conv_backward", x, grad, x, shares, items, frames, channels, x.stride(1), taps, ctx.padding
        )  # fmt: skip
        count(grad.numel(), taps)
        return grad_x, shares.sum(0).t().unsqueeze(1), grad.float().sum((0, 1)), None


def _slide(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """The convolution, or without a bias that of its gradient: the taps the other way round."""
    x = rows_of(x)
    (items, frames, channels), taps = x.shape, weight.shape[-1]
    y = x.new_empty(items, frames + 2 * padding - taps + 1, channels)
    sizes = (items, frames, channels, x.stride(1), taps, padding)
    call("depthwise_conv", x, x, weight, bias, y, *sizes, bias is None)
    count(y.numel(), taps)
    return y


class _DepthwiseImageConv(torch.autograd.Function):
    """Weight and bias are read in float32; the result has the type of x, under autocast too."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        return _slide_image(x, weight, bias.contiguous())

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        items, frames, bins, channels = x.shape
        grad = grad.to(x.dtype).contiguous()
        grad_x = _slide_image(grad, weight, None) if ctx.needs_input_grad[0] else None
        shares = torch.empty(items, -(-frames // AREA), TAPS * TAPS + 1, channels, device=x.device)
        call("depthwise_image_conv_backward", x, grad, x, shares, items, frames, bins, channels)
        count(x.numel(), TAPS, TAPS)
        sums = shares.sum((0, 1))
        return grad_x, sums[:-1].t().reshape(weight.shape), sums[-1]


def _slide_image(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `_slide`."""
    y = torch.empty_like(x)
    call("depthwise_image_conv", x, x, weight, bias, y, *x.shape, bias is None)
    count(x.numel(), TAPS, TAPS)
    return y


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:  # noqa: D103
    channels = x.shape[-1]
    fits = x.dim() == weight.dim() == 3 and weight.shape[:2] == (channels, 1) and bias.shape == (channels,) != (0,)
    fits = fits and 0 <= padding < weight.shape[-1] <= x.shape[1] + 2 * padding
    if not (fits and known(x) and float32(weight, bias)):
        return closed.depthwise_conv(x, weight, bias, padding)
    return closed.run(_DepthwiseConv, x, weight, bias, padding)


def depthwise_image_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: D103
    channels = x.shape[-1]
    fits = x.dim() == 4 and weight.shape == (channels, 1, TAPS, TAPS) and bias.shape == (channels,)
    fits = fits and min(x.shape[1:]) > 0
    if not (fits and known(x) and float32(weight, bias)):
        return closed.depthwise_image_conv(x, weight, bias)
    return closed.run(_DepthwiseImageConv, x, weight, bias)


def image_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Without a graph, to few channels in float32; elsewhere a library is as fast."""
    few = weight.shape[1:] == (x.shape[1], 3, 3) and 0 < weight.shape[0] <= FEW and bias.shape == weight.shape[:1]
    size = [(n + 2 * p - 3) // s + 1 for n, p, s in zip(x.shape[2:], padding, stride, strict=True)]
    fits = few and padding[0] == 0 and min(size) > 0 and all_float32(x, weight, bias)
    if torch.is_grad_enabled() or not fits:
        return closed.image_conv(x, weight, bias, stride, padding)
    x = x.permute(0, 2, 3, 1).contiguous()
    y = x.new_empty(x.shape[0], *size, weight.shape[0])
    sizes = (*x.shape, *y.shape[1:], *stride, padding[1])
    call("image_conv", None, x, weight.contiguous(), bias.contiguous(), y, *sizes)
    count(y.numel(), *weight.shape[1:])
    return y.permute(0, 3, 1, 2)
