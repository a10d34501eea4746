# SPDX-License-Identifier: Apache-2.0
"""The chains of `plain` on a CPU as loops in C: one pass over memory each, numbers converted on the way.

Where a library is as good, and for what the loops do not know (other types than float32 and bfloat16), `closed`
computes. Halves of a projection are read where they lie.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels.closed import (  # noqa: F401  (a library computes these as well)
    first_conv,
    whiten_gradient,
)
from icefall_alp.models.kernels.native_library import library

SHARE = 64  # rows of one partial sum, as in cpu_elementwise.c
TYPES = (torch.float32, torch.bfloat16)


def _call(name: str, half: Tensor | None, *arguments: Tensor | float | None) -> None:
    """Call a loop with the tensors' addresses; `half` is a tensor of the type that the loop reads."""
    addresses = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    kind = () if half is None else (half.dtype == torch.bfloat16,)
    getattr(library(), name)(*addresses, *kind, torch.get_num_threads())


def _known(*tensors: Tensor | None) -> bool:
    """Whether the loops know the type, the same of all."""
    return tensors[0].dtype in TYPES and all(x is None or x.dtype == tensors[0].dtype for x in tensors)


def _dense(x: Tensor) -> Tensor:
    """A tensor whose elements fill their memory in some order of axes, such as channels-last."""
    return x if x.is_contiguous() or torch.empty_like(x).stride() == x.stride() else x.contiguous()


def _laid_out_like(grad: Tensor, x: Tensor) -> Tensor:
    return grad if grad.stride() == x.stride() and grad.dtype == x.dtype else torch.empty_like(x).copy_(grad)


def _rows(x: Tensor) -> Tensor:
    """(N, T, C) whose rows lie at one distance: half of a projection does, anything else is copied."""
    even = x.stride(-1) == 1 and x.stride(0) == x.shape[1] * x.stride(1)
    return x if even else x.contiguous()


class _Swoosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, shift: float, offset: float) -> Tensor:
        x = _dense(x)
        y = torch.empty_like(x)
        _call("swoosh", x, x, None, y, x.numel(), 1, 1, shift, offset)
        ctx.save_for_backward(x)
        ctx.constants = shift, offset
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        _call("swoosh_backward", x, x, None, _laid_out_like(grad, x), grad_x, None, x.numel(), 1, 1, *ctx.constants)
        return grad_x, None, None


class _Linear(torch.autograd.Function):
    """linear(mask * swoosh(x)) or, without a swoosh, linear(x), in float32; keeps x and the small mask."""

    @staticmethod
    def forward(ctx, x, mask: Tensor | None, weight: Tensor, bias: Tensor | None, swoosh: tuple[float, float] | None):
        x = _rows(x) if x.dim() == 3 and not swoosh else x.contiguous()
        weight, mask, bias = weight.contiguous(), _contiguous(mask), _contiguous(bias)
        y = x.new_empty(*x.shape[:-1], len(weight))
        _call("linear", None, x, mask, weight, bias, y, *_linear_sizes(x, weight), *(swoosh or (0, 0)), bool(swoosh))
        ctx.save_for_backward(x, mask, weight)
        ctx.swoosh = swoosh
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, mask, weight = ctx.saved_tensors
        grad, grad_x, grad_weight, grad_bias = grad.contiguous(), None, None, None
        rows, depth, n, stride, per_item = _linear_sizes(x, weight)
        if ctx.needs_input_grad[0] or ctx.swoosh:
            grad_x, sizes = x.new_empty(x.shape), (rows, n, depth, per_item)
            if ctx.swoosh:
                hidden = torch.empty_like(grad_x)
                _call("linear_backward_input", None, grad, weight, x, mask, grad_x, hidden, *sizes, *ctx.swoosh)
                x = hidden
            else:
                _call("linear_backward_input", None, grad, weight, None, None, grad_x, None, *sizes, 0, 0)
        if ctx.needs_input_grad[2]:
            grad_weight = torch.empty_like(weight)
            _call("linear_backward_weight", None, grad, x, grad_weight, rows, depth, n, stride)
        if ctx.needs_input_grad[3]:
            grad_bias = grad.reshape(-1, n).sum(0)
        return grad_x, None, grad_weight, grad_bias, None


