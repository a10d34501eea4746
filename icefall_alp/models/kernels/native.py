# SPDX-License-Identifier: Apache-2.0
"""The chains of `plain` on a CPU as loops in C: one pass over memory each, numbers converted on the way.

Where a library is as good, and for what the loops do not know (other types than float32 and bfloat16), `closed`
computes. Halves of a projection are read where they lie.
"""

from __future__ import annotations

import torch
from torch import Tensor

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels.closed import logits, residual, whiten_gradient  # noqa: F401  (a library is as good)
from icefall_alp.models.kernels.closed_modifiers import line_from_moments
from icefall_alp.models.kernels.native_convolutions import depthwise_conv, depthwise_image_conv, image_conv  # noqa: F401
from icefall_alp.models.kernels.native_library import call
from icefall_alp.models.kernels.native_products import (  # noqa: F401  (chains too)
    TYPES,
    attention_weights,
    feed_forward,
    float32,
    known,
    linear,
    mix,
    pointwise_feed_forward,
    rows_of,
    sizes_of,
    swoosh_linear,
)
from icefall_alp.models.kernels.plain import Numbers

SHARE = 64  # rows of one partial sum, as in the loops


def _dense(x: Tensor) -> Tensor:
    """A tensor whose elements fill their memory in some order of axes, such as channels-last."""
    return x if x.is_contiguous() or torch.empty_like(x).stride() == x.stride() else x.contiguous()


def _laid_out_like(grad: Tensor, x: Tensor) -> Tensor:
    return grad if grad.stride() == x.stride() and grad.dtype == x.dtype else torch.empty_like(x).copy_(grad)


class _Swoosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, shift: float, offset: float) -> Tensor:
        x = _dense(x)
        y = torch.empty_like(x)
        call("swoosh", x, x, None, y, x.numel(), 1, 1, shift, offset)
        ctx.save_for_backward(x)
        ctx.constants = shift, offset
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        call("swoosh_backward", x, x, None, _laid_out_like(grad, x), grad_x, None, x.numel(), 1, 1, *ctx.constants)
        return grad_x, None, None


class _Gate(torch.autograd.Function):
    """Keeps its inputs, which are halves of a projection."""

    @staticmethod
    def forward(ctx, x: Tensor, gates: Tensor, keep: Tensor | None, bent: bool) -> Tensor:
        x, gates, keep = rows_of(x), rows_of(gates), keep if keep is None else keep.float().contiguous()
        y = x.new_empty(x.shape)
        call("gate", x, x, gates, keep, y, *sizes_of(x), x.stride(1), gates.stride(1), bent)
        ctx.save_for_backward(x, gates, keep)
        ctx.bent = bent
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, gates, keep = ctx.saved_tensors
        grad_x, grad_gates = (x.new_empty(x.shape) for _ in range(2))
        call(
            "gate_backward", x, grad.contiguous(), x, gates, keep, grad_x, grad_gates,
            *sizes_of(x), x.stride(1), gates.stride(1), ctx.bent,
        )  # fmt: skip
        return grad_x, grad_gates, None, None


class _BiasNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        x, bias = x.float().contiguous(), bias.contiguous()
        y, inverse = torch.empty_like(x), x.new_empty(sizes_of(x)[0])
        call("bias_norm", None, x, bias, log_scale, y, inverse, *sizes_of(x))
        ctx.save_for_backward(x, bias, log_scale, inverse)
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, log_scale, inverse = ctx.saved_tensors
        rows, channels = sizes_of(x)
        grad_x, shares, pulls = torch.empty_like(x), _shares(rows, channels), _shares(rows, 1)
        call(
            "bias_norm_backward", None, grad.contiguous(), x, bias, log_scale, inverse, grad_x, shares, pulls,
            rows, channels,
        )  # fmt: skip
        return grad_x.to(ctx.dtype), shares.sum(0), pulls.sum().view_as(log_scale)


