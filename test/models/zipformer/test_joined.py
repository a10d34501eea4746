# SPDX-License-Identifier: Apache-2.0
"""Modules computed as one give what they give one by one, and are called where somebody wants to see that."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from icefall_alp.models.zipformer.activations import ActDropLinear, Linear, SwooshL
from icefall_alp.models.zipformer.joined import bare, left_to_do, through
from icefall_alp.models.zipformer.normalization import BiasNorm


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return Linear(6, 10), ActDropLinear(10, 4, SwooshL, initial_scale=1.0)


def as_is(x):
    return x


@pytest.mark.parametrize("masked", [False, True])
def test_two_layers_are_one_after_the_other(layers, masked):
    x = torch.randn(3, 5, 6)
    mask = torch.rand(3, 1, 10) if masked else None
    torch.testing.assert_close(through(layers[0], as_is, layers[1], x, mask), layers[1](layers[0](x), mask))


@pytest.mark.parametrize("which", [0, 1])
def test_a_hooked_layer_is_called(layers, which):
    seen, x = [], torch.randn(3, 5, 6)
    handle = layers[which].register_forward_hook(lambda *_: seen.append(1))
    y = through(layers[0], as_is, layers[1], x, None)
    handle.remove()
    assert seen == [1] and bare(layers[which], type(layers[which]))
    torch.testing.assert_close(y, through(layers[0], as_is, layers[1], x, None))


def test_a_layer_of_another_kind_is_called(layers):
    x = torch.randn(3, 5, 6)
    y = through(layers[0], as_is, nn.Tanh(), x, None)
    torch.testing.assert_close(y, layers[0](x).tanh())


def test_a_norm_is_left_to_the_chain_unless_it_is_called():
    norm, x = BiasNorm(6).eval(), torch.randn(2, 3, 6)
    assert left_to_do(None, x) == (x, None, None)
    same, bias, log_scale = left_to_do(norm, x)
    assert same is x and bias is norm.bias and log_scale is norm.log_scale
    norm.register_forward_hook(lambda *_: None)
    y, bias, log_scale = left_to_do(norm, x)
    assert bias is None and log_scale is None
    torch.testing.assert_close(y, norm(x))
