# SPDX-License-Identifier: Apache-2.0
"""BiasNorm, the layer norm of Zipformer, with its gradient in closed form.

    y = s x,   s = exp(log_scale) * mean_c((x_c - bias_c)^2)^(-1/2)

There is no epsilon, and the bias is used inside the root mean square only. arXiv:2310.11230, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.zipformer.regularizers import limit_param


class _BiasNorm(torch.autograd.Function):
    """Keeps x and one number for each frame."""

    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        wide = x.float()
        inverse_rms = (wide - bias).square_().mean(-1, keepdim=True).rsqrt_()
        ctx.save_for_backward(x, bias, log_scale, inverse_rms)
        return wide * (inverse_rms * log_scale.exp())

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, log_scale, inverse_rms = ctx.saved_tensors
        wide, grad = x.float(), grad.float()
        scale = inverse_rms * log_scale.exp()
        # per frame: the derivative of the output's inner product with `grad` by log(scale)
        pull = scale * (grad * wide).sum(-1, keepdim=True)
        through_rms = (wide - bias).mul_(pull * inverse_rms.square() / x.shape[-1])
        grad_bias = through_rms.flatten(0, -2).sum(0)
        grad_x = torch.addcmul(through_rms.neg_(), grad, scale)
        return grad_x.to(x.dtype), grad_bias, pull.sum()


class BiasNorm(nn.Module):
    """Normalisation over the last axis; output in float32."""

    log_scale_min, log_scale_max = -1.5, 1.5

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(1e-4 * torch.randn(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to the same shape."""
        log_scale = limit_param(self, self.log_scale, self.log_scale_min, self.log_scale_max)
        return _BiasNorm.apply(x, self.bias, log_scale)