def _linear_sizes(x: Tensor, weight: Tensor) -> tuple[int, int, int, int, int]:
    """Rows, numbers in and out, stride of the rows, and rows of an item, which share a mask. Never 0, to divide by."""
    rows, depth = _sizes(x)
    stride = x.stride(-2) if x.dim() > 1 else depth
    return rows, depth, len(weight), stride, max(1, rows // max(1, len(x)))


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


class _SwooshLinear(torch.autograd.Function):
    """linear(mask * swoosh(x)) where a library multiplies; backward makes the activation and its slope in one pass."""

    @staticmethod
    def forward(ctx, x, mask, weight, bias, shift: float, offset: float) -> Tensor:
        x, ctx.constants = x.contiguous(), (shift, offset)
        mask = mask if mask is None else mask.float().contiguous()
        hidden = torch.empty_like(x)
        _call("swoosh", x, x, mask, hidden, x.numel(), *_item(x), shift, offset)
        ctx.save_for_backward(x, mask, weight)
        return F.linear(hidden, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, mask, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = (rows @ weight.to(grad.dtype)).view(x.shape).to(x.dtype)
        hidden = torch.empty_like(x)
        _call("swoosh_backward", x, x, mask, grad_x, grad_x, hidden, x.numel(), *_item(x), *ctx.constants)
        grad_weight = rows.t() @ hidden.view(-1, hidden.shape[-1]).to(rows.dtype)
        return grad_x, None, grad_weight.to(weight.dtype), rows.sum(0).to(weight.dtype), None, None


def _item(x: Tensor) -> tuple[int, int]:
    """Channels, and rows of one item, which share a mask (N, 1, C). Never 0, to divide by."""
    return max(1, x.shape[-1]), max(1, _sizes(x)[0] // max(1, len(x)))


class _Gate(torch.autograd.Function):
    """Keeps its inputs, which are halves of a projection."""

    @staticmethod
    def forward(ctx, x: Tensor, gates: Tensor, keep: Tensor | None, bent: bool) -> Tensor:
        x, gates, keep = _rows(x), _rows(gates), keep if keep is None else keep.float().contiguous()
        y = torch.empty(x.shape, dtype=x.dtype)
        _call("gate", x, x, gates, keep, y, *_sizes(x), x.stride(1), gates.stride(1), bent)
        ctx.save_for_backward(x, gates, keep)
        ctx.bent = bent
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, gates, keep = ctx.saved_tensors
        grad_x, grad_gates = (torch.empty(x.shape, dtype=x.dtype) for _ in range(2))
        _call(
            "gate_backward", x, grad.contiguous(), x, gates, keep, grad_x, grad_gates,
            *_sizes(x), x.stride(1), gates.stride(1), ctx.bent,
        )  # fmt: skip
        return grad_x, grad_gates, None, None


def _sizes(x: Tensor) -> tuple[int, int]:
    """Rows and channels."""
    return x.numel() // max(1, x.shape[-1]), x.shape[-1]


class _BiasNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        x, bias = x.float().contiguous(), bias.contiguous()
        y, inverse = torch.empty_like(x), x.new_empty(_sizes(x)[0])
        _call("bias_norm", None, x, bias, log_scale, y, inverse, *_sizes(x))
        ctx.save_for_backward(x, bias, log_scale, inverse)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, log_scale, inverse = ctx.saved_tensors
        rows, channels = _sizes(x)
        grad_x, pulls, shares = torch.empty_like(x), torch.empty_like(inverse), _shares(rows, channels)
        _call(
            "bias_norm_backward", None, grad.contiguous(), x, bias, log_scale, inverse, grad_x, shares, pulls,
            rows, channels,
        )  # fmt: skip
        return grad_x.to(ctx.dtype), shares.sum(0), pulls.sum()


def _shares(rows: int, channels: int, share: int = SHARE) -> Tensor:
    """For the partial sums of all rows, a share of them at a time."""
    return torch.empty(-(-rows // share), channels)


class _Bypass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, original: Tensor, new: Tensor, scale: Tensor) -> Tensor:
        original, new, scale = original.contiguous(), new.contiguous(), scale.contiguous()
        y = torch.empty_like(original)
        _call("bypass", new, original, new, scale, y, *_sizes(original), _rows_of_a_scale(original, scale))
        ctx.save_for_backward(original, new, scale)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        original, new, scale = ctx.saved_tensors
        rows, channels = _sizes(original)
        shared = _rows_of_a_scale(original, scale)
        part = SHARE if scale.dim() == 1 else shared
        grad_x, grad_new, shares = torch.empty_like(original), torch.empty_like(new), _shares(rows, channels, part)
        _call(
            "bypass_backward", new, grad.contiguous(), original, new, scale, grad_x, grad_new, shares,
            rows, channels, shared, part,
        )  # fmt: skip
        return grad_x, grad_new, shares.sum(0) if scale.dim() == 1 else shares.view(scale.shape)


def _rows_of_a_scale(x: Tensor, scale: Tensor) -> int:
    """Rows that share a row of the scale, (C,) or (N, 1, C)."""
    return max(1, _sizes(x)[0] if scale.dim() == 1 else x.shape[1])


class _DepthwiseConv(torch.autograd.Function):
    """Weight and bias are read in float32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        x, weight, bias = _rows(x), weight.contiguous(), bias.contiguous()
        (items, frames, channels), taps = x.shape, weight.shape[-1]
        y = torch.empty(items, frames + 2 * padding - taps + 1, channels, dtype=x.dtype)
        _call("depthwise_conv", x, x, weight, bias, y, items, frames, channels, x.stride(1), taps, padding)
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        items, frames, channels = x.shape
        taps = weight.shape[-1]
        grad, grad_x = grad.contiguous(), torch.empty(x.shape, dtype=x.dtype)
        shares = torch.empty(items, taps, channels)
        _call(
            "depthwise_conv_backward", x, grad, x, weight, grad_x, shares,
            items, frames, channels, x.stride(1), taps, ctx.padding,
        )  # fmt: skip
        return grad_x, shares.sum(0).t().unsqueeze(1), grad.float().sum((0, 1)), None


def _attention_weights(q, k, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int) -> Tensor:
    """(heads, N, T, T); the scores are never written."""
    items, frames, _ = q.shape
    bias = None if bias is None else bias.float().expand(items, -1, -1).contiguous()
    strides = (0, 0) if bias is None else (bias.stride(0), 0 if bias.shape[1] == 1 else frames)
    weights = q.new_empty(num_heads, items, frames, frames)
    _call("attention_weights", q, q, k, p, pos, bias, weights, *_attention_sizes(q, k, p, num_heads), *strides)
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
    def backward(ctx, grad: Tensor | None, grad_first: Tensor | None):
        weights, q, k, p, pos = ctx.saved_tensors
        grad = torch.zeros_like(weights) if grad is None else grad.contiguous()
        grad_first = None if grad_first is None else grad_first.contiguous()
        grads = [None if x is None else torch.empty(x.shape, dtype=x.dtype) for x in (q, k, p)]
        shares = None if pos is None else torch.empty(ctx.num_heads, len(q), *pos.shape[1:])
        _call(
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
        weights, values = weights.contiguous(), _rows(values)
        y = torch.empty(values.shape, dtype=values.dtype)
        _call("mix", weights, weights, values, y, *_mixing_sizes(weights, values))
        ctx.save_for_backward(weights, values)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        weights, values = ctx.saved_tensors
        grad_weights, grad_values = torch.empty_like(weights), torch.empty(values.shape, dtype=values.dtype)
        _call(
            "mix_backward", weights, weights, values, grad.contiguous(), grad_weights, grad_values,
            *_mixing_sizes(weights, values),
        )  # fmt: skip
        return grad_weights, grad_values


def _mixing_sizes(weights: Tensor, values: Tensor) -> tuple[int, ...]:
    """Heads, items, frames, numbers of a head, stride of the values."""
    return *weights.shape[:3], values.shape[-1] // weights.shape[0], values.stride(1)


def swoosh(x: Tensor, shift: float, offset: float) -> Tensor:  # noqa: D103
    return closed.run(_Swoosh, x, shift, offset) if _known(x) else closed.swoosh(x, shift, offset)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In bfloat16 a library is faster."""
    if not _all_float32(x, weight, bias):
        return closed.linear(x, weight, bias)
    return closed.run(_Linear, x, None, weight, bias, None)


def _all_float32(*tensors: Tensor | None) -> bool:
    """Whether a product is computed in float32."""
    return all(x is None or x.dtype == torch.float32 for x in tensors) and not torch.is_autocast_enabled("cpu")


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: D103
    return linear(x, weight.flatten(1), bias)


def swoosh_linear(x, mask, weight, bias, shift: float, offset: float) -> Tensor:  # noqa: D103
    if _all_float32(x, mask, weight, bias):
        return closed.run(_Linear, x, mask, weight, bias, (shift, offset))
    if not _known(x, mask):
        return closed.swoosh_linear(x, mask, weight, bias, shift, offset)
    return closed.run(_SwooshLinear, x, mask, weight, bias, shift, offset)


def swoosh_pointwise_conv(x, weight, bias, shift: float, offset: float) -> Tensor:  # noqa: D103
    return swoosh_linear(x, None, weight.flatten(1), bias, shift, offset)


def gate(x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:  # noqa: D103
    return closed.run(_Gate, x, gates, keep, False) if _known(x, gates) else closed.gate(x, gates, keep)


def tanh_gate(x: Tensor, gates: Tensor) -> Tensor:  # noqa: D103
    return closed.run(_Gate, x, gates, None, True) if _known(x, gates) else closed.tanh_gate(x, gates)


def bias_norm(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:  # noqa: D103
    if x.dtype not in TYPES:
        return closed.bias_norm(x, bias, log_scale)
    return closed.run(_BiasNorm, x, bias, log_scale)


def bypass(original: Tensor, new: Tensor, scale: Tensor) -> Tensor:  # noqa: D103
    if original.dtype != torch.float32 or scale.dtype != torch.float32 or new.dtype not in TYPES:
        return closed.bypass(original, new, scale)
    return closed.run(_Bypass, original, new, scale)


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:  # noqa: D103
    if x.dtype not in TYPES or weight.dtype != torch.float32 or not 0 <= padding < weight.shape[-1]:
        return closed.depthwise_conv(x, weight, bias, padding)
    return closed.run(_DepthwiseConv, x, weight, bias, padding)


def attention_weights(  # noqa: D103
    q: Tensor, k: Tensor, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int,
    modify: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if modify is not None or not _known(q, k, p, pos):
        return closed.attention_weights(q, k, p, pos, bias, num_heads, modify)
    q, k, p, pos = _rows(q), _rows(k), None if p is None else _rows(p), None if p is None else pos.contiguous()
    if torch.is_grad_enabled():
        return _AttentionWeights.apply(q, k, p, pos, bias, num_heads)
    weights = _attention_weights(q, k, p, pos, bias, num_heads)
    return weights, weights[0]


def mix(weights: Tensor, values: Tensor) -> Tensor:  # noqa: D103
    return closed.run(_Mix, weights, values) if _known(weights, values) else closed.mix(weights, values)


def balancer_gradient(
    x: Tensor, grad: Tensor, limits: tuple[float, float, float, float], grad_scale: float, dim: int
) -> Tensor:
    """One pass for the moments of every channel, one that adds the line."""
    if not _known(x, grad) or x.numel() == 0:
        return closed.balancer_gradient(x, grad, limits, grad_scale, dim)
    laid, pulled = _matrix(x.movedim(dim, -1)), grad.movedim(dim, -1).contiguous()
    rows, channels = laid.shape
    sums, squares = _shares(rows, channels), _shares(rows, channels)
    _call("moments", x, laid, sums, squares, rows, channels, laid.stride(0))
    line = closed.line_from_moments(sums.sum(0) / rows, squares.sum(0) / rows, limits, grad_scale)
    out = torch.empty_like(pulled)
    _call("add_line", x, laid, pulled, *line, out, rows, channels, laid.stride(0))
    return out.movedim(-1, dim)


def _matrix(x: Tensor) -> Tensor:
    """(.., C) as (rows, C), without a copy where rows lie at one distance."""
    return (x if x.dim() != 3 else _rows(x)).reshape(-1, x.shape[-1])
