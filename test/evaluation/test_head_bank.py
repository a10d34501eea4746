# SPDX-License-Identifier: Apache-2.0
"""Heads side by side are the heads one by one: outputs, losses, and where training ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from icefall_alp.evaluation.head_bank import Head, HeadBank, head_losses, train_bank

DIM, CLASSES, SEEDS, RATES = 16, 5, (3, 4, 5), (0.01, 0.1)


def _bank(pooling_heads=0, multi_label=False, rates=RATES, seeds=SEEDS):
    return HeadBank.build(DIM, CLASSES, pooling_heads, multi_label, len(rates), seeds)


def _single(seed, pooling_heads, multi_label=False):
    torch.manual_seed(seed)
    return Head(DIM, CLASSES, pooling_heads, multi_label)


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 9, DIM, generator=generator), torch.tensor([9, 1, 4, 9, 6, 2, 8])


@pytest.mark.parametrize("pooling_heads", [2, 8])
def test_attention_equals_multi_head_attention_of_each_head(clips, pooling_heads):
    frames, lens = clips
    logits = _bank(pooling_heads)(frames, lens)
    assert logits.shape == (6, 7, CLASSES)
    for g in range(6):
        expected = _single(SEEDS[g % 3], pooling_heads)(frames, lens)
        torch.testing.assert_close(logits[g], expected, atol=1e-5, rtol=1e-5)


def test_attention_ignores_padding(clips):
    frames, lens = clips
    bank = _bank(4)
    longer = torch.cat([frames, torch.full((7, 5, DIM), 1e4)], dim=1)
    spoilt = longer.clone()
    for row, length in enumerate(lens):
        spoilt[row, length:] = -1e4
    torch.testing.assert_close(bank(spoilt, lens), bank(frames, lens), atol=1e-5, rtol=1e-5)
    alone = bank(frames[1:2, :1], lens[1:2])
    torch.testing.assert_close(alone, bank(frames, lens)[:, 1:2], atol=1e-5, rtol=1e-5)


def test_vectors_for_all_or_of_each_seed(clips):
    vectors = clips[0][:3, :4]  # (S, N, C)
    bank = _bank()
    own, shared = bank(vectors), bank(vectors[0])
    for g in range(6):
        head = _single(SEEDS[g % 3], 0)
        torch.testing.assert_close(own[g], head(vectors[g % 3]))
        torch.testing.assert_close(shared[g], head(vectors[0]))


def test_losses_equal_pytorch_head_by_head():
    logits = torch.randn(6, 4, CLASSES)
    classes = torch.tensor([0, 3, 4, 1])
    expected = torch.stack([F.cross_entropy(own, classes) for own in logits])
    torch.testing.assert_close(head_losses(logits, classes), expected)
    by_seed = torch.randint(0, CLASSES, (3, 4))
    expected = torch.stack([F.cross_entropy(logits[g], by_seed[g % 3]) for g in range(6)])
    torch.testing.assert_close(head_losses(logits, by_seed), expected)
    hot = torch.rand(3, 4, CLASSES) < 0.5
    expected = [
        F.binary_cross_entropy_with_logits(logits[g], hot[g % 3].float(), reduction="sum") / 4 for g in range(6)
    ]
    torch.testing.assert_close(head_losses(logits, hot), torch.stack(expected))
    expected = [F.binary_cross_entropy_with_logits(own, hot[0].float(), reduction="sum") / 4 for own in logits]
    torch.testing.assert_close(head_losses(logits, hot[0]), torch.stack(expected))


def test_no_head_feels_the_others_and_the_update_is_adams(clips):
    frames, lens = clips
    targets = torch.tensor([0, 1, 2, 3, 4, 0, 1])

    def epochs(epoch):
        yield (frames, lens), targets

    bank = _bank(4)
    train_bank(bank, epochs, RATES, 5, "test")
    for place, rate in enumerate(RATES):
        for seed_place, seed in enumerate(SEEDS):
            head = _single(seed, 4)
            optimizer = torch.optim.Adam(head.parameters(), lr=1.0)
            for step in range(1, 6):  # half a step of warm-up, then half a cosine over the other 4.5
                optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + np.cos(np.pi * (step - 0.5) / 4.5))
                optimizer.zero_grad()
                F.cross_entropy(head(frames, lens), targets).backward()
                optimizer.step()
            g = place * 3 + seed_place
            expected = head(frames, lens)
            torch.testing.assert_close(bank(frames, lens)[g], expected, atol=2e-4, rtol=2e-3)


def test_rates_seeds_and_diverged_heads():
    bank = _bank()
    bank.params["classifier.bias"].data[4, 1] = float("nan")
    assert bank.diverged().tolist() == [False] * 4 + [True, False]
    vectors = torch.randn(2, DIM)
    torch.testing.assert_close(bank.rate(1)(vectors), bank(vectors)[3:], equal_nan=True)
    torch.testing.assert_close(bank.head(2)(vectors), bank(vectors)[2:3])


def test_building_leaves_the_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    _bank(4)
    assert torch.rand(1) == expected
