# SPDX-License-Identifier: Apache-2.0
"""Weights that loops in C keep turned over: the same results, made once, and made again when a weight changes."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from icefall_alp.models.kernels import native_library, native_products
from icefall_alp.models.kernels.frozen import FrozenWeights, panels_of
from icefall_alp.training.scaled_adam import ScaledAdam

pytestmark = pytest.mark.skipif(native_library.library() is None, reason="no C compiler")


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape) / shape[-1] ** 0.5)


def product(layer, x):
    return native_products.linear(x, layer.weight, layer.bias)


class Operations(nn.Module):
    """All that keep something, on the same weights: linear, with a swoosh before, a feed-forward module."""

    def __init__(self, depth, hidden, n):
        super().__init__()
        self.weight, self.bias, self.out_weight = parameter(hidden, depth), parameter(hidden), parameter(n, hidden)

    def forward(self, x):
        y = native_products.linear(x, self.weight, self.bias)
        z = native_products.swoosh_linear(y, None, self.out_weight, None, 4.0, 0.035)
        both = (self.weight, self.bias, self.out_weight, None)
        return y, z, native_products.feed_forward(x, None, *both, 4.0, 0.035, None)


# whole and partial panels, one slice of columns and several, one block of rows and several
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 130, 7), (192, 1000, 192), (300, 96, 48), (2100, 100, 2100)])
@torch.no_grad()
def test_results_are_the_same_when_panels_are_made_and_when_they_are_kept(sizes):
    torch.manual_seed(0)
    operations, frozen = Operations(*sizes), FrozenWeights()
    for frames in (150, 1, 70):
        x = torch.randn(2, frames, sizes[0])
        expected = operations(x)
        for _ in range(2):
            with frozen:
                results = operations(x)
            for ours, plain in zip(results, expected, strict=True):
                assert torch.equal(ours, plain)


@torch.no_grad()
def test_panels_are_made_once_and_used_in_the_context_alone():
    torch.manual_seed(0)
    operations, frozen = Operations(48, 96, 48), FrozenWeights()
    x = torch.randn(2, 70, 48)
    before = operations(x)
    with frozen:
        operations(x)
    for weight in (operations.weight, operations.out_weight):
        weight.detach().numpy()[:] *= 2.0  # behind PyTorch's back, which the context forbids
    after = operations(x)
    with frozen:
        kept = operations(x)
    assert torch.equal(kept[0], before[0]) and torch.equal(kept[1], before[1]) and torch.equal(kept[2], before[2])
    assert not any(torch.equal(new, old) for new, old in zip(after, before, strict=True))


def _in_place(layer, other):
    layer.weight.copy_(other.weight)
    layer.bias.copy_(other.bias)


def _moved(layer, other):
    layer.weight.data, layer.bias.data = other.weight.data, other.bias.data


def _turned(layer, other):
    layer.weight.data = layer.weight.data.t()
    _in_place(other, layer)


CHANGES = {
    "in place": _in_place,
    "moved": _moved,
    "turned": _turned,
    "loaded": lambda layer, other: layer.load_state_dict(other.state_dict()),
    "replaced": lambda layer, other: (
        layer.register_parameter("weight", nn.Parameter(other.weight.clone()))
        or layer.register_parameter("bias", other.bias)
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_a_weight_that_changes_all_the_same_is_noticed(change):
    torch.manual_seed(0)
    layer, other, x, frozen = nn.Linear(96, 96), nn.Linear(96, 96), torch.randn(2, 70, 96), FrozenWeights()
    with frozen:
        before = product(layer, x)
        CHANGES[change](layer, other)
        for _ in range(2):
            assert torch.equal(product(layer, x), product(other, x))
    assert not torch.equal(product(layer, x), before)


def test_another_type_and_back_is_noticed():
    """The new memory must not lie where the old one was."""
    torch.manual_seed(0)
    layer, x, frozen = nn.Linear(96, 96), torch.randn(2, 70, 96), FrozenWeights()
    for _ in range(30):
        nn.init.normal_(layer.weight.data)
        with frozen, torch.no_grad():
            product(layer, x)
            layer.bfloat16().float()
            torch.testing.assert_close(product(layer, x), nn.functional.linear(x, layer.weight, layer.bias))


def test_a_step_of_training_within_the_context_is_noticed():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 4), torch.randn(2, 5, 3)
    optimizer = ScaledAdam(layer.parameters(), lr=0.1)
    with FrozenWeights():
        for _ in range(3):
            y = product(layer, x)
            torch.testing.assert_close(y, nn.functional.linear(x, layer.weight, layer.bias))
            y.square().sum().backward()
            optimizer.step()


def test_panels_that_an_error_kept_from_being_made_are_made_later(monkeypatch):
    torch.manual_seed(0)
    layer, x = nn.Linear(48, 96), torch.randn(2, 70, 48)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with torch.no_grad(), FrozenWeights():
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(native_products, "call", interrupted)
            product(layer, x)
        torch.testing.assert_close(product(layer, x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_defaults_of_pytorch_do_not_matter(default):
    layer, x = nn.Linear(48, 96), torch.randn(2, 70, 48)
    try:
        torch.set_default_dtype(default)
        with FrozenWeights(), torch.device("meta"):
            space = panels_of(layer.weight).space
    finally:
        torch.set_default_dtype(torch.float32)
    assert (space.dtype, space.device.type) == (torch.float32, "cpu")
    with FrozenWeights():
        torch.testing.assert_close(product(layer, x), nn.functional.linear(x, layer.weight, layer.bias))


def test_contexts_may_lie_within_each_other():
    weight, outer, inner = parameter(3, 5), FrozenWeights(), FrozenWeights()
    assert panels_of(weight).space is None
    with outer:
        panels = panels_of(weight)
        assert panels.space is not None and not panels.filled
        with inner, outer:
            assert panels_of(weight) is panels
        with inner:
            assert panels_of(weight) is not panels
        assert panels_of(weight) is panels
    with pytest.raises(KeyError), outer:
        raise KeyError
    assert panels_of(weight).space is None


def test_another_thread_is_not_in_the_context():
    weight, seen = parameter(3, 5), []
    with FrozenWeights():
        thread = threading.Thread(target=lambda: seen.append(panels_of(weight)))
        thread.start()
        thread.join()
        assert panels_of(weight).space is not None
    assert seen[0].space is None


def test_what_is_no_parameter_is_not_kept():
    """Its memory may be another tensor's at the next call; and one of inference mode cannot say that it changed."""
    with torch.inference_mode():
        layer = nn.Linear(5, 3)
    with FrozenWeights():
        assert panels_of(torch.randn(3, 5)).space is None
        assert panels_of(parameter(3, 5), parameter(3, 5).detach()).space is None
        assert panels_of(layer.weight).space is None
