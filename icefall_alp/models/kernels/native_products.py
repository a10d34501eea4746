# SPDX-License-Identifier: Apache-2.0
"""What `native` computes around matrix products: linear layers and attention by heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels.closed import rows_of
from icefall_alp.models.kernels.frozen import panels_of
from icefall_alp.models.kernels.native_library import call
from icefall_alp.models.kernels.operations import count
from icefall_alp.models.kernels.plain import ScorePenalty

TYPES = (torch.float32, torch.bfloat16)


def known(*tensors: Tensor | None) -> bool:
    """Whether the loops know the type, the same of all, and can reach them."""
    dtype = tensors[0].dtype
    for x in tensors:  # called for every operation: no generator
        if x is not None and not (x.is_cpu and x.dtype == dtype):
            return False
    return dtype in TYPES


def _rows(x: Tensor) -> Tensor:
    """`rows_of` of any shape."""
    return rows_of(x) if x.dim() == 3 else x.contiguous()


def sizes_of(x: Tensor) -> tuple[int, int]:
    """Rows and channels."""
    return x.numel() // max(1, x.shape[-1]), x.shape[-1]


class _Linear(torch.autograd.Function):
    """linear(mask * swoosh(x)) or, without a swoosh, linear(x), in float32; keeps x and the small mask."""

    @staticmethod
    def forward(ctx, x, mask: Tensor | None, weight: Tensor, bias: Tensor | None, swoosh: tuple[float, float] | None):
        x = x.contiguous() if swoosh else _rows(x)
        panels = panels_of(weight)
        weight, mask, bias = weight.contiguous(), _contiguous(mask), _contiguous(bias)
        y, sizes = x.new_empty(*x.shape[:-1], weight.shape[0]), _linear_sizes(x, weight)
        tensors, flags = (x, mask, weight, bias, y, panels.space), (bool(swoosh), panels.filled)
        call("linear", None, *tensors, *sizes, *(swoosh or (0, 0)), *flags)
        panels.filled = True
        count(y.numel(), weight.shape[1])
        ctx.save_for_backward(x, mask, weight)
        ctx.swoosh = swoosh
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor):
        x, mask, weight = ctx.saved_tensors
        grad, grad_x, grad_weight, grad_bias = grad.contiguous(), None, None, None
        rows, depth, n, stride, per_item = _linear_sizes(x, weight)
        if ctx.needs_input_grad[0] or ctx.swoosh:
            count(rows, n, depth)
            grad_x, sizes = x.new_empty(x.shape), (rows, n, depth, per_item)
            if ctx.swoosh:
                hidden = torch.empty_like(grad_x)
                call("linear_backward_input", None, grad, weight, x, mask, grad_x, hidden, *sizes, *ctx.swoosh)
                x = hidden
            else:
                call("linear_backward_input", None, grad, weight, None, None, grad_x, None, *sizes, 0, 0)
        if ctx.needs_input_grad[2]:
            count(rows, n, depth)
            grad_weight = torch.empty_like(weight)
            call("linear_backward_weight", None, grad, x, grad_weight, rows, depth, n, stride)
        if ctx.needs_input_grad[3]:
            grad_bias = grad.reshape(-1, n).sum(0)
        return grad_x, None, grad_weight, grad_bias, None


def _linear_sizes(x: Tensor, weight: Tensor) -> tuple[int, int, int, int, int]:
    """Rows, numbers in and out, stride of the rows, and rows of an item, which share a mask. Never 0, to divide by."""
    shape = x.shape  # of everything here: asking a tensor's length is slow
    depth = shape[-1]
    rows, stride = x.numel() // max(1, depth), depth if x.is_contiguous() else x.stride(-2)
    return rows, depth, weight.shape[0], stride, max(1, rows // max(1, shape[0]))


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


class _SwooshLinear(torch.autograd.Function):
    """linear(mask * swoosh(x)) where a library multiplies; backward makes the activation and its slope in one pass."""

    @staticmethod
    def forward(ctx, x, mask, weight, bias, shift: float, offset: float) -> Tensor:
        x, ctx.constants = x.contiguous(), (shift, offset)
        mask = mask if mask is None else mask.float().contiguous()
        hidden = torch.empty_like(x)
        call("swoosh", x, x, mask, hidden, x.numel(), *_item(x), shift, offset)
        ctx.save_for_backward(x, mask, weight)
        return F.linear(hidden, weight, bias)

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor):
        x, mask, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = (rows @ weight.to(grad.dtype)).view(x.shape).to(x.dtype)
        hidden = torch.empty_like(x)
        call("swoosh_backward", x, x, mask, grad_x, grad_x, hidden, x.numel(), *_item(x), *ctx.constants)
        grad_weight = rows.t() @ hidden.view(-1, hidden.shape[-1]).to(rows.dtype)
        grad_bias = rows.sum(0).to(weight.dtype) if ctx.needs_input_grad[3] else None
        return grad_x, None, grad_weight.to(weight.dtype), grad_bias, None, None


def _item(x: Tensor) -> tuple[int, int]:
    """Channels, and rows of one item, which share a mask (N, 1, C). Never 0, to divide by."""
    return max(1, x.shape[-1]), max(1, sizes_of(x)[0] // max(1, x.shape[0]))


def _attention_weights(q, k, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int) -> Tensor:
    """(heads, N, T, T); the scores are never written."""
    items, frames, _ = q.shape
    bias = None if bias is None else bias.float().expand(items, -1, -1).contiguous()
    strides = (0, 0) if bias is None else (bias.stride(0), 0 if bias.shape[1] == 1 else frames)
    weights = q.new_empty(num_heads, items, frames, frames)
    count(weights.numel(), (q.shape[-1] + (0 if p is None else p.shape[-1])) // num_heads)
    call("attention_weights", q, q, k, p, pos, bias, weights, *_attention_sizes(q, k, p, num_heads), *strides)
    return weights


class _AttentionWeights(torch.autograd.Function):
    """A copy of the first head's weights spares the slice's backward, which would fill a whole gradient with zeros."""

    @staticmethod
    def forward(ctx, q, k, p, pos, bias, num_heads: int) -> tuple[Tensor, Tensor]:
        weights = _attention_weights(q, k, p, pos, bias, num_heads)
        ctx.save_for_backward(weights, q, k, p, pos)
        ctx.set_materialize_grads(False)
        ctx.num_heads = num_heads
        return weights, weights[0].clone()

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor | None, grad_first: Tensor | None):
        weights, q, k, p, pos = ctx.saved_tensors
        grad = torch.zeros_like(weights) if grad is None else grad.contiguous()
        grad_first = None if grad_first is None else grad_first.contiguous()
        grads = [None if x is None else x.new_empty(x.shape) for x in (q, k, p)]
        shares = None if pos is None else torch.empty(ctx.num_heads, q.shape[0], *pos.shape[1:], device=q.device)
        count(2, weights.numel(), (q.shape[-1] + (0 if p is None else p.shape[-1])) // ctx.num_heads)
        call(
            "attention_weights_backward", q, weights, grad, grad_first, q, k, p, pos, *grads, shares,
            *_attention_sizes(q, k, p, ctx.num_heads),
        )  # fmt: skip
        return *grads, None if pos is None else shares.sum(1).to(pos.dtype), None, None


def _attention_sizes(q: Tensor, k: Tensor, p: Tensor | None, num_heads: int) -> tuple[int, ...]:
    """Heads, items, frames, numbers of a head in q and p, strides of the rows."""
    places, stride = (0, 0) if p is None else (p.shape[-1] // num_heads, p.stride(1))
    return num_heads, *q.shape[:2], q.shape[-1] // num_heads, places, q.stride(1), k.stride(1), stride


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights: Tensor, values: Tensor) -> Tensor:
        weights, values = weights.contiguous(), rows_of(values)
        y = values.new_empty(values.shape)
        count(y.numel(), weights.shape[-1])
        call("mix", None, weights, values, y, *_mixing_sizes(weights, values))
        ctx.save_for_backward(weights, values)
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        weights, values = ctx.saved_tensors
        count(2, values.numel(), weights.shape[-1])
        grad_weights, grad_values = torch.empty_like(weights), values.new_empty(values.shape)
        call(
            "mix_backward", None, weights, values, grad.contiguous(), grad_weights, grad_values,
            *_mixing_sizes(weights, values),
        )  # fmt: skip
        return grad_weights, grad_values


def _mixing_sizes(weights: Tensor, values: Tensor) -> tuple[int, ...]:
    """Heads, items, frames, numbers of a head, stride of the values."""
    return *weights.shape[:3], values.shape[-1] // weights.shape[0], values.stride(1)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In bfloat16 a library is faster."""
    if not _multiplied_here(x, weight, bias):
        return closed.linear(x, weight, bias)
    return closed.run(_Linear, x, None, weight, bias, None)


