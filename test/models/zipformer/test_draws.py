# SPDX-License-Identifier: Apache-2.0
"""Masks of what a step leaves out: how often, and for whom."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.zipformer.draws import dropout_masks, sequence_masks


def test_sequence_masks_leave_out_so_many_sequences_each_on_its_own():
    torch.manual_seed(0)
    x = torch.randn(2000, 2, 3, dtype=torch.float64)
    first, nothing, second, other = sequence_masks([0.2, 0.0, 0.2, 0.6], x)
    assert nothing is None
    for mask, rate in ((first, 0.2), (second, 0.2), (other, 0.6)):
        assert mask.shape == (2000, 1, 1) and mask.dtype == x.dtype and set(mask.unique().tolist()) == {0.0, 1.0}
        assert mask.mean().item() == pytest.approx(1 - rate, abs=0.05)
    assert (first * second).mean().item() == pytest.approx(0.64, abs=0.05)


def test_dropout_masks_rescale_what_they_keep():
    torch.manual_seed(0)
    nothing, wide, narrow = dropout_masks([0.0, 0.25, 0.25], [7, 300, 5], torch.randn(40, 9))
    assert nothing is None and narrow.shape == (40, 1, 5) and narrow.is_contiguous()
    assert wide.shape == (40, 1, 300) and wide.is_contiguous()
    torch.testing.assert_close(wide.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert wide.mean().item() == pytest.approx(1.0, abs=0.03)


def test_rates_of_1_and_no_sequences():
    assert sequence_masks([1.0], torch.ones(50, 1))[0].sum() == 0
    assert sequence_masks([0.3], torch.ones(0, 4))[0].shape == (0, 1, 1)


def test_rates_on_the_device_drop_as_numbers_do():
    x, rates = torch.ones(400, 3), [0.3, 0.0, 0.6]
    drawn = []
    for given in (rates, torch.tensor(rates)):
        torch.manual_seed(0)
        drawn.append([*dropout_masks(given, [4, 5, 6], x), *sequence_masks(given, x), torch.rand(1)])
    for of_number, live in zip(*drawn, strict=True):
        torch.testing.assert_close(live, torch.ones_like(live) if of_number is None else of_number)
