# SPDX-License-Identifier: Apache-2.0
"""The loss of a few queries at a time against that of all, and what it holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from icefall_alp.models.kernels.cross_entropy import cross_entropy_by_rows


@pytest.mark.parametrize("held", [1, 40, 130, 10**9])
def test_the_loss_by_rows_equals_the_loss_of_all_similarities(held):
    """Values, gradients and hits, for 23 of 31 clips; never more similarities in memory than asked for."""
    candidates = nn.functional.normalize(torch.randn(31, 6, dtype=torch.float64), dim=1)
    labels = torch.arange(5, 28)

    def loss(function):
        scale = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
        own, others = candidates[5:28].clone().requires_grad_(), candidates.clone().requires_grad_()
        total, hits = function(scale, own, others)
        total.backward()
        return total.detach(), hits, scale.grad, own.grad, others.grad

    def dense(scale, own, others):
        logits = scale * own @ others.T
        chosen = logits[torch.arange(23), labels]
        return (logits.exp().sum(1).log() - chosen).sum(), (logits.argmax(1) == labels).sum()

    with LargestResult() as seen:
        found = loss(lambda scale, own, others: cross_entropy_by_rows(scale, own, others, labels, held))
    for one, other in zip(found, loss(dense), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert seen.numbers <= max(held, candidates.numel())


class LargestResult(TorchDispatchMode):
    """Looks at the size of every operation's result."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.numbers = max([self.numbers, *(x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor))])
        return result


def test_a_large_batch_holds_a_sixteenth_of_its_similarities():
    vectors = nn.functional.normalize(torch.randn(1100, 2), dim=1)
    for clips, rows in ((400, 400), (1100, 512)):
        with LargestResult() as seen:
            cross_entropy_by_rows(torch.tensor(9.0), vectors[:clips], vectors[:clips], torch.arange(clips))
        assert seen.numbers == rows * clips


def test_no_clip_at_all_costs_nothing():
    loss, hits = cross_entropy_by_rows(torch.tensor(9.0), torch.ones(0, 3), torch.ones(5, 3), torch.arange(0))
    assert loss == hits == 0


def test_gradients_made_in_forward_are_handed_out_once():
    own = torch.randn(5, 3, requires_grad=True)
    loss, hits = cross_entropy_by_rows(torch.tensor(2.0), own, torch.randn(7, 3), torch.arange(5))
    assert not hits.requires_grad
    (gradient,) = torch.autograd.grad(3 * loss, own, retain_graph=True)
    assert gradient.isfinite().all()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with torch.no_grad():
        assert not cross_entropy_by_rows(torch.tensor(2.0), own, torch.randn(7, 3), torch.arange(5))[0].requires_grad
