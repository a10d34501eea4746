# SPDX-License-Identifier: Apache-2.0
"""The chains for a GPU: one Triton kernel for each element-wise stretch, `closed` where a library is as good.

A swoosh on its own keeps its input for backward; with ICEFALL_ALP_SWOOSH=8bit it keeps its slope in one byte for each
element instead, rounded at random without bias (noise up to 1/255).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels import triton_kernels as kernels
from icefall_alp.models.kernels.closed import (  # noqa: F401  (a library computes these as well)
    bypass,
    depthwise_conv,
    depthwise_image_conv,
    image_conv,
    linear,
    mix,
    pointwise_conv,
    sum_groups,
    tanh_gate,
    whiten_gradient,
)
from icefall_alp.models.kernels.plain import by_head

BLOCK = 1024  # elements of one program
ROWS = 32  # rows whose parameter gradients one program sums
EIGHT_BIT = os.environ.get("ICEFALL_ALP_SWOOSH", "") == "8bit"


def _programs(size: int, block: int = BLOCK) -> tuple[int]:
    """Programs of an element-wise kernel; nothing at all cannot be launched."""
    return (max(1, triton.cdiv(size, block)),)


class _Swoosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, shift: float, offset: float) -> Tensor:
        x = _dense(x)
        y = torch.empty_like(x)
        code = torch.empty_like(x, dtype=torch.uint8) if EIGHT_BIT else x
        seed = int(torch.randint(2**31, (), device="cpu")) if EIGHT_BIT else 0
        kernels.swoosh_forward[_programs(x.numel())](
            x, x, y, code, x.numel(), 1, 1, shift, offset, seed, HAS_MASK=False, HAS_CODE=EIGHT_BIT, BLOCK=BLOCK
        )
        ctx.save_for_backward(code)
        ctx.constants, ctx.dtype = (shift, offset), x.dtype
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        from_code = kept.dtype == torch.uint8
        grad = _laid_out_like(grad, kept)
        grad_x = torch.empty_like(kept, dtype=ctx.dtype)
        spare = grad_x if from_code else torch.empty_like(grad_x)
        kernels.swoosh_backward[_programs(kept.numel())](
            grad, kept, kept, grad_x, spare, kept.numel(), 1, 1, *ctx.constants,
            HAS_MASK=False, FROM_CODE=from_code, BLOCK=BLOCK,
        )  # fmt: skip
        return grad_x, None, None


class _SwooshLinear(torch.autograd.Function):
    """Keeps x and the small mask; backward makes the activation and its derivative in one kernel."""

    @staticmethod
    def forward(ctx, x, mask, weight, bias, shift: float, offset: float) -> Tensor:
        x, ctx.constants = x.contiguous(), (shift, offset)
        mask = mask if mask is None else mask.contiguous()
        hidden = torch.empty_like(x)
        kernels.swoosh_forward[_programs(x.numel())](
            x, x if mask is None else mask, hidden, x, x.numel(), *_item(x), shift, offset, 0,
            HAS_MASK=mask is not None, HAS_CODE=False, BLOCK=BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(x, mask, weight)
        return F.linear(hidden, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, mask, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_hidden = rows @ weight.to(grad.dtype)
        grad_x, hidden = torch.empty_like(x), torch.empty_like(x)
        kernels.swoosh_backward[_programs(x.numel())](
            grad_hidden, x, x if mask is None else mask, grad_x, hidden, x.numel(), *_item(x), *ctx.constants,
            HAS_MASK=mask is not None, FROM_CODE=False, BLOCK=BLOCK,
        )  # fmt: skip
        grad_weight = rows.t() @ hidden.reshape(-1, hidden.shape[-1]).to(rows.dtype)
        return grad_x, None, grad_weight.to(weight.dtype), rows.sum(0).to(weight.dtype), None, None


def _item(x: Tensor) -> tuple[int, int]:
    """Channels, and elements of one item: where a mask (N, 1, C) has its factor. Never 0, to divide by."""
    return max(1, x.shape[-1]), max(1, x[0].numel() if len(x) else 1)


def _dense(x: Tensor) -> Tensor:
    """A tensor whose elements fill their memory in some order of axes, such as channels-last."""
    return x if torch.empty_like(x).stride() == x.stride() else x.contiguous()


def _laid_out_like(grad: Tensor, x: Tensor) -> Tensor:
    return grad if grad.stride() == x.stride() else torch.empty_like(x, dtype=grad.dtype).copy_(grad)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:
        x, gates = _rows(x), _rows(gates)
        keep = keep if keep is None else keep.contiguous()
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        kernels.gate_forward[_programs(y.numel())](
            x, gates, y if keep is None else keep, y, y.numel(), max(1, y.shape[-1]), x.stride(-2), gates.stride(-2),
            HAS_KEEP=keep is not None, BLOCK=BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(x, gates, keep)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gates, keep = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x, grad_gates = torch.empty_like(grad, dtype=x.dtype), torch.empty_like(grad, dtype=gates.dtype)
        kernels.gate_backward[_programs(grad.numel())](
            grad, x, gates, grad if keep is None else keep, grad_x, grad_gates,
            grad.numel(), max(1, grad.shape[-1]), x.stride(-2), gates.stride(-2),
            HAS_KEEP=keep is not None, BLOCK=BLOCK,
        )  # fmt: skip
        return grad_x, grad_gates, None


def _rows(x: Tensor) -> Tensor:
    """(N, T, C) whose rows lie at one distance: half of a projection does, anything else is copied."""
    even = x.stride(-1) == 1 and x.stride(0) == x.shape[1] * x.stride(1)
    return x if even else x.contiguous()


class _BiasNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        x = x.contiguous()
        channels = x.shape[-1]
        num_rows = x.numel() // channels
        y = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        inverse = torch.empty(num_rows, dtype=torch.float32, device=x.device)
        if num_rows:
            kernels.bias_norm_forward[(num_rows,)](
                x, bias, log_scale, y, inverse, channels, BLOCK=triton.next_power_of_2(channels)
            )
        ctx.save_for_backward(x, bias, log_scale, inverse)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, log_scale, inverse = ctx.saved_tensors
        channels, num_rows = x.shape[-1], inverse.numel()
        (num_programs,) = _programs(num_rows, ROWS)
        grad_x = torch.empty_like(x)
        shares = torch.empty(num_programs, channels, dtype=torch.float32, device=x.device)
        scale_shares = torch.empty(num_programs, dtype=torch.float32, device=x.device)
        kernels.bias_norm_backward[(num_programs,)](
            grad.contiguous(), x, bias, log_scale, inverse, grad_x, shares, scale_shares, num_rows, channels,
            ROWS=ROWS, BLOCK=triton.next_power_of_2(channels),
        )  # fmt: skip
        return grad_x, shares.sum(0), scale_shares.sum()


class _ShiftedSoftmax(torch.autograd.Function):
    """Weights (heads, N, T, T) from content (B, T, T), relative scores (B, T, 2T-1) or None, and what hides sources."""

    @staticmethod
    def forward(ctx, content: Tensor, relative: Tensor | None, bias: Tensor | None, num_heads: int) -> Tensor:
        batch, frames, _ = content.shape
        weights = torch.empty_like(content)
        bias = None if bias is None else bias.expand(batch // num_heads, -1, -1)
        strides = (0, 0) if bias is None else (bias.stride(0), 0 if bias.shape[1] == 1 else bias.stride(1))
        if content.numel():
            kernels.shifted_softmax_forward[(batch * frames,)](
                content, content if relative is None else relative, content if bias is None else bias, weights,
                frames, batch // num_heads, *strides,
                HAS_RELATIVE=relative is not None, HAS_BIAS=bias is not None, BLOCK=triton.next_power_of_2(frames),
            )  # fmt: skip
        ctx.save_for_backward(weights)
        ctx.has_relative = relative is not None
        return weights.view(num_heads, -1, frames, frames)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (weights,) = ctx.saved_tensors
        batch, frames, _ = weights.shape
        grad_content = torch.empty_like(weights)
        grad_relative = weights.new_zeros(batch, frames, 2 * frames - 1) if ctx.has_relative else None
        if weights.numel():
            kernels.shifted_softmax_backward[(batch * frames,)](
                grad.contiguous(), weights, grad_content, grad_content if grad_relative is None else grad_relative,
                frames, HAS_RELATIVE=ctx.has_relative, BLOCK=triton.next_power_of_2(frames),
            )  # fmt: skip
        return grad_content, grad_relative, None, None


def swoosh(x: Tensor, shift: float, offset: float) -> Tensor:  # noqa: D103
    return _Swoosh.apply(x, shift, offset)


def swoosh_linear(x, mask, weight, bias, shift: float, offset: float) -> Tensor:  # noqa: D103
    return _SwooshLinear.apply(x, mask, weight, bias, shift, offset)


def swoosh_pointwise_conv(x, weight, bias, shift: float, offset: float) -> Tensor:  # noqa: D103
    return _SwooshLinear.apply(x, None, weight.flatten(1), bias, shift, offset)


def gate(x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:  # noqa: D103
    return _Gate.apply(x, gates, keep)


def bias_norm(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:  # noqa: D103
    return _BiasNorm.apply(x, bias, log_scale)


def attention_weights(
    q: Tensor, k: Tensor, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int,
    modify: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The scores are never written, unless `modify` wants to see them."""
    if modify is not None:
        return closed.attention_weights(q, k, p, pos, bias, num_heads, modify)
    relative = None if p is None else (by_head(p, num_heads).unflatten(0, (num_heads, -1)).flatten(1, 2) @ pos)
    relative = relative if p is None else relative.view(-1, p.shape[1], pos.shape[-1])
    content = torch.bmm(by_head(q, num_heads), by_head(k, num_heads).transpose(1, 2))
    weights = _ShiftedSoftmax.apply(content, relative, bias, num_heads)
    return weights, weights[0]


def balancer_gradient(
    x: Tensor, grad: Tensor, limits: tuple[float, float, float, float], grad_scale: float, dim: int
) -> Tensor:
    """One kernel for the moments of every channel, one that adds the line."""
    laid = x.movedim(dim, -1).contiguous()
    channels, size = laid.shape[-1], laid.numel()
    num_rows = size // channels
    (num_programs,) = _programs(num_rows, ROWS)
    sums, squares = torch.empty(2, num_programs, channels, dtype=torch.float32, device=x.device)
    kernels.moments[(num_programs, triton.cdiv(channels, BLOCK))](
        laid, sums, squares, num_rows, channels, ROWS=ROWS, BLOCK=min(BLOCK, triton.next_power_of_2(channels))
    )
    mean, square = sums.sum(0) / num_rows, squares.sum(0) / num_rows
    intercept, slope = closed.line_from_moments(mean, square, limits, grad_scale)
    out = torch.empty_like(laid, dtype=grad.dtype)
    kernels.add_line[_programs(size)](
        laid, grad.movedim(dim, -1).contiguous(), intercept, slope, out, size, channels, BLOCK=BLOCK
    )
    return out.movedim(-1, dim)