def _multiplied_here(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    fits = weight.dim() == 2 and x.shape[-1:] == weight.shape[1:] and (bias is None or bias.shape == weight.shape[:1])
    return fits and weight.shape[1] > 0 and all_float32(x, weight, bias)


def all_float32(*tensors: Tensor | None) -> bool:
    """Whether a product is computed in float32."""
    return tensors[0].dtype == torch.float32 and known(*tensors) and not torch.is_autocast_enabled("cpu")


def swoosh_linear(x, mask, weight, bias, shift: float, offset: float) -> Tensor:  # noqa: D103
    fits = mask is None or (x.dim() == 3 and mask.shape == (x.shape[0], 1, x.shape[-1]))
    if not (fits and known(x) and (mask is None or mask.is_cpu)):
        return closed.swoosh_linear(x, mask, weight, bias, shift, offset)
    if _multiplied_here(x, weight, bias) and known(x, mask):
        return closed.run(_Linear, x, mask, weight, bias, (shift, offset))
    return closed.run(_SwooshLinear, x, mask, weight, bias, shift, offset)


def feed_forward(x, mask, weight, bias, out_weight, out_bias, shift: float, offset: float, modify) -> Tensor:
    """Without a graph at once: what lies between is not written."""
    whole = mask is None and not torch.is_grad_enabled() and _multiplied_here(x, weight, bias)
    if not (whole and _multiplied_here(weight.t(), out_weight, out_bias) and weight.numel()):
        return swoosh_linear(modify(linear(x, weight, bias)), mask, out_weight, out_bias, shift, offset)
    panels = panels_of(weight, out_weight)
    x, weight, out_weight, n = _rows(x), weight.contiguous(), out_weight.contiguous(), out_weight.shape[0]
    y = x.new_empty(*x.shape[:-1], n)
    rows, depth, hidden, stride, _ = _linear_sizes(x, weight)
    tensors = (x, weight, _contiguous(bias), out_weight, _contiguous(out_bias), y, panels.space)
    call("feed_forward", None, *tensors, rows, depth, hidden, n, stride, shift, offset, panels.filled)
    panels.filled = True
    count(rows * hidden, depth + n)
    return y


def pointwise_feed_forward(x, weight, bias, out_weight, out_bias, shift: float, offset: float, modify) -> Tensor:
    """As matrix products: channels are innermost."""
    return feed_forward(x, None, weight.flatten(1), bias, out_weight.flatten(1), out_bias, shift, offset, modify)


def float32(*parameters: Tensor) -> bool:
    """Whether the loops can read parameters, which they take in float32 only."""
    return parameters[0].dtype == torch.float32 and known(*parameters)


def attention_weights(  # noqa: D103
    q: Tensor, k: Tensor, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int,
    penalty: ScorePenalty | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if penalty is not None or not known(q, k, p, pos) or not _attend(q, k, p, pos, bias, num_heads):
        return closed.attention_weights(q, k, p, pos, bias, num_heads, penalty)
    q, k, p, pos = rows_of(q), rows_of(k), None if p is None else rows_of(p), None if p is None else pos.contiguous()
    if torch.is_grad_enabled():
        return _AttentionWeights.apply(q, k, p, pos, bias, num_heads)
    weights = _attention_weights(q, k, p, pos, bias, num_heads)
    return weights, weights[0]


def _attend(q, k, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int) -> bool:
    """Whether the shapes fit together."""
    items, frames, width = q.shape
    if k.shape != q.shape or width % num_heads:
        return False
    if p is not None and (
        p.shape[:2] != q.shape[:2] or p.shape[-1] % num_heads
        or pos.shape != (num_heads, p.shape[-1] // num_heads, 2 * frames - 1)
    ):  # fmt: skip
        return False
    return bias is None or (
        bias.device.type == "cpu" and bias.shape[-1] == frames and bias.shape[-2] in (1, frames)
        and bias.shape[:-2] in ((), (1,), (items,))
    )  # fmt: skip


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """In bfloat16 a library is faster."""
    items, frames, width = values.shape
    fits = weights.shape[1:] == (items, frames, frames) and width % weights.shape[0] == 0
    if not (fits and all_float32(weights, values)):
        return closed.mix(weights, values)
    return closed.run(_Mix, weights, values)