def _shares(rows: int, channels: int, share: int = SHARE) -> Tensor:
    """For the partial sums of all rows, a share of them at a time."""
    return torch.empty(-(-rows // share), channels, device="cpu")


class _Bypass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, original, new, scale, bias: Tensor | None, log_scale: Tensor | None, factor: int) -> Tensor:
        original, new, scale = rows_of(original), new.contiguous(), scale.contiguous()
        bias = bias if bias is None else bias.contiguous()
        y, inverse = original.new_empty(original.shape), None if bias is None else new.new_empty(sizes_of(new)[0])
        sizes = (*original.shape, original.stride(1), factor)
        call("bypass", None, original, new, scale, bias, log_scale, y, inverse, *sizes, scale.dim() > 1)
        ctx.save_for_backward(original, new, scale, bias, log_scale, inverse)
        ctx.sizes = sizes
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor):
        original, new, scale, bias, log_scale, inverse = ctx.saved_tensors
        (rows, channels), own = sizes_of(new), scale.dim() > 1
        part = max(1, new.shape[1]) if own else SHARE
        grad_original, grad_new, sums = grad.new_empty(grad.shape), torch.empty_like(new), _shares(rows, channels, part)
        biases, pulls = (None, None) if bias is None else (torch.empty_like(sums), _shares(rows, 1, part))
        call(
            "bypass_backward", None, grad.contiguous(), original, new, scale, bias, log_scale, inverse, grad_original,
            grad_new, sums, biases, pulls, *ctx.sizes, part, own,
        )  # fmt: skip
        grad_scale = sums.view(scale.shape) if own else sums.sum(0)
        of_norm = (None, None) if bias is None else (biases.sum(0), pulls.sum().view_as(log_scale))
        return grad_original, grad_new, grad_scale, *of_norm, None


def swoosh(x: Tensor, shift: float, offset: float) -> Tensor:  # noqa: D103
    return closed.run(_Swoosh, x, shift, offset) if known(x) else closed.swoosh(x, shift, offset)


def gate(x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:  # noqa: D103
    if not _gated_here(x, gates) or (keep is not None and (keep.shape != (*x.shape[:2], 1) or keep.device != x.device)):
        return closed.gate(x, gates, keep)
    return closed.run(_Gate, x, gates, keep, False)


def tanh_gate(x: Tensor, gates: Tensor) -> Tensor:  # noqa: D103
    return closed.run(_Gate, x, gates, None, True) if _gated_here(x, gates) else closed.tanh_gate(x, gates)


def _gated_here(x: Tensor, gates: Tensor) -> bool:
    return x.dim() == 3 and x.shape == gates.shape and known(x, gates)


def bias_norm(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:  # noqa: D103
    if bias.shape != x.shape[-1:] or log_scale.numel() != 1 or not known(x) or not float32(bias, log_scale):
        return closed.bias_norm(x, bias, log_scale)
    return closed.run(_BiasNorm, x, bias, log_scale)


def bypass(original, new, scale, bias=None, log_scale=None, factor: int = 1) -> Tensor:  # noqa: D103
    fits = original.numel() > 0 and closed.bypass_fits(original, new, scale, bias, log_scale, factor)
    if not (fits and float32(original, new, scale, bias, log_scale)):
        return closed.bypass(original, new, scale, bias, log_scale, factor)
    return closed.run(_Bypass, original, new, scale, bias, log_scale, factor)


def sum_groups(x: Tensor, weights: Tensor) -> Tensor:
    """Without a graph: padding, products and sums at once."""
    items, groups, factor = weights.shape
    fits = x.dim() == 3 and items in (1, x.shape[0]) and 0 <= groups * factor - x.shape[1] < factor
    if torch.is_grad_enabled() or not (fits and float32(x, weights)):
        return closed.sum_groups(x, weights)
    x, weights, y = rows_of(x), weights.contiguous(), x.new_empty(x.shape[0], groups, x.shape[-1])
    step = 0 if items == 1 else groups * factor
    call("sum_groups", None, x, weights, y, *x.shape, x.stride(1), groups, factor, step)
    return y


def balancer_gradient(x: Tensor, grad: Tensor, settings: Numbers, dim: int) -> Tensor:
    """One pass for the moments of every channel, one that adds the line."""
    if not known(x, grad) or x.shape != grad.shape or x.numel() == 0:
        return closed.balancer_gradient(x, grad, settings, dim)
    laid, pulled = _matrix(x.movedim(dim, -1)), grad.movedim(dim, -1).contiguous()
    rows, channels = laid.shape
    sums, squares = _shares(rows, channels), _shares(rows, channels)
    call("moments", x, laid, sums, squares, rows, channels, laid.stride(0))
    line = line_from_moments(sums.sum(0) / rows, squares.sum(0) / rows, settings)
    out = torch.empty_like(pulled)
    call("add_line", x, laid, pulled, *line, out, rows, channels, laid.stride(0))
    return out.movedim(-1, dim)


def _matrix(x: Tensor) -> Tensor:
    """(.., C) as (rows, C), without a copy where rows lie at one distance."""
    rows = (x if x.dim() != 3 else rows_of(x)).reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()  # of one image with channels outermost it is a view
