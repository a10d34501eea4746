# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention split in two: weights computed once for each layer, and the three modules that use them.

arXiv:2310.11230, sections 3.1 and 4 of its appendix. Scores are not divided by the square root of the head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.zipformer.activations import scaled_linear
from icefall_alp.models.zipformer.regularizers import Balancer, Whiten, fires, penalize_abs
from icefall_alp.models.zipformer.schedule import ScheduledModule, schedule

CACHED_SCORES = 2**19  # numbers
SCORE_LIMIT, SCORE_PENALTY, SCORE_PENALTY_PROB = 25.0, 1e-4, 0.1


def relative_to_absolute(scores: Tensor) -> Tensor:
    """View of (B, T, 2T-1), indexed by source - target + T - 1, as (B, T, T), indexed by source."""
    batch, num_frames, num_offsets = scores.shape
    strides = (num_frames * num_offsets, num_offsets - 1, 1)
    return scores.as_strided((batch, num_frames, num_frames), strides, scores.storage_offset() + num_frames - 1)


class _Scores(torch.autograd.Function):
    """q_t . k_s + p_t . pos_{s-t} for a batch of B = heads * items matrices.

    Relative scores are twice as wide as absolute ones. On a CPU they are made a few matrices at a time, so that they
    stay in the cache; backward writes the gradient into the same skewed frame.

    Shapes: q, k (B, T, d), p (B, T, e), pos (B, e, 2T-1).
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, p: Tensor, pos: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, p, pos)
        scores = torch.bmm(q, k.transpose(1, 2))
        for part in _parts(pos, q.shape[1]):
            scores[part] += relative_to_absolute(torch.bmm(p[part], pos[part]))
        return scores

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, p, pos = ctx.saved_tensors
        grad_p, grad_pos = torch.empty_like(p), torch.empty_like(pos)
        relative: Tensor | None = None
        for part in _parts(pos, q.shape[1]):
            size = len(p[part])
            if relative is None:  # between the rows that are overwritten each time it stays zero
                relative = grad.new_zeros(size, q.shape[1], pos.shape[2])
            relative_to_absolute(relative[:size]).copy_(grad[part])
            grad_p[part] = torch.bmm(relative[:size], pos[part].transpose(1, 2))
            grad_pos[part] = torch.bmm(p[part].transpose(1, 2), relative[:size])
        return torch.bmm(grad, k), torch.bmm(grad.transpose(1, 2), q), grad_p, grad_pos


def _parts(pos: Tensor, num_frames: int) -> list[slice]:
    """The batch cut into slices whose relative scores fit in a cache; on other devices than a CPU, in one."""
    batch, _, num_offsets = pos.shape
    step = batch if pos.device.type != "cpu" else max(1, CACHED_SCORES // (num_frames * num_offsets))
    return [slice(start, start + step) for start in range(0, batch, step)]


class _Softmax(torch.autograd.Function):
    """Weights in the type of the scores, computed in float32, and a copy of those of the first head.

    The copy spares the slice's backward, which would fill a whole gradient with zeros.
    """

    @staticmethod
    def forward(ctx, scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        biased = scores if bias is None else scores + bias
        weights = biased.softmax(-1, dtype=torch.float32).to(scores.dtype)
        ctx.save_for_backward(weights)
        ctx.set_materialize_grads(False)
        return weights, weights[0].clone()

    @staticmethod
    def backward(ctx, grad: Tensor | None, grad_first: Tensor | None) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        grad_scores = torch.zeros_like(weights) if grad is None else _softmax_backward(grad, weights)
        if grad_first is not None:
            grad_scores[0] += _softmax_backward(grad_first, weights[0])
        return grad_scores, None


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    wide = torch.ops.aten._softmax_backward_data(grad.float(), weights.float(), -1, torch.float32)
    return wide.to(weights.dtype)


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
        scores = self._scores(self._by_head(q), self._by_head(k), p, pos_emb)
        scores = penalize_abs(self, scores, SCORE_LIMIT, SCORE_PENALTY, SCORE_PENALTY_PROB)
        scores = scores.view(self.num_heads, x.shape[0], x.shape[1], x.shape[1])
        return _Softmax.apply(scores, score_bias)

    def _scores(self, q: Tensor, k: Tensor, p: Tensor, pos_emb: Tensor) -> Tensor:
        if self.training and fires(self.now(self.pos_emb_skip_rate)):
            return torch.bmm(q, k.transpose(1, 2))
        pos = self.linear_pos(pos_emb).unflatten(1, (self.num_heads, self.pos_head_dim)).permute(1, 2, 0)
        return _Scores.apply(q, k, self._by_head(p), pos.repeat_interleave(q.shape[0] // self.num_heads, dim=0))

    def _by_head(self, x: Tensor) -> Tensor:
        """(N, T, heads * d) to (heads * N, T, d)."""
        return x.unflatten(-1, (self.num_heads, -1)).permute(2, 0, 1, 3).flatten(0, 1)


class SelfAttention(nn.Module):
    """Heads mix values of all frames by given weights."""

    def __init__(self, dim: int, num_heads: int, value_head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(dim, num_heads * value_head_dim)
        self.out_proj = scaled_linear(num_heads * value_head_dim, dim, 0.05)
        self.whiten = Whiten(schedule((0, 7.5), (20000, 22.5), default=7.5))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """(N, T, dim) and weights (heads, N, T, T) to (N, T, dim)."""
        values = self.in_proj(x).unflatten(-1, (self.num_heads, -1)).permute(2, 0, 1, 3)
        mixed = (weights @ values).permute(1, 2, 0, 3).flatten(2)
        return self.whiten(self.out_proj(mixed))


class NonlinAttention(nn.Module):
    """Gated mixing by the weights of the first head."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 3 * hidden_dim)
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
        gated = self.whiten1(v) * self.balancer(s).tanh()
        return self.whiten2(self.out_proj((weights @ gated) * y))
