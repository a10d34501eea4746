# SPDX-License-Identifier: Apache-2.0
"""A batch in slices: the whole result, and slices only where nothing is kept for backward."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import chains
from icefall_alp.models.kernels.slices import CACHED_NUMBERS, in_slices


@pytest.fixture
def recorded():
    sizes = []

    def function(x, mask, other):
        assert other is None and len(mask) == len(x)
        sizes.append(len(x))
        return (x * mask).sum(-1)

    return function, sizes


@pytest.mark.parametrize(
    ("widest", "expected"),
    [(1, [5]), (CACHED_NUMBERS // 5, [5]), (CACHED_NUMBERS // 2, [2, 2, 1]), (10 * CACHED_NUMBERS, [1] * 5)],
)
def test_slices_are_as_large_as_the_cache_and_together_the_whole(recorded, widest, expected, monkeypatch):
    monkeypatch.setattr(chains, "FUSED", True)
    function, sizes = recorded
    x, mask = torch.randn(5, 3, 2), torch.randn(5, 1, 2)
    with torch.no_grad():
        y = in_slices(function, widest, x, mask, None)
    assert sizes == expected
    torch.testing.assert_close(y, (x * mask).sum(-1), rtol=0, atol=0)


def test_a_batch_with_a_graph_stays_whole(recorded):
    function, sizes = recorded
    in_slices(function, CACHED_NUMBERS, torch.randn(5, 3, 2), torch.randn(5, 1, 2), None)
    assert sizes == [5]


def test_on_a_device_the_batch_stays_whole(recorded):
    function, sizes = recorded
    with torch.no_grad():
        in_slices(
            function, CACHED_NUMBERS, torch.empty(5, 3, 2, device="meta"), torch.ones(5, 1, 2, device="meta"), None
        )
    assert sizes == [5]


def test_plain_eager_takes_the_batch_whole(recorded, monkeypatch):
    monkeypatch.setattr(chains, "FUSED", False)
    function, sizes = recorded
    with torch.no_grad():
        in_slices(function, CACHED_NUMBERS, torch.randn(5, 3, 2), torch.randn(5, 1, 2), None)
    assert sizes == [5]
