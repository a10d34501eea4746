# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy over all candidates of a large batch, whose similarities are never all in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SIMILARITIES_HELD = 1 << 24  # at once, at most: 64 MiB, three times
QUERIES_TOGETHER = 512  # of a large batch a sixteenth


def cross_entropy_by_rows(
    scale: Tensor, queries: Tensor, candidates: Tensor, labels: Tensor, held: int = SIMILARITIES_HELD
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of finding each query's candidate, with at most `held` similarities in memory.

    Args:
        scale: () what similarities are multiplied by.
        queries: (n, E).
        candidates: (N, E).
        labels: (n,) the right candidate of each query.
        held: similarities, at least those of one query.

    Returns:
        The sum over queries, and how many have their candidate on top: both ().
    """
    rows = max(1, min(held // max(1, len(candidates)), max(QUERIES_TOGETHER, len(queries) // 16)))
    return _CrossEntropyByRows.apply(scale, queries, candidates, labels, rows, torch.is_grad_enabled())


class _CrossEntropyByRows(torch.autograd.Function):
    """Makes its gradients in forward, where the similarities are: none is computed twice or kept."""

    @staticmethod
    def forward(ctx, scale, queries, candidates, labels, rows: int, wanted: bool) -> tuple[Tensor, Tensor]:
        loss, hits = torch.zeros_like(scale), labels.new_zeros(())
        grads = (torch.zeros_like(scale), torch.empty_like(queries), torch.zeros_like(candidates)) if wanted else ()
        for own, right, at in zip(
            queries.split(rows), labels.split(rows), range(0, max(1, len(queries)), rows), strict=True
        ):
            similarities = own @ candidates.T
            logs = F.log_softmax(scale * similarities, dim=1)
            loss += F.nll_loss(logs, right, reduction="sum")
            hits += (logs.argmax(dim=1) == right).sum()
            if wanted:
                slopes = logs.exp_()
                slopes.scatter_add_(1, right[:, None], torch.full_like(own[:, :1], -1.0))
                grads[0].add_(similarities.mul_(slopes).sum())
                torch.mm(slopes.mul_(scale), candidates, out=grads[1][at : at + rows])
                grads[2].addmm_(slopes.T, own)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(hits)
        return loss, hits

    @staticmethod
    def backward(ctx, grad: Tensor, _) -> tuple[Tensor | None, ...]:
        # in place: at 65,536 clips these are as large as the similarities; a second backward is refused for it
        return *(made.mul_(grad) for made in ctx.saved_tensors), None, None, None
