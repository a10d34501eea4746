# SPDX-License-Identifier: Apache-2.0
"""BiasNorm, the layer norm of Zipformer.

    y = s x,   s = exp(log_scale) * mean_c((x_c - bias_c)^2)^(-1/2)

There is no epsilon, and the bias is used inside the root mean square only. arXiv:2310.11230, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.regularizers import LimitedModule


class BiasNorm(LimitedModule):
    """Normalisation over the last axis; output in float32."""

    log_scale_limits = (-1.5, 1.5)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(1e-4 * torch.randn(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to the same shape."""
        log_scale = self.limited(self.log_scale, *self.log_scale_limits)
        return chains.bias_norm(x, self.bias, log_scale)
