# SPDX-License-Identifier: Apache-2.0
"""Weights that loops in C keep turned over: the same results, made once, and made again when a weight changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from icefall_alp.models.kernels import native_library, native_products
from icefall_alp.models.kernels.frozen import FrozenWeights, kept_panels

pytestmark = pytest.mark.skipif(native_library.library() is None, reason="no C compiler")


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape) / shape[-1] ** 0.5)


def layers(sizes):
    """All operations that keep something, on the same weights: linear, with a swoosh before, a feed-forward module."""
    depth, hidden, n = sizes
    weight, bias, out_weight = parameter(hidden, depth), parameter(hidden), parameter(n, hidden)

    def compute(x):
        y = native_products.linear(x, weight, bias)
        z = native_products.swoosh_linear(y, None, out_weight, None, 4.0, 0.035)
        return y, z, native_products.feed_forward(x, None, weight, bias, out_weight, None, 4.0, 0.035, None)

    return compute, weight


# whole and partial panels, one slice of columns and several, one block of rows and several
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 130, 7), (192, 1000, 192), (300, 96, 48), (2100, 100, 2100)])
def test_results_are_the_same_when_panels_are_made_and_when_they_are_kept(sizes):
    torch.manual_seed(0)
    compute, _ = layers(sizes)
    frozen = FrozenWeights()
    with torch.no_grad():
        for frames in (150, 1, 70):
            x = torch.randn(2, frames, sizes[0])
            expected = compute(x)
            for _ in range(2):
                with frozen:
                    results = compute(x)
                for ours, plain in zip(results, expected, strict=True):
                    assert torch.equal(ours, plain)


@torch.no_grad()
def test_panels_are_made_once_and_used_in_the_context_alone():
    torch.manual_seed(0)
    compute, weight = layers((48, 96, 48))
    x = torch.randn(2, 70, 48)
    before, frozen = compute(x), FrozenWeights()
    with frozen:
        compute(x)
    weight.detach().numpy()[:] *= 2.0  # behind PyTorch's back, which the context forbids
    with frozen:
        assert torch.equal(compute(x)[0], before[0])
    torch.testing.assert_close(compute(x)[0] - compute(torch.zeros_like(x))[0], 2 * (before[0] - compute(0 * x)[0]))


@torch.no_grad()
@pytest.mark.parametrize("change", ["in place", "data", "loaded"])
def test_a_weight_that_changes_all_the_same_is_noticed(change):
    torch.manual_seed(0)
    layer, x = nn.Linear(48, 96), torch.randn(2, 70, 48)
    other, frozen = nn.Linear(48, 96), FrozenWeights()

    def compute(which):
        return native_products.linear(x, which.weight, which.bias)

    expected = compute(other)
    with frozen:
        assert not torch.equal(compute(layer), expected)
        if change == "in place":
            layer.weight.copy_(other.weight)
            layer.bias.copy_(other.bias)
        elif change == "data":
            layer.weight.data, layer.bias.data = other.weight.data, other.bias.data
        else:
            layer.load_state_dict(other.state_dict())
        for _ in range(2):
            assert torch.equal(compute(layer), expected)


def test_contexts_may_lie_within_each_other():
    weight, outer, inner = parameter(3, 5), FrozenWeights(), FrozenWeights()
    assert kept_panels(weight) == (None, False)
    with outer:
        panels, ready = kept_panels(weight)
        assert not ready
        with inner, outer:
            assert kept_panels(weight)[0] is panels
        with inner:
            assert kept_panels(weight)[0] is not panels
        assert kept_panels(weight) == (panels, True)
    with pytest.raises(KeyError), outer:
        raise KeyError
    assert kept_panels(weight) == (None, False)


def test_what_is_no_parameter_is_not_kept():
    """Its memory may be another tensor's at the next call."""
    with FrozenWeights():
        assert kept_panels(torch.randn(3, 5)) == (None, False)
        assert kept_panels(parameter(3, 5), parameter(3, 5).detach()) == (None, False)


def test_training_within_the_context_sees_every_step():
    torch.manual_seed(0)
    weight, x = parameter(4, 3), torch.randn(2, 5, 3)
    with FrozenWeights():
        first = native_products.linear(x, weight, None)
        first.sum().backward()
        with torch.no_grad():
            weight -= weight.grad
        second = native_products.linear(x, weight, None)
    torch.testing.assert_close(first - second, (x @ weight.grad.t()).expand_as(first))
