# SPDX-License-Identifier: Apache-2.0
"""Feed-forward module: linear, SwooshL with dropout, linear."""

from __future__ import annotations

from torch import Tensor, nn

from icefall_alp.models.zipformer.activations import ActDropLinear, Linear, SwooshL, bare
from icefall_alp.models.zipformer.regularizers import Balancer, Whiten
from icefall_alp.models.zipformer.schedule import schedule


class FeedForward(nn.Module):
    """(N, T, dim) to (N, T, dim) through `hidden_dim`."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_proj = Linear(dim, hidden_dim)
        self.hidden_balancer = Balancer(0.3, 1.0, 0.75, 5.0)
        dropout_p = schedule((0, 0.3), (20000, 0.1))
        self.out_proj = ActDropLinear(hidden_dim, dim, SwooshL, dropout_p, initial_scale=0.1)
        self.out_whiten = Whiten(schedule((0, 7.5), (20000, 15.0), default=7.5))

    def forward(self, x: Tensor) -> Tensor:
        """Apply frame by frame."""
        first, second = self.in_proj, self.out_proj
        if bare(first, Linear) and bare(second, ActDropLinear):
            return self.out_whiten(second.after(first, self.hidden_balancer, x))
        return self.out_whiten(second(self.hidden_balancer(first(x))))
