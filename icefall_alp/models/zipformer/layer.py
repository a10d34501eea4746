# SPDX-License-Identifier: Apache-2.0
"""One Zipformer layer. arXiv:2310.11230, section 3.1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.attention import AttentionWeights, NonlinAttention, SelfAttention
from icefall_alp.models.zipformer.bypass import Bypass
from icefall_alp.models.zipformer.convolution import ConvModule
from icefall_alp.models.zipformer.draws import NOTHING, LayerDraws
from icefall_alp.models.zipformer.feedforward import FeedForward
from icefall_alp.models.zipformer.masks import Context
from icefall_alp.models.zipformer.normalization import BiasNorm
from icefall_alp.models.zipformer.regularizers import Balancer, Whiten, decide
from icefall_alp.models.zipformer.schedule import Scheduled, ScheduledModule, schedule


class ZipformerLayer(ScheduledModule):
    """(N, T, dim) to (N, T, dim); attention weights are computed once and used by three modules."""

    def __init__(
        self,
        dim: int,
        feedforward_dim: int,
        num_heads: int,
        kernel: int,
        query_head_dim: int,
        value_head_dim: int,
        pos_head_dim: int,
        pos_dim: int,
        causal: bool,
        skip_rate: Scheduled,
    ) -> None:
        super().__init__()
        # Unused, but part of every public checkpoint; without a gradient DDP need not look for it.
        self.bypass_scale = nn.Parameter(torch.full((dim,), 0.5), requires_grad=False)
        self.bypass, self.skip_rate = Bypass(dim), skip_rate
        self.bypass_mid = Bypass(dim)
        self.self_attn_weights = AttentionWeights(dim, pos_dim, num_heads, query_head_dim, pos_head_dim)
        self.self_attn1 = SelfAttention(dim, num_heads, value_head_dim)
        self.self_attn2 = SelfAttention(dim, num_heads, value_head_dim)
        self.hidden_dims = feedforward_dim * 3 // 4, feedforward_dim, feedforward_dim * 5 // 4
        self.feed_forward1, self.feed_forward2, self.feed_forward3 = (FeedForward(dim, d) for d in self.hidden_dims)
        self.nonlin_attention = NonlinAttention(dim, dim * 3 // 4)
        self.conv_module1 = ConvModule(dim, kernel, causal)
        self.conv_module2 = ConvModule(dim, kernel, causal)
        self.norm = BiasNorm(dim)
        self._build_regularizers()

    def _build_regularizers(self) -> None:
        self.attention_skip_rate = schedule((0, 0.2), (4000, 0.05), (16000, 0.0))
        self.conv_skip_rate = schedule((0, 0.2), (4000, 0.05), (16000, 0.0))
        self.ff2_skip_rate = schedule((0, 0.1), (4000, 0.01), (50000, 0.0))
        self.ff3_skip_rate = schedule((0, 0.1), (4000, 0.01), (50000, 0.0))
        self.dropout_p = schedule((0, 0.3), (20000, 0.1))
        self.const_attention_rate = schedule((0, 0.25), (4000, 0.025))
        self.balancer1 = Balancer(0.45, 0.55, 0.2, 4.0)
        self.balancer2 = Balancer(0.45, 0.55, 0.1, 4.0)
        self.balancer_na = Balancer(0.3, 0.7, schedule((0, 0.004), (4000, 0.02)), 100.0, prob=0.05)
        self.balancer_ff2 = Balancer(0.3, 0.7, schedule((0, 0.0), (4000, 0.1)), 2.0, prob=0.05)
        self.balancer_ff3 = Balancer(0.3, 0.7, schedule((0, 0.0), (4000, 0.2)), 4.0, prob=0.05)
        self.whiten = Whiten(schedule((0, 4.0), (20000, 12.0), default=4.0))

    def forward(self, x: Tensor, pos_emb: Tensor, context: Context, draws: LayerDraws = NOTHING) -> Tensor:
        """One layer.

        Args:
            x: (N, T, dim).
            pos_emb: positional table (2T-1, pos_dim).
            context: what may be seen at this frame rate.
            draws: what is left out in this step; on its own a layer draws nothing.
        """
        original, first, second, third = x, *draws.dropout
        weights, first_head = self.self_attn_weights(x, pos_emb, context.score_bias)
        # x is the sum in float32, y the same for matrix products
        x, y = chains.residual(x, self.feed_forward1(x, first), None)
        mixed = self.balancer_na(self.nonlin_attention(y, self._mixing(first_head)))
        x, y = chains.residual(x, mixed, draws.attention)
        x, y = chains.residual(x, self.self_attn1(y, weights), draws.attention)
        x, y = chains.residual(x, self.conv_module1(y, context.keep, context.chunk_size), draws.conv1)
        x, _ = chains.residual(x, self.balancer_ff2(self.feed_forward2(y, second)), draws.ff2)
        x = self.bypass_mid(original, x)
        x, y = chains.residual(x, self.self_attn2(x, weights), draws.attention)
        x, y = chains.residual(x, self.conv_module2(y, context.keep, context.chunk_size), draws.conv2)
        x, _ = chains.residual(x, self.balancer_ff3(self.feed_forward3(y, third)), draws.ff3)
        return self.whiten(self.balancer2(self.bypass(original, self.balancer1(x), draws.layer, self.norm)))

    def _mixing(self, weights: Tensor) -> Tensor:
        """Weights (N, T, T); now and then, in training, uniform over the sources that are not hidden."""
        uniform = self.training and decide(self, self.const_attention_rate)
        if uniform is False:
            return weights
        allowed = (weights > 0).to(weights.dtype)
        equal = allowed / allowed.sum(-1, keepdim=True)
        return equal if uniform is True else torch.where(uniform, equal, weights)
