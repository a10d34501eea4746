# SPDX-License-Identifier: Apache-2.0
"""Feed-forward module: linear, SwooshL with dropout, linear."""

from __future__ import annotations

from torch import Tensor, nn

from icefall_alp.models.zipformer.activations import ActDropLinear, Linear, SwooshL
from icefall_alp.models.zipformer.joined import through
from icefall_alp.models.zipformer.regularizers import Balancer, Whiten
from icefall_alp.models.zipformer.schedule import schedule


class FeedForward(nn.Module):
    """(N, T, dim) to (N, T, dim) through `hidden_dim`."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_proj = Linear(dim, hidden_dim)
        self.hidden_balancer = Balancer(0.3, 1.0, 0.75, 5.0)
        self.out_proj = ActDropLinear(hidden_dim, dim, SwooshL, initial_scale=0.1)
        self.out_whiten = Whiten(schedule((0, 7.5), (20000, 15.0), default=7.5))

    def forward(self, x: Tensor, dropout: Tensor | None = None) -> Tensor:
        """Apply frame by frame, with a mask (N, 1, hidden_dim) that was drawn for the whole encoder, or None."""
        return self.out_whiten(through(self.in_proj, self.hidden_balancer, self.out_proj, x, dropout))
