# SPDX-License-Identifier: Apache-2.0
"""Swoosh activations, and the linear layer that applies one to its input.

    SwooshL(x) = log(1 + exp(x - 4)) - 0.08 x - 0.035          derivative  sigmoid(x - 4) - 0.08
    SwooshR(x) = log(1 + exp(x - 1)) - 0.08 x - 0.313261687    derivative  sigmoid(x - 1) - 0.08

Always evaluated in float32. Zipformer, arXiv:2310.11230, section 3.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.models.zipformer.schedule import Scheduled, ScheduledModule

SLOPE = 0.08
LARGEST_EXPONENT = 80.0  # exp(80) is finite in float32, and log(1 + exp(z)) equals z long before


class _Swoosh(torch.autograd.Function):
    """log(1 + exp(x - shift)) - 0.08 x - offset."""

    @staticmethod
    def forward(ctx, x: Tensor, shift: float, offset: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.shift = shift
        return swoosh_value(x, shift, offset)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return swoosh_slope(x, ctx.shift).mul_(grad).to(x.dtype), None, None


def swoosh_value(x: Tensor, shift: float, offset: float) -> Tensor:
    """Value of a swoosh in the type of `x`.

    With c = offset this is log(exp(x - shift - c) + exp(-c)) - 0.08 x: no separate pass for the constants. In-place
    steps, and log(k + e) is far faster than log1p.
    """
    wide = x.float()
    z = wide - (shift + offset)
    value = z.clamp(max=LARGEST_EXPONENT).exp_().add_(math.exp(-offset)).log_()
    return torch.maximum(value, z, out=value).add_(wide, alpha=-SLOPE).to(x.dtype)


def swoosh_slope(x: Tensor, shift: float) -> Tensor:
    """Derivative of a swoosh at `x`, in float32."""
    return (x.float() - shift).sigmoid_().sub_(SLOPE)


class Swoosh(nn.Module):
    """A swoosh on its own."""

    shift: float
    offset: float

    def forward(self, x: Tensor) -> Tensor:
        """Apply to any shape."""
        return _Swoosh.apply(x, self.shift, self.offset)


class SwooshL(Swoosh):
    """For the modules that are "normally off": feed-forward and ConvNeXt."""

    shift, offset = 4.0, 0.035


class SwooshR(Swoosh):
    """For convolution modules and the frontend; passes through zero."""

    shift, offset = 1.0, 0.313261687


class _ActDropLinear(torch.autograd.Function):
    """linear(mask * swoosh(x)); keeps x and the small mask and computes the activation again in backward.

    On a CPU, where time is dearer than memory, the activation is kept too.
    """

    @staticmethod
    def forward(ctx, x, mask, weight, bias, shift: float, offset: float) -> Tensor:
        hidden = swoosh_value(x, shift, offset)
        if mask is not None:
            hidden.mul_(mask)
        ctx.save_for_backward(x, mask, weight, hidden if x.device.type == "cpu" else None)
        ctx.shift, ctx.offset = shift, offset
        return F.linear(hidden, weight, bias)

    @staticmethod
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
        return grad_x, None, grad_weight.to(weight.dtype), rows.sum(0).to(weight.dtype), None, None


class ActDropLinear(ScheduledModule):
    """linear(dropout(swoosh(x))) with the parameters of `nn.Linear`.

    The dropout mask (N, 1, C) is shared over time.
    """

    def __init__(
        self, in_dim: int, out_dim: int, activation: Swoosh, dropout_p: Scheduled, initial_scale: float
    ) -> None:
        super().__init__()
        linear = scaled_linear(in_dim, out_dim, initial_scale)
        self.weight, self.bias = linear.weight, linear.bias
        self.shift, self.offset = activation.shift, activation.offset
        self.dropout_p = dropout_p

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, in_dim) to (N, T, out_dim)."""
        mask = shared_dropout_mask(x, self.now(self.dropout_p)) if self.training else None
        return act_linear(x, self.weight, self.bias, self, mask)


def act_linear(x: Tensor, weight: Tensor, bias: Tensor, activation, mask: Tensor | None = None) -> Tensor:
    """linear(mask * swoosh(x)); `activation` has the constants of a swoosh."""
    return _ActDropLinear.apply(x, mask, weight, bias, activation.shift, activation.offset)


def shared_dropout_mask(x: Tensor, p: float) -> Tensor | None:
    """Inverted dropout mask (N, 1, C) for `x` (N, T, C), or None for p = 0."""
    if p == 0.0:
        return None
    return (torch.rand(x.shape[0], 1, x.shape[-1], device=x.device) >= p).to(x.dtype).div_(1.0 - p)


def scaled_linear(in_dim: int, out_dim: int, initial_scale: float, bias: bool = True) -> nn.Linear:
    """A linear layer whose first weights are `initial_scale` times PyTorch's, biases in ±0.1 of that scale."""
    return scale_initial(nn.Linear(in_dim, out_dim, bias=bias), initial_scale)


def scale_initial(layer: nn.Module, initial_scale: float) -> nn.Module:
    """Scale the fresh weights of a linear or convolution layer, draw its bias from ±0.1 of the scale."""
    with torch.no_grad():
        layer.weight.mul_(initial_scale)
        if layer.bias is not None:
            layer.bias.uniform_(-0.1 * initial_scale, 0.1 * initial_scale)
    return layer
