# SPDX-License-Identifier: Apache-2.0
"""Frames to one vector per clip: masked mean, or multi-head attention with one learned query.

Shapes: N clips, T frames, C channels. Frames past a clip's length never count.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.utils.errors import UserError


def valid_frames(lens: Tensor, num_frames: int) -> Tensor:
    """Return the mask (N, T) bool that is true where a frame belongs to its clip."""
    return torch.arange(num_frames, device=lens.device) < lens[:, None]


def masked_mean(frames: Tensor, lens: Tensor) -> Tensor:
    """Average the valid frames of each clip, in float32 or better.

    Args:
        frames: (N, T, C).
        lens: (N,) number of valid frames, at least 1.

    Returns:
        (N, C).
    """
    frames = frames.to(torch.promote_types(frames.dtype, torch.float32))
    padding = ~valid_frames(lens, frames.size(1))
    return frames.masked_fill(padding[..., None], 0.0).sum(dim=1) / lens[:, None]


class MeanPooling(nn.Module):
    """The masked mean over time."""

    def forward(self, frames: Tensor, lens: Tensor) -> Tensor:
        """Map frames (N, T, C) and lens (N,) to (N, C)."""
        return masked_mean(frames, lens)


class AttentionPooling(nn.Module):
    """Pooling by multi-head attention (Set Transformer, Lee et al. 2019, Eq. 11) with a single seed query S.

    H = LayerNorm(S + Multihead(S, Z, Z)); output = LayerNorm(H + ReLU(H W + b)), where Z are the frames. As in the
    authors' code, Z enters the attention without a feed-forward layer of its own.

    Raises:
        UserError: `num_heads` does not divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int = 8):
        super().__init__()
        if dim % num_heads:
            raise UserError(f"attention pooling: {num_heads} heads do not divide {dim} channels; choose a divisor")
        self.seed = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, dim)))
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(dim)
        self.feedforward = nn.Linear(dim, dim)
        self.output_norm = nn.LayerNorm(dim)

    def forward(self, frames: Tensor, lens: Tensor) -> Tensor:
        """Map frames (N, T, C) and lens (N,) to (N, C)."""
        padding = ~valid_frames(lens, frames.size(1))
        seed = self.seed.expand(frames.size(0), -1, -1)
        attended, _ = self.attention(seed, frames, frames, key_padding_mask=padding, need_weights=False)
        hidden = self.attention_norm(seed + attended)
        return self.output_norm(hidden + self.feedforward(hidden).relu()).squeeze(1)
