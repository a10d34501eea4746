# SPDX-License-Identifier: Apache-2.0
"""Schedules against golden values, and the clock they share."""

from __future__ import annotations

import copy

import pytest
import torch

from icefall_alp.models.zipformer.clock import Clock
from icefall_alp.models.zipformer.panel import Panel
from icefall_alp.models.zipformer.schedule import Schedule, ScheduledModule, attach_clock, schedule


def test_schedule_values(golden):
    for case in golden("piecewise.json"):
        value = Schedule(tuple(map(tuple, case["pairs"])))
        for batch_count, expected in case["at"]:
            assert value.at(batch_count) == pytest.approx(expected, rel=1e-12)


def test_schedule_needs_training_and_a_batch_count():
    module = ScheduledModule()
    rate = schedule((0, 0.4), (100, 0.2), default=0.7)
    assert module.train().now(rate) == 0.7
    module.clock.batch_count = 50.0
    assert module.now(rate) == pytest.approx(0.3)
    assert module.eval().now(rate) == 0.7
    assert module.now(0.25) == 0.25


def test_one_clock_for_all_and_its_own_for_a_copy():
    root = torch.nn.Sequential(ScheduledModule(), torch.nn.Sequential(ScheduledModule()))
    clock = Clock()
    attach_clock(root, clock)
    other = copy.deepcopy(root)
    clock.batch_count = 3.0
    assert root[0].clock is root[1][0].clock is clock
    assert other[0].clock is other[1][0].clock and other[0].clock.batch_count is None


def test_rates_are_read_from_the_panel_while_there_is_one():
    module, clock = ScheduledModule().train(), Clock(batch_count=50.0)
    attach_clock(module, clock)
    falling = Schedule(((0, 0.4), (100, 0.2)))
    assert module.rates(falling, 0.7) == pytest.approx([0.3, 0.7])
    panel = clock.panel = Panel(torch.device("cpu"))
    rates = module.rates(falling, 0.7)
    panel.refresh()
    assert rates.tolist() == pytest.approx([0.3, 0.7])
    clock.batch_count = 100.0
    panel.refresh()
    assert rates.tolist() == pytest.approx([0.2, 0.7])
