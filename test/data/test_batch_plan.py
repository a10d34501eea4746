# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data.batch_plan import BatchPlan, duration_limits, mixture_weights, visits_and_positions
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


def test_each_of_a_million_clips_once():
    batches = BatchPlan(paper_mix(1_000_000), 640.0, 30, seed=0).epoch(7)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(1_000_000))


def test_weights_are_visits_per_epoch_and_all_clips_have_their_turn():
    generator = np.random.default_rng(1)
    durations = np.round(generator.uniform(1, 20, size=3000), 2)
    weights = np.repeat([0.0, 0.25, 1.0, 2.5], 750)
    plan = BatchPlan(durations, 80.0, 6, seed=3, weights=weights)
    visits = []
    for epoch in range(8):
        batches = [visits_and_positions(batch, 3000)[1] for batch in plan.epoch(epoch)]
        assert len(batches) == len(plan)
        assert all(durations[batch].max() * len(batch) <= 80.0 for batch in batches)
        visits.append(np.bincount(np.concatenate(batches), minlength=3000))
    for weight in np.unique(weights):
        per_epoch = [counts[weights == weight].sum() for counts in visits]
        assert per_epoch == pytest.approx([750 * weight] * 8, abs=6)
        total = np.sum(visits, axis=0)[weights == weight]
        assert total.max() - total.min() <= 2 and abs(total.mean() - 8 * weight) < 0.1
    assert not np.array_equal(visits[0], visits[1])
    again = BatchPlan(durations, 80.0, 6, seed=3, weights=weights).epoch(5)
    assert np.array_equal(np.concatenate(again), np.concatenate(plan.epoch(5)))


def test_a_clip_is_never_its_own_batch_mate_and_each_of_its_visits_has_a_number():
    durations = np.round(np.random.default_rng(1).uniform(1, 20, size=1000), 2)
    weights = np.where(np.arange(1000) < 100, 3.0, 1.0)
    plan = BatchPlan(durations, 160.0, 6, seed=3, weights=weights)
    shares, mates = [], []
    for epoch in range(4):
        batches = plan.epoch(epoch)
        pairs = [visits_and_positions(batch, 1000) for batch in batches]
        assert all(len(np.unique(positions)) == len(positions) for _, positions in pairs)
        visits, positions = map(np.concatenate, zip(*pairs, strict=True))
        assert len(set(zip(visits.tolist(), positions.tolist(), strict=True))) == len(positions) == 1200
        assert sorted(visits[positions == 7].tolist()) == [0, 1, 2] and visits[positions == 500].tolist() == [0]
        shares += [np.mean(part < 100) for part in np.array_split(positions, 3)]
        mates.append({frozenset(positions.tolist()) for _, positions in pairs})
        steps = [np.concatenate([positions for _, positions in pairs[s : s + 4]]) for s in range(0, len(pairs), 4)]
        # Copies may meet where one part of the epoch ends and the next begins.
        assert sum(len(np.unique(step)) < len(step) for step in steps) <= 2
    assert min(shares) > 0.15 and max(shares) < 0.35
    assert not mates[0] & mates[1]


@pytest.mark.parametrize("weight", [1.3, 7.0])
def test_copies_stay_apart_where_a_bucket_has_less_than_one_batch_for_each(weight):
    plan = BatchPlan(np.linspace(3, 4, 10), 640.0, 2, seed=1, weights=np.full(10, weight))
    counts = np.zeros(10)
    for epoch in range(10):
        batches = [visits_and_positions(batch, 10)[1] for batch in plan.epoch(epoch)]
        assert len(batches) == len(plan) and all(len(set(batch.tolist())) == len(batch) for batch in batches)
        counts += np.bincount(np.concatenate(batches), minlength=10)
    assert counts == pytest.approx([10 * weight] * 10, abs=4)


def test_a_weight_of_one_everywhere_is_a_permutation():
    durations = paper_mix(3000)
    batches = BatchPlan(durations, 100.0, 10, 1, np.ones(3000)).epoch(2)
    assert sorted(np.concatenate(batches).tolist()) == list(range(3000))


def test_mixture_lines_become_weights_of_clips():
    clips = SimpleNamespace(sources=np.array([0, 1, 1, 2]), source_names=["a", "b", "c"])
    assert mixture_weights(clips, ("b=2", "c=0.5")).tolist() == [1.0, 2.0, 2.0, 0.5]
    assert mixture_weights(clips, ()) is None
    with pytest.raises(UserError, match="no clip is of corpus 'd'; there are a, b, c"):
        mixture_weights(clips, ("d=1",))
    with pytest.raises(UserError, match="write it as corpus=weight"):
        mixture_weights(clips, ("a",))


def test_short_clips_may_fill_longer_batches():
    durations = np.random.default_rng(3).uniform(1, 60, size=4000)
    limits = duration_limits(["30=150", "10=200"])
    batches = BatchPlan(durations, 120.0, 20, 0, limits=limits).epoch(1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(4000))
    filled = {10.0: [], 30.0: [], 60.0: []}
    for batch in batches:
        longest = durations[batch].max()
        filled[next(seconds for seconds in filled if longest <= seconds)].append(longest * len(batch))
    assert max(filled[60.0]) <= 120 < max(filled[30.0]) <= 150 < max(filled[10.0]) <= 200
    with pytest.raises(UserError, match="write it as seconds=max_duration"):
        duration_limits(["10"])


@pytest.mark.parametrize("weights", [[-1.0], [0.0], [np.nan]])
def test_nonsense_weights_are_refused(weights):
    with pytest.raises(UserError, match=r"data\.mixture"):
        BatchPlan(np.array([1.0]), 10.0, 1, 0, np.array(weights))


@pytest.mark.parametrize(
    ("durations", "max_duration", "num_buckets"),
    [([], 10, 1), ([1.0, 0.0], 10, 1), ([1.0, np.nan], 10, 1), ([1.0], 0, 1), ([1.0], 10, 0)],
)
def test_nonsense_is_refused(durations, max_duration, num_buckets):
    with pytest.raises(UserError):
        BatchPlan(np.array(durations), max_duration, num_buckets, seed=0)
