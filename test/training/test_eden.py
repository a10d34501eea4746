# SPDX-License-Identifier: Apache-2.0
"""The schedule: the golden tables, every group its own base rate, and resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from icefall_alp.training.eden import Eden, eden2_factor

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "eden.json").read_text())
WARMUP = {"warmup_batches": 500, "warmup_start": 0.5}


def make_optimizer(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates])


def test_golden_table():
    assert {key: GOLDEN["eden"][key] for key in WARMUP} == WARMUP
    for lr_batches, lr_epochs, epoch, batch, expected in GOLDEN["eden"]["rows"]:
        optimizer = make_optimizer(GOLDEN["eden"]["base_lr"])
        schedule = Eden(optimizer, lr_batches=lr_batches, lr_epochs=lr_epochs, **WARMUP)
        schedule.step_epoch(epoch)
        schedule.step_batch(batch)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)


def test_golden_table_without_epochs():
    for lr_batches, batch, expected in GOLDEN["eden2"]["rows"]:
        factor = eden2_factor(batch, lr_batches, **WARMUP)
        assert GOLDEN["eden2"]["base_lr"] * factor == pytest.approx(expected, rel=1e-12)


def test_groups_keep_their_proportion_and_start_warmed_down():
    optimizer = make_optimizer(0.04, 0.004)
    schedule = Eden(optimizer, lr_batches=10, lr_epochs=2, warmup_batches=4, warmup_start=0.25)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.001])
    schedule.step_batch(7)
    schedule.step_epoch(3)
    first, second = (group["lr"] for group in optimizer.param_groups)
    assert first == pytest.approx(10 * second)
    assert first == pytest.approx(0.04 * (149 / 100) ** -0.25 * (13 / 4) ** -0.25)


def test_no_warmup():
    optimizer = make_optimizer(0.04)
    Eden(optimizer, lr_batches=10, lr_epochs=2, warmup_batches=0, warmup_start=0.5)
    assert optimizer.param_groups[0]["lr"] == 0.04


def test_resumed_schedule_continues_from_the_saved_base_rate():
    optimizer = make_optimizer(0.04)
    schedule = Eden(optimizer, lr_batches=10, lr_epochs=2, **WARMUP)
    schedule.step_epoch(2)
    schedule.step_batch(9)
    resumed = make_optimizer(0.04)
    resumed.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
    again = Eden(resumed, lr_batches=10, lr_epochs=2, **WARMUP)
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    again.step_batch(10)
    schedule.step_batch(10)
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
