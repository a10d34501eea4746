# SPDX-License-Identifier: Apache-2.0
"""Convolution module: gate, depthwise convolution over time, SwooshR, linear."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.activations import ActDropLinear, Linear, SwooshR
from icefall_alp.models.zipformer.regularizers import Balancer, Whiten
from icefall_alp.models.zipformer.schedule import schedule


def depthwise_conv(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """`conv`, one filter for each channel, over the time axis of (N, T, C)."""
    return chains.depthwise_conv(x, conv.weight, conv.bias, conv.padding[0])


class ChunkCausalConv(nn.Module):
    """Depthwise convolution that looks at the past freely and ahead only inside its own chunk."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        half = (kernel + 1) // 2
        self.causal_conv = nn.Conv1d(dim, dim, half, groups=dim)
        self.chunkwise_conv = nn.Conv1d(dim, dim, kernel, groups=dim, padding=kernel // 2)
        self.chunkwise_conv_scale = nn.Parameter(torch.zeros(2, dim, kernel))

    def forward(self, x: Tensor, chunk_size: int) -> Tensor:
        """(N, T, C) to the same; a chunk size of -1 means one chunk."""
        num_items, num_frames, dim = x.shape
        if chunk_size < 0 or chunk_size > num_frames:
            chunk_size = num_frames
        left = self.causal_conv.kernel_size[0] - 1
        past = depthwise_conv(F.pad(x, (0, 0, left, 0)), self.causal_conv)
        num_chunks = -(-num_frames // chunk_size)
        chunks = F.pad(x, (0, 0, 0, num_chunks * chunk_size - num_frames)).view(-1, chunk_size, dim)
        inside = depthwise_conv(chunks, self.chunkwise_conv) * self._edge_scale(chunk_size)
        return past + inside.reshape(num_items, -1, dim)[:, :num_frames]

    def _edge_scale(self, chunk_size: int) -> Tensor:
        """One plus the learnt corrections near the chunk's edges: (chunk, C)."""
        left, right = self.chunkwise_conv_scale[:, :, :chunk_size], self.chunkwise_conv_scale[:, :, -chunk_size:]
        missing = chunk_size - left.shape[-1]
        return (1.0 + F.pad(left[0], (0, missing)) + F.pad(right[1], (missing, 0))).t()


class ConvModule(nn.Module):
    """(N, T, dim) to (N, T, dim)."""

    def __init__(self, dim: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.in_proj = Linear(dim, 2 * dim)
        self.balancer1 = Balancer(
            min_positive=schedule((0, 0.05), (8000, 0.025)),
            max_positive=1.0,
            min_abs=1.5,
            max_abs=schedule((0, 5.0), (8000, 10.0), default=1.0),
        )
        if causal:
            self.depthwise_conv = ChunkCausalConv(dim, kernel)
        else:
            self.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.balancer2 = Balancer(
            min_positive=schedule((0, 0.1), (8000, 0.05)),
            max_positive=1.0,
            min_abs=schedule((0, 0.2), (20000, 0.5)),
            max_abs=10.0,
        )
        self.whiten = Whiten(schedule((0, 7.5), (20000, 15.0), default=7.5))
        self.out_proj = ActDropLinear(dim, dim, SwooshR, initial_scale=0.05)

    def forward(self, x: Tensor, keep: Tensor | None, chunk_size: int) -> Tensor:
        """Padded frames (0 in `keep` (N, T, 1)) count as zeros for the convolution."""
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        x = chains.gate(x, self.balancer1(gate), keep)
        if isinstance(self.depthwise_conv, ChunkCausalConv):
            x = self.depthwise_conv(x, chunk_size)
        else:
            x = depthwise_conv(x, self.depthwise_conv)
        return self.out_proj(self.whiten(self.balancer2(x)))
