# SPDX-License-Identifier: Apache-2.0
"""Gradients of Balancer and Whiten in closed form: what `plain` differentiates, in few passes over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from icefall_alp.models.kernels.plain import TINY, Number, Numbers

FREE_TO_LOOK = ("cpu",)  # on any other device reading a number is waiting


def balancer_gradient(x: Tensor, grad: Tensor, settings: Numbers, dim: int) -> Tensor:
    """The loss has, per channel, a gradient that is a straight line in x."""
    wide = x.float()
    intercept, slope = balancer_line(wide, settings, dim)
    return torch.addcmul(intercept, slope, wide).mul_(grad.float().abs()).add_(grad).to(grad.dtype)


def balancer_line(x: Tensor, settings: Numbers, dim: int) -> tuple[Tensor, Tensor]:
    """Scaled intercept and slope of the balancer loss's gradient, as a function of x, for each channel."""
    others = [axis for axis in range(x.dim()) if axis != dim % x.dim()]
    mean = x.mean(others, keepdim=True)
    square = x.square().mean(others, keepdim=True)
    return line_from_moments(mean, square, settings)


def line_from_moments(mean: Tensor, square: Tensor, settings: Numbers) -> tuple[Tensor, Tensor]:
    """`balancer_line` from the mean of x and that of its square."""
    low_mean, high_mean, low_rms, high_rms, grad_scale = settings
    raw_var = square - mean.square()
    var = raw_var.clamp(min=TINY)
    std, rms = var.sqrt(), square.clamp(min=TINY).sqrt()
    side = _outside(mean / std, low_mean, high_mean) / std
    # where a floor is active its value is a constant, and what would differentiate through it vanishes
    bend = torch.where(raw_var > TINY, side * mean / var, 0.0)
    size = torch.where(square > TINY, _outside(rms, low_rms, high_rms) / rms.square(), 0.0)
    intercept, slope = side + bend * mean, size - bend
    loss_rms = ((intercept + slope * mean).square() + slope.square() * (square - mean.square()).clamp(min=0.0)).sqrt()
    scale = grad_scale / loss_rms.clamp(min=TINY)
    return intercept * scale, slope * scale


def _outside(value: Tensor, low: Number, high: Number) -> Tensor:
    """1 above the interval, -1 below, 0 inside."""
    return (value > high).to(value.dtype) - (value < low).to(value.dtype)


def whiten_gradient(
    x: Tensor, grad: Tensor, num_groups: int, limit: Number, grad_scale: Number
) -> tuple[Tensor, Tensor]:
    """The metric's gradient is the centred activations times their scatter less a multiple of the identity."""
    channels = x.shape[-1]
    grouped = x.float().reshape(-1, num_groups, channels // num_groups).transpose(0, 1)
    centred = grouped - grouped.mean(1, keepdim=True)
    scatter = centred.transpose(1, 2) @ centred
    mean_diag = scatter.diagonal(dim1=1, dim2=2).sum() / channels
    metric = scatter.square().sum() / channels / (mean_diag.square() + TINY)
    violated = metric >= limit
    if x.device.type in FREE_TO_LOOK and not violated:
        return grad, violated
    scatter.diagonal(dim1=1, dim2=2).sub_(metric * mean_diag)
    direction = centred @ scatter
    scale = torch.where(violated, grad_scale * grad.float().norm() / (direction.norm() + TINY), 0.0)
    return grad + (direction.transpose(0, 1).reshape(grad.shape) * scale).to(grad.dtype), violated
