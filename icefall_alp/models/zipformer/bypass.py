# SPDX-License-Identifier: Apache-2.0
"""The learnt bypass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.regularizers import limit_param
from icefall_alp.models.zipformer.schedule import ScheduledModule, schedule


class Bypass(ScheduledModule):
    """original + (new - original) * scale, with one learnt scale for each channel.

    In training, gradients are turned around that would push a scale out of [scale_min, 1]. arXiv:2310.11230, section
    3.1.
    """

    scale_max = 1.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((dim,), 0.5))
        self.scale_min = schedule((0, 0.9), (20000, 0.2))

    def forward(self, original: Tensor, new: Tensor, keep: Tensor | None = None) -> Tensor:
        """Two tensors (N, T, dim) to one; `keep` (N, 1, 1) is 0 for sequences that take `original`."""
        scale = limit_param(self, self.bypass_scale, self.now(self.scale_min), self.scale_max)
        if keep is not None:
            scale = scale * keep
        return chains.bypass(original, new, scale)
