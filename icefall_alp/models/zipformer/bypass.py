# SPDX-License-Identifier: Apache-2.0
"""The learnt bypass of a layer or of a stack at a lower frame rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.joined import left_to_do
from icefall_alp.models.zipformer.regularizers import LimitedModule
from icefall_alp.models.zipformer.schedule import schedule


class Bypass(LimitedModule):
    """original + (new - original) * scale, with one learnt scale for each channel.

    In training, gradients are turned around that would push a scale out of [scale_min, 1]. arXiv:2310.11230, section
    3.1.
    """

    scale_max = 1.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((dim,), 0.5))
        self.scale_min = schedule((0, 0.9), (20000, 0.2))

    def forward(
        self, original: Tensor, new: Tensor, keep: Tensor | None = None, norm: nn.Module | None = None, factor: int = 1
    ) -> Tensor:
        """Two tensors to one.

        Args:
            original: (N, T, dim).
            new: (N, ceil(T / factor), dim), each frame for `factor` of the original's.
            keep: (N, 1, 1), 0 for sequences that take `original`; or None.
            norm: what `new` goes through first.
            factor: between the frame rates.
        """
        new, bias, log_scale = left_to_do(norm, new)
        scale = self.limited(self.bypass_scale, self.scale_min, self.scale_max)
        scale = scale if keep is None else scale * keep
        return chains.bypass(original, new, scale, bias, log_scale, factor)
