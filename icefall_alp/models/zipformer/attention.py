# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention split in two: weights computed once for each layer, and the three modules that use them.

arXiv:2310.11230, sections 3.1 and 4 of its appendix. Scores are not divided by the square root of the head width.
"""

from __future__ import annotations

from torch import Tensor, nn

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.activations import Linear, scaled_linear
from icefall_alp.models.zipformer.regularizers import Balancer, Whiten, abs_penalty, decide
from icefall_alp.models.zipformer.schedule import ScheduledModule, schedule

SCORE_LIMIT, SCORE_PENALTY, SCORE_PENALTY_PROB = 25.0, 1e-4, 0.1


class AttentionWeights(ScheduledModule):
    """Softmax over sources of content and relative-position scores."""

    def __init__(self, dim: int, pos_dim: int, num_heads: int, query_head_dim: int, pos_head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.query_head_dim, self.pos_head_dim = num_heads, query_head_dim, pos_head_dim
        width = num_heads * (2 * query_head_dim + pos_head_dim)
        self.in_proj = scaled_linear(dim, width, query_head_dim**-0.25)
        self.linear_pos = scaled_linear(pos_dim, num_heads * pos_head_dim, 0.05, bias=False)
        self.pos_emb_skip_rate = schedule((0, 0.5), (4000, 0.0))
        self.balance_keys = Balancer(0.4, 0.6, 0.0, 100.0, prob=0.025)
        self.whiten_keys = Whiten(schedule((0, 3.0), (20000, 6.0), default=3.0), 0.025, num_groups=num_heads)

    def forward(self, x: Tensor, pos_emb: Tensor, score_bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attention weights.

        Args:
            x: (N, T, dim).
            pos_emb: table (2T-1, pos_dim).
            score_bias: what hides sources, see `Context`, or None.

        Returns:
            Weights (heads, N, target T, source T), each row summing to one, exactly zero at hidden sources, and those
            of the first head again (N, T, T).
        """
        width = self.num_heads * self.query_head_dim
        q, k, p = self.in_proj(x).split((width, width, self.num_heads * self.pos_head_dim), dim=-1)
        k = self.whiten_keys(self.balance_keys(k))
        p, pos = self._positions(p, pos_emb)
        penalty = abs_penalty(self, q, SCORE_LIMIT, SCORE_PENALTY, SCORE_PENALTY_PROB)
        return chains.attention_weights(q, k, p, pos, score_bias, self.num_heads, penalty)

    def _positions(self, p: Tensor, pos_emb: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Position queries (N, T, heads * d) and keys (heads, d, 2T-1), or None twice where they are left out."""
        left_out = self.training and decide(self, self.pos_emb_skip_rate)
        if left_out is True:
            return None, None
        pos = self.linear_pos(pos_emb).t().unflatten(0, (self.num_heads, self.pos_head_dim))
        return p, pos if left_out is False else pos.masked_fill(left_out, 0.0)


class SelfAttention(nn.Module):
    """Heads mix values of all frames by given weights."""

    def __init__(self, dim: int, num_heads: int, value_head_dim: int) -> None:
        super().__init__()
        self.in_proj = Linear(dim, num_heads * value_head_dim)
        self.out_proj = scaled_linear(num_heads * value_head_dim, dim, 0.05)
        self.whiten = Whiten(schedule((0, 7.5), (20000, 22.5), default=7.5))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """(N, T, dim) and weights (heads, N, T, T) to (N, T, dim)."""
        return self.whiten(self.out_proj(chains.mix(weights, self.in_proj(x))))


class NonlinAttention(nn.Module):
    """Gated mixing by the weights of the first head."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_proj = Linear(dim, 3 * hidden_dim)
        self.balancer = Balancer(
            min_positive=schedule((0, 0.25), (20000, 0.05)),
            max_positive=schedule((0, 0.75), (20000, 0.95)),
            min_abs=0.5,
            max_abs=5.0,
        )
        self.whiten1 = Whiten(schedule((0, 5.0), (20000, 10.0), default=5.0))
        self.out_proj = scaled_linear(hidden_dim, dim, 0.05)
        self.whiten2 = Whiten(schedule((0, 5.0), (20000, 15.0), default=5.0))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """(N, T, dim) and weights (N, T, T) to (N, T, dim)."""
        s, v, y = self.in_proj(x).chunk(3, dim=-1)
        gated = chains.tanh_gate(self.whiten1(v), self.balancer(s))
        return self.whiten2(self.out_proj((weights @ gated) * y))
