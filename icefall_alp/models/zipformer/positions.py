# SPDX-License-Identifier: Apache-2.0
"""Relative positional table with a logarithmically compressed offset.

For the integer offset o (source minus target), P columns and L = sqrt(P):

    theta = atan(2 pi / P * L sign(o) (ln(|o| + L) - ln L)),   columns cos(theta k), sin(theta k) for k = 1 .. P/2,

the last column being replaced by ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def positional_table(num_frames: int, dim: int, left_context: int = 0) -> Tensor:
    """Rows for the offsets -(num_frames + left_context - 1) .. num_frames - 1, in float32: (rows, dim)."""
    offsets = torch.arange(-(num_frames + left_context - 1), num_frames, dtype=torch.float32)
    length = math.sqrt(dim)
    compressed = length * offsets.sign() * ((offsets.abs() + length).log() - math.log(length))
    theta = (compressed / (dim / (2.0 * math.pi))).atan()
    angles = theta.unsqueeze(1) * torch.arange(1, dim // 2 + 1)
    table = torch.stack((angles.cos(), angles.sin()), dim=2).flatten(1)
    table[:, -1] = 1.0
    return table


class RelativePositions(nn.Module):
    """Gives the table for T frames, cut out of the longest one made so far; dropout in training."""

    dropout_p = 0.15

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.table = positional_table(1, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Table (2 T - 1, dim) for `x` (N, T, C)."""
        num_frames = x.shape[1]
        if 2 * num_frames - 1 > self.table.shape[0] or self.table.device != x.device:
            self.table = positional_table(num_frames, self.dim).to(x.device)
        centre = self.table.shape[0] // 2
        rows = self.table[centre - num_frames + 1 : centre + num_frames]
        return F.dropout(rows, self.dropout_p, self.training)
