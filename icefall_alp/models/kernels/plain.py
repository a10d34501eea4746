# SPDX-License-Identifier: Apache-2.0
"""Each chain as its formula reads; autograd differentiates it. Zipformer, arXiv:2310.11230, section 3.

Shapes: N batch, T frames, C channels, B heads * items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

Number: TypeAlias = float | Tensor  # in a recorded step () on the device
Numbers: TypeAlias = Sequence[float] | Tensor

SLOPE = 0.08
TINY = 1e-20
# mean |x| of a unit Gaussian is sqrt(2/pi), so an rms of r belongs to a mean absolute value of r / 1.2533
RMS_PER_MEAN_ABS = 1.25331413732
# atanh(2p - 1) times this approximates the mean/deviation of a Gaussian that is positive with probability p
MEAN_PER_ATANH = 0.8139535143


class ScorePenalty(Protocol):
    """The identity on scores. The gradient of those above `limit` grows by `strength()`, that below -limit shrinks.

    Attributes:
        limit: of a score's absolute value.
        settings: the penalty; in a recorded step (1,) on the device, and 0 in a step without.
    """

    limit: float
    settings: Numbers

    def strength(self) -> Number:
        """The penalty times the scale of the loss, known in backward."""

    def __call__(self, scores: Tensor) -> Tensor:
        """Any shape."""


def swoosh(x: Tensor, shift: float, offset: float) -> Tensor:
    """log(1 + exp(x - shift)) - 0.08 x - offset, in float32; returned in the type of `x` (any shape)."""
    wide = x.float()
    return (torch.logaddexp(wide - shift, wide.new_zeros(())) - SLOPE * wide - offset).to(x.dtype)


def swoosh_linear(x: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, shift: float, offset: float) -> Tensor:
    """linear(mask * swoosh(x)): x (N, ..., C) with a dropout mask (N, 1, C), or None."""
    hidden = swoosh(x, shift, offset)
    return F.linear(hidden if mask is None else hidden * mask, weight, bias)


def feed_forward(
    x: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, out_weight: Tensor, out_bias: Tensor,
    shift: float, offset: float, modify: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """`swoosh_linear` of a linear layer of x (N, ..., C). `modify` is the identity but for gradients."""
    return swoosh_linear(modify(linear(x, weight, bias)), mask, out_weight, out_bias, shift, offset)


def pointwise_feed_forward(
    x: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor, out_bias: Tensor,
    shift: float, offset: float, modify: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """The same by convolutions of one pixel, without a mask."""
    return pointwise_conv(swoosh(modify(pointwise_conv(x, weight, bias)), shift, offset), out_weight, out_bias)


def gate(x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:
    """x sigmoid(gates), zero at padded frames: x and gates (N, T, C), `keep` (N, T, 1) 1 or 0, or None."""
    gated = x * gates.sigmoid()
    return gated if keep is None else gated * keep


def tanh_gate(x: Tensor, gates: Tensor) -> Tensor:
    """x tanh(gates), both (N, T, C)."""
    return x * gates.tanh()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b over the last axis."""
    return F.linear(x, weight, bias)


