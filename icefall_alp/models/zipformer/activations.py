# SPDX-License-Identifier: Apache-2.0
"""Swoosh activations, and the linear layer that applies one to its input.

    SwooshL(x) = log(1 + exp(x - 4)) - 0.08 x - 0.035          derivative  sigmoid(x - 4) - 0.08
    SwooshR(x) = log(1 + exp(x - 1)) - 0.08 x - 0.313261687    derivative  sigmoid(x - 1) - 0.08

Always evaluated in float32. Zipformer, arXiv:2310.11230, section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels import chains


class Swoosh(nn.Module):
    """A swoosh on its own."""

    shift: float
    offset: float

    def forward(self, x: Tensor) -> Tensor:
        """Apply to any shape."""
        return chains.swoosh(x, self.shift, self.offset)


class SwooshL(Swoosh):
    """For the modules that are "normally off": feed-forward and ConvNeXt."""

    shift, offset = 4.0, 0.035


class SwooshR(Swoosh):
    """For convolution modules and the frontend; passes through zero."""

    shift, offset = 1.0, 0.313261687


class ActDropLinear(nn.Module):
    """linear(dropout(swoosh(x))) with the parameters of `nn.Linear`.

    The dropout mask (N, 1, C), shared over time, is given; None drops nothing.
    """

    def __init__(self, in_dim: int, out_dim: int, activation: type[Swoosh], initial_scale: float) -> None:
        super().__init__()
        linear = scaled_linear(in_dim, out_dim, initial_scale)
        self.weight, self.bias = linear.weight, linear.bias
        self.shift, self.offset = activation.shift, activation.offset

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, T, in_dim) to (N, T, out_dim)."""
        return chains.swoosh_linear(x, mask, self.weight, self.bias, self.shift, self.offset)


class Linear(nn.Linear):
    """The linear layer of all modules here."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_dim) to (..., out_dim)."""
        return chains.linear(x, self.weight, self.bias)


def scaled_linear(in_dim: int, out_dim: int, initial_scale: float, bias: bool = True) -> Linear:
    """A linear layer whose first weights are `initial_scale` times PyTorch's, biases in ±0.1 of that scale."""
    return scale_initial(Linear(in_dim, out_dim, bias=bias), initial_scale)


def scale_initial(layer: nn.Module, initial_scale: float) -> nn.Module:
    """Scale the fresh weights of a linear or convolution layer, draw its bias from ±0.1 of the scale."""
    with torch.no_grad():
        layer.weight.mul_(initial_scale)
        if layer.bias is not None:
            layer.bias.uniform_(-0.1 * initial_scale, 0.1 * initial_scale)
    return layer
