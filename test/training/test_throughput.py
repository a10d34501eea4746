# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from icefall_alp.models.kernels import chains
from icefall_alp.training.throughput import FlopCounter, Throughput, peak_flops

CPU = torch.device("cpu")


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


def test_rates_follow_from_sums():
    throughput = Throughput(CPU, "float32")
    linear = nn.Linear(100, 50)
    total = 0
    for seconds in (8.0, 4.0, 6.0, 2.0, 8.0):
        rows = int(10 * seconds)
        with throughput.counting(seconds):
            linear(torch.randn(rows, 100)).sum().backward()
        total += 2 * 2 * rows * 100 * 50
        throughput.add(0.75 * seconds, seconds, waited=0.1, elapsed=0.5)
    rates = throughput.read()
    assert rates["audio-s/s"] == pytest.approx(0.75 * 28 / 2.5)
    assert rates["padding"] == pytest.approx(0.25) and rates["data wait"] == pytest.approx(0.2)
    assert rates["seconds per step"] == pytest.approx(0.5)
    assert rates["TFLOP/s"] == pytest.approx(total / 1e12 / 2.5, rel=0.02)
    assert rates["MFU"] == pytest.approx(rates["TFLOP/s"] * 1e12 / throughput._peak)
    assert throughput.read() == {}


def test_the_peak_of_this_machine_is_plausible():
    assert 1e9 < peak_flops(CPU, "float32") < 1e14


@pytest.mark.parametrize("fused", [True, False])
def test_operations_of_the_encoder_s_own_loops_are_counted(monkeypatch, fused):
    """A linear layer, and attention without positions, forward and backward."""
    monkeypatch.setattr(chains, "FUSED", fused)
    x, weight = torch.randn(2, 7, 6, requires_grad=True), torch.randn(6, 6, requires_grad=True)
    with FlopCounter() as counter:
        y = chains.linear(x, weight, None)
        chains.mix(chains.attention_weights(y, y, None, None, None, 2, None)[0], y).sum().backward()
    assert counter.total == 3 * (2 * 14 * 6 * 6 + 2 * (2 * 2 * 2 * 7 * 7 * 3))
