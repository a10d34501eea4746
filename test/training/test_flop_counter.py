# SPDX-License-Identifier: Apache-2.0
import random
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.models.kernels import chains, closed, plain
from icefall_alp.training.flop_counter import FlopCounter

SMALL = replace(
    ZipformerConfig(),
    num_encoder_layers=(1, 1),
    downsampling_factor=(1, 2),
    encoder_dim=(192, 256),
    feedforward_dim=(512, 768),
    encoder_unmasked_dim=(192, 192),
    num_heads=(4, 4),
    cnn_module_kernel=(31, 31),
)


def test_operations_of_a_step_counted_by_hand():
    linear = nn.Linear(30, 20)
    x = torch.randn(7, 30, requires_grad=True)
    with FlopCounter() as counter:
        linear(x).sum().backward()
    assert counter.total == 3 * 2 * 7 * 30 * 20, "forward, gradient of the input, gradient of the weight"


def test_the_count_agrees_with_pytorch_s_own_counter():
    network = nn.Sequential(nn.Conv1d(8, 16, 5, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 40, 10))
    x = torch.randn(3, 8, 40)
    with FlopCounterMode(display=False) as official:
        network(x).square().sum().backward()
    network.zero_grad()
    with FlopCounter() as counter:
        network(x).square().sum().backward()
    assert counter.total == official.get_total_flops() > 0


@pytest.mark.parametrize("needs_input_grad", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 64])
@pytest.mark.parametrize(("layer", "size", "out_size"), [(nn.Conv1d, (40,), 19), (nn.Conv2d, (13, 9), 6 * 4)])
def test_convolutions_in_groups_counted_by_hand(layer, size, out_size, groups, needs_input_grad):
    x = torch.randn(3, 64, *size, requires_grad=needs_input_grad)
    with FlopCounter() as counter:
        layer(64, 128, 5, stride=2, padding=1, groups=groups)(x).sum().backward()
    once = 2 * 3 * 128 * out_size * (64 // groups) * 5 ** len(size)
    assert counter.total == (3 if needs_input_grad else 2) * once


@pytest.mark.parametrize("groups", [1, 64])
def test_transposed_convolutions_counted_by_hand(groups):
    x = torch.randn(3, 64, 40, requires_grad=True)
    with FlopCounter() as counter:
        nn.ConvTranspose1d(64, 128, 5, stride=2, groups=groups)(x).sum().backward()
    assert counter.total == 3 * 2 * 3 * 64 * 40 * (128 // groups) * 5


def test_attention_on_a_cpu_is_counted_as_on_a_gpu():
    q, k = (torch.randn(2, 3, length, 8, requires_grad=True) for length in (10, 20))
    with FlopCounter() as counter:
        nn.functional.scaled_dot_product_attention(q, k, k).sum().backward()
    assert counter.total == (2 + 5) * 2 * 2 * 3 * 10 * 20 * 8, "the scores once more in backward"


@pytest.mark.parametrize("form", [closed, plain])
def test_a_step_of_the_encoder_costs_three_times_its_forward(monkeypatch, form):
    """By PyTorch's formula, which takes every group for all channels, it would be 6.7 times."""
    monkeypatch.setattr(chains, "form_for", lambda device_type: form)
    monkeypatch.setattr(random, "random", lambda: 0.999)  # no regulariser fires
    encoder = AudioEncoder(SMALL).train()
    features, lens = torch.randn(2, 107, 80), torch.tensor([107, 107])
    with FlopCounter() as forward:
        frames, _ = encoder(features, lens)
    with FlopCounter() as backward:
        frames.sum().backward()
    assert forward.total + backward.total == pytest.approx(3 * forward.total, rel=0.02)


@pytest.mark.parametrize("fused", [True, False])
def test_operations_of_the_encoder_s_own_loops_are_counted(monkeypatch, fused):
    """A linear layer, and attention without positions, forward and backward."""
    monkeypatch.setattr(chains, "FUSED", fused)
    x, weight = torch.randn(2, 7, 6, requires_grad=True), torch.randn(6, 6, requires_grad=True)
    with FlopCounter() as counter:
        y = chains.linear(x, weight, None)
        chains.mix(chains.attention_weights(y, y, None, None, None, 2, None)[0], y).sum().backward()
    assert counter.total == 3 * (2 * 14 * 6 * 6 + 2 * (2 * 2 * 2 * 7 * 7 * 3))