def bias_norm(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
    """x exp(log_scale) / rms(x - bias) over the last axis, in float32; no epsilon."""
    wide = x.float()
    return wide * (wide - bias).square().mean(-1, keepdim=True).rsqrt() * log_scale.exp()


def bypass(
    original: Tensor, new: Tensor, scale: Tensor, bias: Tensor | None = None, log_scale: Tensor | None = None,
    factor: int = 1,
) -> Tensor:  # fmt: skip
    """original + (new - original) scale, in the type of `original`: (N, T, C), scale (C,) or (N, 1, C).

    Where a bias (C,) is given, `new` goes through `bias_norm` first. Each of its frames (N, ceil(T / factor), C) stands
    for `factor` of the original's.
    """
    new = new if bias is None else bias_norm(new, bias, log_scale)
    new = repeat_frames(new, factor, original.shape[1])
    return (original + (new - original) * scale).to(original.dtype)


def repeat_frames(x: Tensor, factor: int, num_frames: int) -> Tensor:
    """Each frame `factor` times: (N, T, C) to (N, num_frames, C)."""
    return x if factor == 1 else x.repeat_interleave(factor, dim=1)[:, :num_frames]


def residual(x: Tensor, branch: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """x + keep branch, `keep` (N, 1, ...) or None, in the type of x; and the same as matrix products are to see it.

    Under autocast a form may give the second in the type of the products, which spares them a cast.
    """
    total = x + branch if keep is None else torch.addcmul(x, branch.to(x.dtype), keep)
    return total, total


def sum_groups(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of each group of frames: x (N, T, C), weights (N or 1, G, frames of a group) to (N, G, C)."""
    _, num_groups, factor = weights.shape
    missing = num_groups * factor - x.shape[1]
    grouped = (F.pad(x, (0, 0, 0, missing)) if missing else x).unflatten(1, (num_groups, factor))
    return (grouped * weights.unsqueeze(-1)).sum(2)


def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Of all tokens of a vocabulary: x (..., C), weight (V, C), bias (V,), V any number."""
    return F.linear(x, weight, bias)


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """Convolution of each channel over time: x (N, T, C), weight (C, 1, K)."""
    return F.conv1d(x.transpose(1, 2), weight, bias, padding=padding, groups=weight.shape[0]).transpose(1, 2)


def depthwise_image_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of each channel of images that keeps their size: x (N, T, F, C), weight (C, 1, K, K), K odd."""
    image, padding = x.permute(0, 3, 1, 2), weight.shape[-1] // 2
    return F.conv2d(image, weight, bias, padding=padding, groups=weight.shape[0]).permute(0, 2, 3, 1)


def image_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Convolution of images (N, C, T, F), channels innermost in memory where another form made them."""
    return F.conv2d(x, weight, bias, stride, padding)


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of one pixel over images with channels innermost: x (N, T, F, C), weight (D, C, 1, 1)."""
    return F.conv2d(x.permute(0, 3, 1, 2), weight, bias).permute(0, 2, 3, 1)


def relative_to_absolute(scores: Tensor) -> Tensor:
    """(B, T, 2T-1), indexed by source - target + T - 1, to (B, T, T), indexed by source."""
    num_frames = scores.shape[1]
    frames = torch.arange(num_frames, device=scores.device)
    index = frames.unsqueeze(0) - frames.unsqueeze(1) + num_frames - 1
    return scores.gather(2, index.expand(scores.shape[0], -1, -1))


def attention_scores(q: Tensor, k: Tensor, p: Tensor, pos: Tensor) -> Tensor:
    """q_t . k_s + p_t . pos_{s-t}: q, k (B, T, d), p (B, T, e), pos (B, e, 2T-1) to (B, T, T)."""
    return q @ k.transpose(1, 2) + relative_to_absolute(p @ pos)


def attention_softmax(scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax over sources in float32: (heads, N, T, T) and what hides sources to weights, and those of head 0."""
    weights = (scores if bias is None else scores + bias).softmax(-1, dtype=torch.float32).to(scores.dtype)
    return weights, weights[0]


def attention_weights(
    q: Tensor, k: Tensor, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int,
    penalty: ScorePenalty | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`attention_scores`, without positions where p is None, and `attention_softmax` over them.

    q, k and p are (N, T, heads * width), pos (heads, width, 2T-1). The penalty sees the scores (B, T, T).
    """
    q, k = by_head(q, num_heads), by_head(k, num_heads)
    if p is None:
        scores = q @ k.transpose(1, 2)
    else:
        scores = attention_scores(q, k, by_head(p, num_heads), pos.repeat_interleave(p.shape[0], dim=0))
    scores = scores if penalty is None else penalty(scores)
    return attention_softmax(scores.unflatten(0, (num_heads, -1)), bias)


def by_head(x: Tensor, num_heads: int) -> Tensor:
    """(N, T, heads * width) to (B, T, width)."""
    return x.unflatten(-1, (num_heads, -1)).permute(2, 0, 1, 3).flatten(0, 1)


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """Each head's values mixed by its weights: (heads, N, T, T) and (N, T, heads * width) to (N, T, heads * width)."""
    by_heads = values.unflatten(-1, (weights.shape[0], -1)).permute(2, 0, 1, 3)
    return (weights @ by_heads).permute(1, 2, 0, 3).flatten(2)


def balancer_gradient(x: Tensor, grad: Tensor, settings: Numbers, dim: int) -> Tensor:
    """`grad` and the gradient of the balancer's loss on `x`, scaled to a share of it; channels on axis `dim`.

    The loss of a channel is |m - clip(m, low, high)| + |log(clip(r, low, high) / r)|, m its mean over its standard
    deviation and r its root mean square; `settings` are the limits of m, those of r and the share, which may be 0.
    """
    low_mean, high_mean, low_rms, high_rms, grad_scale = settings
    others = [axis for axis in range(x.dim()) if axis != dim % x.dim()]
    with torch.enable_grad():
        leaf = x.detach().float().requires_grad_(True)
        mean, square = leaf.mean(others), leaf.square().mean(others)
        m, r = mean / (square - mean.square()).clamp(min=TINY).sqrt(), square.clamp(min=TINY).sqrt()
        loss = (m - m.clamp(low_mean, high_mean)).abs() + (r.clamp(low_rms, high_rms) / r).clamp(min=TINY).log().abs()
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
    slope = slope * (grad_scale / slope.square().mean(others, keepdim=True).sqrt().clamp(min=TINY))
    return (grad.float() + grad.float().abs() * slope).to(grad.dtype)


def whitening_metric(x: Tensor, num_groups: int) -> Tensor:
    """How far the covariance of each group of channels is from a multiple of the identity: 1 when white, else more."""
    channels = x.shape[-1]
    grouped = x.float().reshape(-1, num_groups, channels // num_groups).transpose(0, 1)
    centred = grouped - grouped.mean(1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred
    mean_diag = covariance.diagonal(dim1=1, dim2=2).sum() / channels
    return covariance.square().sum() / channels / (mean_diag.square() + TINY)


def whiten_gradient(
    x: Tensor, grad: Tensor, num_groups: int, limit: Number, grad_scale: Number
) -> tuple[Tensor, Tensor]:
    """`grad`, and where the metric of x (..., C) reaches `limit`, a step down it of `grad_scale` times grad's norm.

    Returns:
        The gradient and whether the limit was reached, a scalar on the device.
    """
    with torch.enable_grad():
        leaf = x.detach().float().requires_grad_(True)
        metric = whitening_metric(leaf, num_groups)
        (direction,) = torch.autograd.grad(metric, leaf)
    violated = metric.detach() >= limit
    step = direction * (grad_scale * grad.float().norm() / (direction.norm() + TINY))
    return torch.where(violated, grad + step.to(grad.dtype), grad), violated


def mean_over_deviation(positive: float) -> float:
    """Mean over standard deviation of activations of which the share `positive` is above zero (approximation)."""
    t = 2.0 * positive - 1.0
    return MEAN_PER_ATANH * 0.5 * (math.log(1.0 + t + 1e-10) - math.log(1.0 - t + 1e-10))
