# SPDX-License-Identifier: Apache-2.0
"""The optimizer's loops in C against few operations of PyTorch; trajectories are in test/training."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import chains, native_library, native_scaled_adam
from icefall_alp.models.kernels.native_scaled_adam import ScaledAdamLoops, loops_suit
from icefall_alp.models.kernels.scaled_adam_rows import ScaledAdamRows

pytestmark = pytest.mark.skipif(native_library.library() is None, reason="no C compiler")
SHAPES = [(3, 5), (), (260,), (1,), (2, 3, 7, 7), (70, 300)]
BETAS = (0.9, 0.98)


@pytest.fixture(autouse=True)
def fused(monkeypatch):
    monkeypatch.setattr(chains, "FUSED", True)


def tensors(seed, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def advance(elements, factor=None):
    """A step that moves the parameters at once and one in which they grow first: both sums."""
    inverse_size, growth = torch.linspace(0.5, 3.0, len(SHAPES)), torch.linspace(-0.1, 0.1, len(SHAPES))
    sums = [elements.update(tensors(seed), factor, inverse_size, BETAS, 1e-8, 0.03, move=seed == 1) for seed in (1, 2)]
    elements.grow(growth)
    return sums


@pytest.mark.parametrize("factor", [None, torch.tensor(0.25), torch.tensor(0.0)])
@pytest.mark.parametrize("piece", [7, 1 << 14])
def test_equals_operations_on_rows(factor, piece, monkeypatch):
    monkeypatch.setattr(native_scaled_adam, "PIECE", piece)
    here, there = tensors(0), tensors(0)
    ours, theirs = ScaledAdamLoops(here), ScaledAdamRows(there, torch.float32)
    for a, b in zip(advance(ours, factor), advance(theirs, factor), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
    for a, b in (
        (here, there),
        (ours.exp_avg_sq, theirs.exp_avg_sq),
        (ours.delta, theirs.delta),
    ):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_a_factor_of_zero_hides_what_is_not_finite():
    params = tensors(0)
    elements = ScaledAdamLoops(params)
    grads = tensors(1)
    grads[2][7], grads[5][3, 4] = torch.nan, torch.inf
    sums = elements.update(grads, torch.tensor(0.0), torch.ones(len(SHAPES)), BETAS, 1e-8, 0.03, move=True)
    assert not sums.any()
    assert all(torch.equal(p, q) for p, q in zip(params, tensors(0), strict=True))


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.setattr(native_scaled_adam, "PIECE", 1000)
    seen, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            params = tensors(0)
            seen.append([*advance(ScaledAdamLoops(params)), *params])
    finally:
        torch.set_num_threads(threads)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


def test_gradients_laid_out_otherwise_are_read_in_the_parameters_order():
    grads = tensors(1)
    grads[4] = grads[4].contiguous(memory_format=torch.channels_last)
    grads[5] = grads[5].t().contiguous().t()
    results = []
    for each in (grads, tensors(1)):
        params = tensors(0)
        elements = ScaledAdamLoops(params)
        elements.update(each, None, torch.ones(len(SHAPES)), BETAS, 1e-8, 0.03, move=True)
        results.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_suits_float32_in_plain_order_where_chains_are_loops(monkeypatch):
    assert loops_suit(tensors(0))
    assert not loops_suit([*tensors(0), torch.zeros(3, dtype=torch.bfloat16)])
    assert not loops_suit([torch.zeros(3, 4).t()])
    monkeypatch.setattr(chains, "FUSED", False)
    assert not loops_suit(tensors(0))


def test_the_default_type_of_new_tensors_changes_nothing():
    results = []
    for dtype in (torch.float32, torch.float64):
        params = tensors(0)
        torch.set_default_dtype(dtype)
        try:
            elements = ScaledAdamLoops(params)
            elements.update(
                tensors_like(params), None, torch.ones(6, dtype=torch.float32), BETAS, 1e-8, 0.03, move=True
            )
        finally:
            torch.set_default_dtype(torch.float32)
        results.append([*params, *elements.exp_avg_sq])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def tensors_like(params):
    return [torch.full_like(p, 0.5) for p in params]


def test_a_layout_that_changed_is_refused_instead_of_misread():
    params = [torch.nn.Parameter(torch.zeros(3, 4))]
    elements = ScaledAdamLoops(params)
    params[0].data = torch.zeros(4, 3).t()
    with pytest.raises(RuntimeError, match="changed their type or layout"):
        elements.grow(torch.zeros(1))
