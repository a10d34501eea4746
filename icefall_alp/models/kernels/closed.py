# SPDX-License-Identifier: Apache-2.0
"""The chains of `plain` in few passes over memory, with gradients in closed form. Same arguments, same results.

On a CPU a pass costs what it moves: results are written in place where nothing else holds them, and what backward can
take over from forward is kept. Elsewhere it is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from icefall_alp.models.kernels.closed_modifiers import balancer_gradient, whiten_gradient  # noqa: F401  (chains too)
from icefall_alp.models.kernels.plain import (  # noqa: F401  (a library is as good at some)
    SLOPE,
    ScorePenalty,
    by_head,
    depthwise_image_conv,
    logits,
    mix,
    repeat_frames,
    residual,
    sum_groups,
)

CACHED_SCORES = 2**19  # numbers
LINEAR_ABOVE = 20.0  # softplus(z) is z in float32
ONEDNN_COLUMNS = 16  # of the output, at most
ONEDNN_WEIGHTS = 2**15  # at least


def linear_value(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """linear(x) without a graph; on a CPU by oneDNN where that is faster."""
    if x.device.type == "cpu" and _suits_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    """It adds the bias while it writes and is twice as fast at narrow matrices, but a call costs 20 us more."""
    if weight.shape[0] > ONEDNN_COLUMNS and weight.numel() < ONEDNN_WEIGHTS:
        return False
    plain_float = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain_float and torch.backends.mkldnn.is_available()


class _NoGraph:
    """Stands in for the context of a function whose backward is never asked for."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep nothing."""

    def set_materialize_grads(self, value: bool) -> None:
        """There are no gradients."""


def run(function: type[torch.autograd.Function], *arguments: object) -> Any:
    """`function` of the arguments, with a node in the graph only where there is a graph."""
    if torch.is_grad_enabled():
        return function.apply(*arguments)
    return function.forward(_NoGraph(), *arguments)


class _Refused(torch.autograd.Function):
    """A gradient as it is; gradients of it lead here from whatever it was made of."""

    @staticmethod
    def forward(ctx, x: Tensor, *sources: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        raise RuntimeError(
            "fused chains have no gradients of gradients; ICEFALL_ALP_FUSED=0 computes their definitions"
        )


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse gradients of gradients. PyTorch's `once_differentiable` refuses only some and leaves out the others."""

    @wraps(backward)
    def chosen(ctx, *grads):
        if not torch.is_grad_enabled():
            return backward(ctx, *grads)
        with torch.no_grad():
            found = backward(ctx, *grads)
        sources = [x for x in (*grads, *ctx.saved_tensors) if x is not None and x.requires_grad]
        found = found if isinstance(found, tuple) else (found,)
        return tuple(_Refused.apply(x, *sources) if isinstance(x, Tensor) and sources else x for x in found)

    return chosen


def swoosh_value(x: Tensor, shift: float, offset: float) -> Tensor:
    """Value of a swoosh in the type of `x`, without a graph."""
    wide = x.float()
    z = wide - shift
    value = torch.ops.aten.softplus.out(z, 1.0, LINEAR_ABOVE, out=z)
    return value.add_(wide, alpha=-SLOPE).sub_(offset).to(x.dtype)


def swoosh_slope(x: Tensor, shift: float) -> Tensor:
    """Derivative of a swoosh at `x`, in float32."""
    return (x.float() - shift).sigmoid_().sub_(SLOPE)


class _Swoosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, shift: float, offset: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.shift = shift
        return swoosh_value(x, shift, offset)

    @staticmethod
    @once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return swoosh_slope(x, ctx.shift).mul_(grad).to(x.dtype), None, None


class _SwooshLinear(torch.autograd.Function):
    """Keeps x and the small mask, and on a CPU the activation."""

    @staticmethod
    def forward(ctx, x, mask, weight, bias, shift: float, offset: float) -> Tensor:
        hidden = swoosh_value(x, shift, offset)
        if mask is not None:
            hidden.mul_(mask)
        ctx.save_for_backward(x, mask, weight, hidden if x.device.type == "cpu" else None)
        ctx.shift, ctx.offset = shift, offset
        return linear_value(hidden, weight, bias)

    @staticmethod
    @once
    def backward(ctx, grad: Tensor):
        x, mask, weight, hidden = ctx.saved_tensors
        slope = swoosh_slope(x, ctx.shift)
        if mask is not None:
            slope.mul_(mask)
        if hidden is None:
            hidden = swoosh_value(x, ctx.shift, ctx.offset)
            hidden = hidden if mask is None else hidden.mul_(mask)
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = slope.mul_(grad @ weight.to(grad.dtype)).to(x.dtype)
        grad_weight = rows.t() @ hidden.to(grad.dtype).reshape(-1, hidden.shape[-1])
        grad_bias = rows.sum(0).to(weight.dtype) if ctx.needs_input_grad[3] else None
        return grad_x, None, grad_weight.to(weight.dtype), grad_bias, None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:
        opened = gates.sigmoid()
        if keep is not None:
            opened.mul_(keep)
        ctx.save_for_backward(x, opened)
        return x * opened

    @staticmethod
    @once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, opened = ctx.saved_tensors  # where `keep` is 0 so is the gradient of the sigmoid, opened (1 - opened)
        return grad * opened, torch.ops.aten.sigmoid_backward(grad * x, opened), None


class _TanhGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gates: Tensor) -> Tensor:
        # libraries are slow at tanh and fast at its twin, the sigmoid
        bent = (gates.float() * 2.0).sigmoid_().mul_(2.0).sub_(1.0).to(gates.dtype)
        ctx.save_for_backward(x, bent)
        return x * bent

    @staticmethod
    @once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, bent = ctx.saved_tensors
        return grad * bent, torch.ops.aten.tanh_backward(grad * x, bent)


