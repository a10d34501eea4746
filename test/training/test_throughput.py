# SPDX-License-Identifier: Apache-2.0
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.training.flop_counter import FlopCounter
from icefall_alp.training.throughput import Throughput, shape_of

CPU = torch.device("cpu")


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


def test_the_shape_of_a_batch_is_what_its_step_costs():
    features = torch.zeros(4, 250, 80)
    assert shape_of(SimpleNamespace(features=features, captions=["a dog", "rain"])) == (4, 2.5, 9)
    assert shape_of(SimpleNamespace(features=features)) == (4, 2.5, 0)


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
