# SPDX-License-Identifier: Apache-2.0
"""BiasNorm, the layer norm of Zipformer.

    y = s x,   s = exp(log_scale) * mean_c((x_c - bias_c)^2)^(-1/2)

There is no epsilon, and the bias is used inside the root mean square only. arXiv:2310.11230, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.activations import bare
from icefall_alp.models.zipformer.regularizers import limit_param
from icefall_alp.models.zipformer.schedule import ScheduledModule


class BiasNorm(ScheduledModule):
    """Normalisation over the last axis; output in float32."""

    log_scale_min, log_scale_max = -1.5, 1.5

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(1e-4 * torch.randn(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to the same shape."""
        return chains.bias_norm(x, *self.parameters_in_limits())

    def parameters_in_limits(self) -> tuple[Tensor, Tensor]:
        """Bias (dim,) and log_scale (); now and then a gradient that leads out of the latter's limits is turned."""
        return self.bias, limit_param(self, self.log_scale, self.log_scale_min, self.log_scale_max)


def left_to_do(norm: nn.Module | None, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x, bias and log_scale for a chain that does more than a norm; or y alone, where there is none or it is called."""
    if norm is None:
        return x, None, None
    return (x, *norm.parameters_in_limits()) if bare(norm, BiasNorm) else (norm(x), None, None)
