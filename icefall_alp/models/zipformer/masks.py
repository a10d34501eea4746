# SPDX-License-Identifier: Apache-2.0
"""What each frame may see: padding, and chunks of the causal option."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MASKED_SCORE = -1e9  # added to a score: the weight becomes exactly zero


@dataclass(frozen=True)
class Context:
    """Visibility at one frame rate.

    Attributes:
        keep: 1 at valid and 0 at padded frames (N, T, 1), or None if no frame is padded.
        score_bias: `MASKED_SCORE` at sources that attention must not see, else 0, broadcastable to (N, T, T); or None.
        chunk_size: frames of a chunk of the causal convolutions, -1 for the whole clip.
    """

    keep: Tensor | None
    score_bias: Tensor | None
    chunk_size: int

    @staticmethod
    def build(padding: Tensor | None, hidden: Tensor | None, chunk_size: int) -> Context:
        """Join padding (N, T) and the chunk mask (T, T) of one frame rate, both True at what is hidden."""
        keep = None
        if padding is not None:
            keep = (~padding).float().unsqueeze(2)
            hidden = padding.unsqueeze(1) if hidden is None else padding.unsqueeze(1) | hidden
        return Context(keep, None if hidden is None else hidden * MASKED_SCORE, chunk_size)


def padding_mask(lens: Tensor, num_frames: int) -> Tensor:
    """True at and after each length: (N,) to (N, num_frames)."""
    return torch.arange(num_frames, device=lens.device) >= lens.unsqueeze(1)


def chunk_mask(num_frames: int, chunk_size: int, left_chunks: int, device: torch.device) -> Tensor:
    """True where target (row) must not see source (column): later chunks, and those `left_chunks` before (-1: none)."""
    chunk = torch.arange(num_frames, device=device) // chunk_size
    source, target = chunk.unsqueeze(0), chunk.unsqueeze(1)
    hidden = source > target
    return hidden if left_chunks < 0 else hidden | (source < target - left_chunks)
