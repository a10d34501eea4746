# SPDX-License-Identifier: Apache-2.0
"""A layer of BART's decoder, whose keys and values are computed apart from its queries.

Parameter names are BART's. Shapes: N captions, U tokens, S positions that are seen, C channels, H heads, D = C / H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KeysValues = tuple[Tensor, Tensor]  # each (N, H, S, D)


class Attention(nn.Module):
    """Multi-head attention whose keys and values can be computed apart from its queries."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def _split(self, hidden: Tensor) -> Tensor:
        return hidden.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def keys_values(self, source: Tensor) -> KeysValues:
        """Map (N, S, C) to keys and values."""
        return self._split(self.k_proj(source)), self._split(self.v_proj(source))

    def forward(
        self, hidden: Tensor, keys_values: KeysValues, mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend from (N, U, C): where `mask`, broadcast to (N, H, U, S), is true, or to what is not later."""
        queries = self._split(self.q_proj(hidden))
        attended = F.scaled_dot_product_attention(queries, *keys_values, attn_mask=mask, is_causal=is_causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each followed by addition and LayerNorm (post-norm)."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.dropout = dropout  # on the branches
        self.self_attn = Attention(dim, num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.encoder_attn = Attention(dim, num_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, feedforward_dim)
        self.fc2 = nn.Linear(feedforward_dim, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(
        self,
        hidden: Tensor,
        memory: KeysValues,
        memory_mask: Tensor,
        past: KeysValues | None,
        is_causal: bool,
        num_wanted: int | None,
    ) -> tuple[Tensor, KeysValues]:
        """Map (N, U, C) to the states of the first `num_wanted` positions (None: all).

        Args:
            hidden: (N, U, C).
            memory: keys and values of the audio, of N clips or of fewer with several captions each.
            memory_mask: (clips, 1, 1, T) bool, true where a frame is real.
            past: of the positions before these.
            is_causal: whether a position sees only itself and those before it.
            num_wanted: the other positions are only seen.

        Returns:
            (N, num_wanted, C), and the keys and values of all positions so far.
        """
        keys, values = self.self_attn.keys_values(hidden)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        hidden = hidden[:, :num_wanted]
        attended = self.self_attn(hidden, (keys, values), is_causal=is_causal)
        hidden = self.self_attn_layer_norm(hidden + self._drop(attended))
        # captions of one clip in a row, as beam search has them, are further queries to one memory
        queries = hidden.reshape(len(memory_mask), -1, hidden.size(2))
        heard = self.encoder_attn(queries, memory, memory_mask).view_as(hidden)
        hidden = self.encoder_attn_layer_norm(hidden + self._drop(heard))
        hidden = self.final_layer_norm(hidden + self._drop(self.fc2(F.gelu(self.fc1(hidden)))))
        return hidden, (keys, values)

    def _drop(self, branch: Tensor) -> Tensor:
        return F.dropout(branch, self.dropout, self.training)
