# SPDX-License-Identifier: Apache-2.0
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.utils.errors import UserError


def paper_mix(num_clips):
    """Mostly clips of ten seconds, the rest speech and music of 1 to 60 s."""
    generator = np.random.default_rng(0)
    others = np.clip(generator.lognormal(np.log(8), 0.7, size=num_clips // 4), 1, 60)
    return np.concatenate([np.full(num_clips - len(others), 10.0), others])


def padding(batches, durations):
    padded = sum(durations[batch].max() * len(batch) for batch in batches)
    return 1 - durations.sum() / padded


@settings(max_examples=60, deadline=None)
@given(
    durations=st.lists(st.floats(0.1, 70.0), min_size=1, max_size=300),
    max_duration=st.floats(0.5, 200.0),
    num_buckets=st.integers(1, 40),
    epoch=st.integers(0, 3),
)
def test_each_clip_once_and_no_batch_too_long(durations, max_duration, num_buckets, epoch):
    durations = np.array(durations)
    plan = BatchPlan(durations, max_duration, num_buckets, seed=1)
    batches = plan.epoch(epoch)
    assert len(batches) == len(plan)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(durations)))
    for batch in batches:
        assert len(batch) == 1 or durations[batch].max() * len(batch) <= max_duration


def test_order_is_a_function_of_seed_and_epoch():
    durations = paper_mix(2000)

    def order(seed, epoch):
        return np.concatenate(BatchPlan(durations, 100.0, 10, seed).epoch(epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 5) == order(1, 5)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6
    plan = BatchPlan(durations, 100.0, 10, 1)
    plan.epoch(3)
    assert np.concatenate(plan.epoch(0)).tolist() == order(1, 0)


def test_batch_mates_and_order_of_lengths_change_between_epochs():
    durations = paper_mix(4000)
    plan = BatchPlan(durations, 100.0, 10, seed=0)
    sets = [{frozenset(batch.tolist()) for batch in plan.epoch(epoch)} for epoch in (0, 1)]
    assert len(sets[0] & sets[1]) < 0.05 * len(plan)
    longest = np.array([durations[batch].max() for batch in plan.epoch(0)])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_little_padding_and_full_batches():
    durations = paper_mix(40_000)
    batches = BatchPlan(durations, 640.0, 30, seed=0).epoch(0)
    assert padding(batches, durations) <= 0.02
    assert durations.sum() / (640.0 * len(batches)) > 0.9
    uniform = np.random.default_rng(0).uniform(1, 10, size=3000)
    assert padding(BatchPlan(uniform, 100.0, 30, seed=0).epoch(0), uniform) <= 0.05


def test_one_very_long_clip_does_not_make_the_others_lonely():
    durations = np.concatenate([[500.0], np.full(1000, 4.0)])
    batches = BatchPlan(durations, 64.0, 5, seed=0).epoch(0)
    assert sorted(len(batch) for batch in batches)[:2] == [1, 1000 % 16]
    assert len(batches) == 1 + -(-1000 // 16)


def test_a_million_clips_in_seconds():
    durations = paper_mix(1_000_000)
    start = time.perf_counter()
    plan = BatchPlan(durations, 640.0, 30, seed=0)
    batches = plan.epoch(7)
    assert time.perf_counter() - start < 5
    assert sum(map(len, batches)) == 1_000_000


@pytest.mark.parametrize(
    ("durations", "max_duration", "num_buckets"),
    [([], 10, 1), ([1.0, 0.0], 10, 1), ([1.0, np.nan], 10, 1), ([1.0], 0, 1), ([1.0], 10, 0)],
)
def test_nonsense_is_refused(durations, max_duration, num_buckets):
    with pytest.raises(UserError):
        BatchPlan(np.array(durations), max_duration, num_buckets, seed=0)
