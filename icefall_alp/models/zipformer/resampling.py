# SPDX-License-Identifier: Apache-2.0
"""Changes of frame rate and of width between the stacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.models.kernels import chains


class Downsample(nn.Module):
    """Learnt weighted mean of each `factor` neighbouring frames: out[j] = sum_i softmax(bias)_i x[j factor + i].

    The last group is filled up with the last frame: each item's own last valid frame if its length is given (then
    what is behind it does not matter, and groups wholly behind it become zero), else the last frame of the batch.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, *pieces: Tensor, lens: Tensor | None = None) -> Tensor:
        """(N, T, C), or its channels in several pieces, and valid lengths (N,) or None, to (N, ceil(T / factor), C)."""
        num_frames, device = pieces[0].shape[1], pieces[0].device
        num_groups = -(-num_frames // self.bias.numel())
        if lens is None:
            lens = torch.full((1,), num_frames, device=device)
        weights = self._frame_weights(num_groups, lens)
        sums = [chains.sum_groups(piece, weights) for piece in pieces]
        return sums[0] if len(sums) == 1 else torch.cat(sums, dim=-1)

    def _frame_weights(self, num_groups: int, lens: Tensor) -> Tensor:
        """Weight of every frame (N, groups, factor); the last valid one has those of its repetitions too."""
        factor = self.bias.numel()
        weights = self.bias.softmax(0)
        from_here_on = weights.flip(0).cumsum(0).flip(0)
        frames = torch.arange(num_groups * factor, device=lens.device).view(num_groups, factor)
        remaining = lens.view(-1, 1, 1) - 1 - frames
        return torch.where(remaining > 0, weights, torch.where(remaining == 0, from_here_on, 0.0))


def convert_channels(x: Tensor, dim: int) -> Tensor:
    """Cut channels off or add zeros: (..., C) to (..., dim)."""
    return x[..., :dim] if x.shape[-1] >= dim else F.pad(x, (0, dim - x.shape[-1]))


def widest(outputs: list[Tensor]) -> list[Tensor]:
    """The last stack's output, then the channels that it lacks, from the latest earlier stacks that have them."""
    pieces = [outputs[-1]]
    width = outputs[-1].shape[-1]
    for output in reversed(outputs[:-1]):
        if output.shape[-1] > width:
            pieces.append(output[..., width:])
            width = output.shape[-1]
    return pieces
