# SPDX-License-Identifier: Apache-2.0
"""The identity in forward, in backward a change of the gradient: the nodes of the graph behind all regularisers.

Settings are numbers or, in a recorded step, lie on the device, where zeros change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from icefall_alp.models.kernels import chains
from icefall_alp.models.kernels.plain import Number, Numbers


class _LimitParam(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, settings: Numbers) -> Tensor:
        ctx.save_for_backward(x)
        ctx.settings = settings
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        low, high, turn = ctx.settings
        outwards = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return torch.where(outwards, grad * (1.0 - 2.0 * turn), grad), None


def limit_param(x: Tensor, settings: Numbers) -> Tensor:
    """Gradients that lead x (any shape) further out of [settings[0], settings[1]] turn around, if settings[2] is 1."""
    return _LimitParam.apply(x, settings)


class _ScaleGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.alpha, None


def scale_grad(x: Tensor, alpha: float) -> Tensor:
    """The gradient of x (any shape) times alpha."""
    return _ScaleGrad.apply(x, alpha)


class _PenalizeAbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, penalty: AbsPenalty) -> Tensor:
        # one byte for each element is kept, not x
        ctx.save_for_backward((x > penalty.limit).to(torch.int8) - (x < -penalty.limit).to(torch.int8))
        ctx.penalty = penalty
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (sign,) = ctx.saved_tensors
        return torch.add(grad, sign.to(grad.dtype) * ctx.penalty.strength()), None


@dataclass(frozen=True)
class AbsPenalty:
    """A `plain.ScorePenalty`.

    Attributes:
        limit, settings: as there.
        loss_scale: asked in backward for what the summed loss is multiplied by.
    """

    limit: float
    settings: Numbers
    loss_scale: Callable[[], Number]

    def strength(self) -> Number:
        """The penalty times the scale of the loss."""
        return self.settings[0] * self.loss_scale()

    def __call__(self, scores: Tensor) -> Tensor:
        """Any shape."""
        return _PenalizeAbs.apply(scores, self)


class _Balance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, settings: Numbers, dim: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.settings, ctx.dim = settings, dim
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return chains.balancer_gradient(x, grad, ctx.settings, ctx.dim), None, None


def balance(x: Tensor, settings: Numbers, dim: int) -> Tensor:
    """The gradient as `plain.balancer_gradient` makes it."""
    return _Balance.apply(x, settings, dim)


class _Whiten(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, num_groups: int, settings: Numbers, tell: Callable[[Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.num_groups, ctx.settings, ctx.tell = num_groups, settings, tell
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        grad, violated = chains.whiten_gradient(x, grad, ctx.num_groups, *ctx.settings)
        ctx.tell(violated)
        return grad, None, None, None


def whiten(x: Tensor, num_groups: int, settings: Numbers, tell: Callable[[Tensor], None]) -> Tensor:
    """The gradient as `plain.whiten_gradient` makes it; backward tells whether the limit was reached, on the device."""
    return _Whiten.apply(x, num_groups, settings, tell)