class _BiasNorm(torch.autograd.Function):
    """Keeps x and one number for each frame."""

    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        wide = x.float()
        inverse_rms = (wide - bias).square_().mean(-1, keepdim=True).rsqrt_()
        ctx.save_for_backward(x, bias, log_scale, inverse_rms)
        return wide * (inverse_rms * log_scale.exp())

    @staticmethod
    @once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, log_scale, inverse_rms = ctx.saved_tensors
        wide, grad = x.float(), grad.float()
        scale = inverse_rms * log_scale.exp()
        # per frame: the derivative of the output's inner product with `grad` by log(scale)
        pull = scale * (grad * wide).sum(-1, keepdim=True)
        through_rms = (wide - bias).mul_(pull * inverse_rms.square() / x.shape[-1])
        grad_bias = through_rms.flatten(0, -2).sum(0)
        grad_x = torch.addcmul(through_rms.neg_(), grad, scale)
        return grad_x.to(x.dtype), grad_bias, pull.sum().view_as(log_scale)


class _Bypass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, original: Tensor, new: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(original, new, scale)
        return torch.lerp(original, new.to(original.dtype), scale.to(original.dtype))

    @staticmethod
    @once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        original, new, scale = ctx.saved_tensors
        grad_new = grad * scale
        grad_scale = (new - original).mul_(grad).sum_to_size(scale.shape)
        return grad - grad_new, grad_new.to(new.dtype), grad_scale


def swoosh(x: Tensor, shift: float, offset: float) -> Tensor:  # noqa: D103
    return run(_Swoosh, x, shift, offset)


def swoosh_linear(x, mask, weight, bias, shift: float, offset: float) -> Tensor:  # noqa: D103
    return run(_SwooshLinear, x, mask, weight, bias, shift, offset)


def feed_forward(x, mask, weight, bias, out_weight, out_bias, shift: float, offset: float, modify) -> Tensor:  # noqa: D103
    return swoosh_linear(modify(linear(x, weight, bias)), mask, out_weight, out_bias, shift, offset)


def pointwise_feed_forward(x, weight, bias, out_weight, out_bias, shift: float, offset: float, modify) -> Tensor:
    """As matrix products: channels are innermost."""
    return feed_forward(x, None, weight.flatten(1), bias, out_weight.flatten(1), out_bias, shift, offset, modify)


