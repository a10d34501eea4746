# SPDX-License-Identifier: Apache-2.0
"""Averages of weights: the golden trajectory, plain means, resuming, and what cannot be averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save

from icefall_alp.training.model_average import RunningAverage, average_between
from icefall_alp.utils.errors import UserError

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "model_average.safetensors")


def golden(prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


def make_module() -> torch.nn.Module:
    module = torch.nn.Linear(3, 2)
    module.register_buffer("count", torch.zeros((), dtype=torch.int64))
    return module


def assert_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        torch.testing.assert_close(actual[name], value, rtol=0, atol=atol)


def test_golden_running_average():
    module = make_module()
    module.load_state_dict(golden("init/"))
    average = RunningAverage(module, period=3)
    for batch in range(1, 13):
        module.load_state_dict(golden(f"model/batch{batch}/"))
        average.update(batch)
        if batch % 3 == 0:
            assert_equal(average.state_dict(), golden(f"avg/batch{batch}/"), atol=1e-7)


@pytest.mark.parametrize(("start", "end", "start_average", "end_average"), [(4, 12, 3, 12), (4, 11, 3, 9)])
def test_golden_average_between(start, end, start_average, end_average):
    averages = [golden(f"avg/batch{batch}/") for batch in (start_average, end_average)]
    result = average_between(*averages, start=start, end=end, period=3)
    assert_equal(result, golden(f"range_{start}_{end}/"), atol=1e-12)


def test_running_average_is_the_mean_of_what_it_saw():
    module = make_module()
    average = RunningAverage(module, period=5)
    weights, biases = [], []
    for step in range(1, 41):
        with torch.no_grad():
            module.weight.normal_()
            module.bias.normal_()
        average.update(step)
        if step % 5 == 0:
            weights.append(module.weight.detach().double())
            biases.append(module.bias.detach().double())
        if step == 20:
            half = {name: value.clone() for name, value in average.state_dict().items()}
    state = average.state_dict()
    torch.testing.assert_close(state["weight"], torch.stack(weights).mean(0), rtol=0, atol=1e-14)
    second_half = average_between(half, state, start=20, end=40, period=5)
    torch.testing.assert_close(second_half["bias"], torch.stack(biases[4:]).mean(0), rtol=0, atol=1e-14)
    torch.testing.assert_close(average_between(half, state, 0, 40, 5)["bias"], state["bias"], rtol=0, atol=0)


def test_resumed_average_is_bit_identical():
    module, other = make_module(), make_module()
    average = RunningAverage(module, period=1)
    average.update(1)
    resumed = RunningAverage(other, period=1)
    resumed.load_state_dict(load(save(average.state_dict())))
    with torch.no_grad():
        for target in (module, other):
            target.weight.fill_(0.3)
            target.bias.fill_(-0.7)
            target.count.fill_(9)
    average.update(2)
    resumed.update(2)
    assert_equal(resumed.state_dict(), average.state_dict(), atol=0)
    assert resumed.state_dict()["count"] == 9


def test_foreign_average_is_refused_by_name():
    average = RunningAverage(make_module(), period=1)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    foreign = {**before, "weight": torch.zeros(2, 4, dtype=torch.float64)}
    with pytest.raises(UserError, match="weight"):
        average.load_state_dict(foreign)
    with pytest.raises(UserError, match="extra"):
        average.load_state_dict({**before, "extra": torch.zeros(())})
    assert_equal(average.state_dict(), before, atol=0)


def test_range_within_one_period_is_refused():
    averages = [golden("avg/batch3/"), golden("avg/batch6/")]
    with pytest.raises(UserError, match="between batches 6 and 8"):
        average_between(*averages, start=6, end=8, period=3)
