# SPDX-License-Identifier: Apache-2.0
import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.models import AudioEncoder
from icefall_alp.models.kernels import chains, closed, plain
from icefall_alp.training.throughput import FlopCounter, Throughput, peak_flops

CPU = torch.device("cpu")
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


def test_rates_follow_from_sums():
    throughput = Throughput(CPU, "float32")
    linear = nn.Linear(100, 50)
    total = 0
    for seconds in (8.0, 4.0, 6.0, 2.0, 8.0):
        rows = int(10 * seconds)
        shapes = [(2, seconds / 2, 0)]
        with throughput.counting(shapes):
            linear(torch.randn(rows, 100)).sum().backward()
        total += 2 * 2 * rows * 100 * 50
        throughput.add(0.75 * seconds, shapes, waited=0.1, elapsed=0.5)
    rates = throughput.read()
    assert rates["audio-s/s"] == pytest.approx(0.75 * 28 / 2.5)
    assert rates["padding"] == pytest.approx(0.25) and rates["data wait"] == pytest.approx(0.2)
    assert rates["seconds per step"] == pytest.approx(0.5)
    assert rates["TFLOP/s"] == pytest.approx(total / 1e12 / 2.5, rel=0.02)
    assert rates["MFU"] == pytest.approx(rates["TFLOP/s"] * 1e12 / throughput._peak)
    assert throughput.read() == {}


def clips_like_the_paper_s(generator, num_clips):
    """Seconds, and tokens and letters of captions: most clips last 10 s, music 30 s with long captions, others any."""
    kind = generator.choice(3, num_clips, p=(0.7, 0.1, 0.2))
    seconds = np.where(kind == 0, 10.0, np.where(kind == 1, 30.0, generator.uniform(1, 30, num_clips)))
    words = np.array([28, 63, 14])[kind] * generator.lognormal(-0.06, 0.35, num_clips)
    letters = 5.5 * words * generator.normal(1, 0.08, num_clips)
    return seconds.round(2), (2 + 1.3 * words).clip(max=128).astype(int), letters.astype(int)


def operate(seconds, tokens):
    """A thousandth of what a step of Zipformer-M and BERT-base costs, without computing anything."""

    def product(rows, columns, *batch, depth=1):
        with torch.device("meta"):
            torch.empty(*batch, rows, depth) @ torch.empty(*batch, depth, columns)

    num_clips, longest = len(seconds), seconds.max()
    product(round(100 * longest * num_clips), 28000)  # 5.6 GFLOP for each second of audio
    product(round(25 * longest), round(25 * longest), num_clips, depth=19)  # and 0.024 for each pair of seconds
    for captions in np.split(np.sort(tokens), range(32, num_clips, 32)):
        product(int(len(captions) * captions.max()), 256500)  # 0.51 for each token with padding


@pytest.mark.parametrize(("num_micro_batches", "lines_of_runs"), [(1, (1, 2, 20)), (3, (1, 3))])
def test_every_log_line_agrees_with_a_count_of_all_its_steps(num_micro_batches, lines_of_runs):
    """Each run goes on where the one before was stopped and has to count anew."""
    seconds, tokens, letters = clips_like_the_paper_s(np.random.default_rng(0), 60000)
    batches = iter(BatchPlan(seconds, max_duration=640, num_buckets=30, seed=0).epoch(0))
    for num_lines in lines_of_runs:
        throughput = Throughput(CPU, "float32", peak_tflops=1.0)
        for _ in range(num_lines):
            with FlopCounter() as everything:
                for _ in range(50):
                    step = list(islice(batches, num_micro_batches))
                    shapes = [(len(clips), seconds[clips].max(), letters[clips].sum()) for clips in step]
                    with throughput.counting(shapes):
                        for clips in step:
                            operate(seconds[clips], tokens[clips])
                    throughput.add(1.0, shapes, waited=0.0, elapsed=1.0)
            assert 50e12 * throughput.read()["TFLOP/s"] == pytest.approx(everything.total, rel=0.02)


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