def gate(x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:  # noqa: D103
    return run(_Gate, x, gates, keep)


def tanh_gate(x: Tensor, gates: Tensor) -> Tensor:  # noqa: D103
    return run(_TanhGate, x, gates)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Without a graph by the fastest library."""
    return F.linear(x, weight, bias) if torch.is_grad_enabled() else linear_value(x, weight, bias)


def bias_norm(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:  # noqa: D103
    return run(_BiasNorm, x, bias, log_scale)


def rows_of(x: Tensor) -> Tensor:
    """(N, T, C) whose rows lie at one distance: half of a projection does, anything else is copied."""
    even = x.stride(-1) == 1 and (x.shape[0] == 1 or x.stride(0) == x.shape[1] * x.stride(1))
    return x if even else x.clone(memory_format=torch.contiguous_format)  # an axis of one may have any stride


def bypass_fits(original: Tensor, new: Tensor, scale: Tensor, bias, log_scale, factor: int) -> bool:
    """Whether a kernel's shapes are given: nothing is broadcast but the scale."""
    items, frames, channels = original.shape if original.dim() == 3 else (0, 0, -1)
    fits = new.shape == (items, -(-frames // factor), channels) and scale.shape in ((channels,), (items, 1, channels))
    return fits and (bias is None or (bias.shape == (channels,) and log_scale.numel() == 1))


def bypass(original, new, scale, bias=None, log_scale=None, factor: int = 1) -> Tensor:  # noqa: D103
    new = new if bias is None else bias_norm(new, bias, log_scale)
    return run(_Bypass, original, repeat_frames(new, factor, original.shape[1]), scale)


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """As a two-dimensional channels-last convolution: nothing is transposed."""
    image = x.transpose(1, 2).unsqueeze(2)
    out = F.conv2d(image, weight.unsqueeze(2), bias, padding=(0, padding), groups=weight.shape[0])
    return out.squeeze(2).transpose(1, 2)


def image_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """A single channel as a 1x3 convolution of three channels, the three frames.

    Libraries are slow at a single channel; on a CPU this is four times as fast. Its output is channels-last, and so
    is everything computed from it.
    """
    if (*weight.shape[1:], *stride, padding[0]) != (1, 3, 3, 1, 1, 0):
        return F.conv2d(x, weight, bias, stride, padding)
    frames = torch.cat((x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]), dim=1).contiguous(memory_format=torch.channels_last)
    return F.conv2d(frames, weight.transpose(1, 2), bias, padding=padding)


def relative_to_absolute(scores: Tensor) -> Tensor:
    """View of (B, T, 2T-1), indexed by source - target + T - 1, as (B, T, T), indexed by source."""
    batch, num_frames, num_offsets = scores.shape
    strides = (num_frames * num_offsets, num_offsets - 1, 1)
    return scores.as_strided((batch, num_frames, num_frames), strides, scores.storage_offset() + num_frames - 1)


class _Scores(torch.autograd.Function):
    """Relative scores are twice as wide as absolute ones.

    On a CPU they are made a few matrices at a time, so that they stay in the cache; backward writes the gradient into
    the same skewed frame.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, p: Tensor, pos: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, p, pos)
        scores = torch.bmm(q, k.transpose(1, 2))
        for part in _parts(pos, q.shape[1]):
            scores[part] += relative_to_absolute(torch.bmm(p[part], pos[part]))
        return scores

    @staticmethod
    @once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, p, pos = ctx.saved_tensors
        grad_p, grad_pos = torch.empty_like(p), torch.empty_like(pos)
        relative: Tensor | None = None
        for part in _parts(pos, q.shape[1]):
            size = len(p[part])
            if relative is None:  # between the rows that are overwritten each time it stays zero
                relative = grad.new_zeros(size, q.shape[1], pos.shape[2])
            relative_to_absolute(relative[:size]).copy_(grad[part])
            grad_p[part] = torch.bmm(relative[:size], pos[part].transpose(1, 2))
            grad_pos[part] = torch.bmm(p[part].transpose(1, 2), relative[:size])
        return torch.bmm(grad, k), torch.bmm(grad.transpose(1, 2), q), grad_p, grad_pos


def _parts(pos: Tensor, num_frames: int) -> list[slice]:
    """The batch cut into slices whose relative scores fit in a cache; on other devices than a CPU, in one."""
    batch, _, num_offsets = pos.shape
    step = batch if pos.device.type != "cpu" else max(1, CACHED_SCORES // (num_frames * num_offsets))
    return [slice(start, start + step) for start in range(0, batch, step)]


class _Softmax(torch.autograd.Function):
    """A copy of the first head's weights spares the slice's backward, which would fill a whole gradient with zeros."""

    @staticmethod
    def forward(ctx, scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        biased = scores if bias is None else scores + bias
        weights = biased.softmax(-1, dtype=torch.float32).to(scores.dtype)
        ctx.save_for_backward(weights)
        ctx.set_materialize_grads(False)
        return weights, weights[0].clone()

    @staticmethod
    @once
    def backward(ctx, grad: Tensor | None, grad_first: Tensor | None) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        grad_scores = torch.zeros_like(weights) if grad is None else _softmax_backward(grad, weights)
        if grad_first is not None:
            grad_scores[0] += _softmax_backward(grad_first, weights[0])
        return grad_scores, None


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    wide = torch.ops.aten._softmax_backward_data(grad.float(), weights.float(), -1, torch.float32)
    return wide.to(weights.dtype)


def attention_scores(q: Tensor, k: Tensor, p: Tensor, pos: Tensor) -> Tensor:  # noqa: D103
    return run(_Scores, q, k, p, pos)


def attention_softmax(scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: D103
    return run(_Softmax, scores, bias)


def attention_weights(  # noqa: D103
    q: Tensor, k: Tensor, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int,
    penalty: ScorePenalty | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    q, k = by_head(q, num_heads), by_head(k, num_heads)
    if p is None:
        scores = torch.bmm(q, k.transpose(1, 2))
    else:
        scores = attention_scores(q, k, by_head(p, num_heads), pos.repeat_interleave(p.shape[0], dim=0))
    scores = scores if penalty is None else penalty(scores)
    return attention_softmax(scores.unflatten(0, (num_heads, -1)), bias)
