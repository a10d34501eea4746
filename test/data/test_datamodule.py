# SPDX-License-Identifier: Apache-2.0
from itertools import islice

import numpy as np
import pytest
import torch

from icefall_alp.config.schema import DataConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream, valid_batches
from icefall_alp.data.datasets import CaptionDataset
from icefall_alp.data.shards import FeatureShards


@pytest.fixture
def dataset(store, cuts):
    return CaptionDataset(FeatureShards(store(cuts)[0]), seed=1, config=DataConfig())


def stream(dataset, rank=0, world_size=1, num_workers=0):
    return TrainStream(dataset, BatchPlan(dataset.durations, 3.0, 3, seed=1), rank, world_size, num_workers)


def assert_same(left, right):
    for one, two in zip(left, right, strict=True):
        assert one.cut_ids == two.cut_ids
        assert one.captions == two.captions
        assert torch.equal(one.features, two.features)
        assert torch.equal(one.feature_lens, two.feature_lens)


def test_every_epoch_sees_each_clip_once(dataset, cuts):
    train = stream(dataset)
    length = len(train.plan)
    batches = list(islice(train.iterate(0), 3 * length))
    for epoch in range(3):
        ids = [name for batch in batches[epoch * length : (epoch + 1) * length] for name in batch.cut_ids]
        assert sorted(ids) == sorted(cut.id for cut in cuts)
    assert [train.epoch_of(step) for step in (0, length - 1, length, 2 * length)] == [0, 0, 1, 2]
    assert train.max_duration == 3.0


@pytest.mark.parametrize("step", [1, 7, 23])
def test_resuming_equals_an_unbroken_run(dataset, step):
    unbroken = list(islice(stream(dataset).iterate(0), step + 6))
    assert_same(unbroken[step:], list(islice(stream(dataset).iterate(step), 6)))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_stream_of_one(dataset, world_size):
    alone = list(islice(stream(dataset).iterate(0), 4 * world_size))
    for rank in range(world_size):
        assert_same(alone[rank::world_size], list(islice(stream(dataset, rank, world_size).iterate(0), 4)))


def test_world_size_may_change_anywhere(dataset):
    """1, 2, 4 and again 2 processes, changing where no whole step of the next begins: nothing lost, nothing twice."""
    alone = list(islice(stream(dataset).iterate(0), 3 + 2 * 3 + 4 * 2 + 2 * 4))
    seen, position = [], 0
    for world_size, num_steps, num_workers in ((1, 3, 0), (2, 3, 2), (4, 2, 0), (2, 4, 1)):
        ranks = [stream(dataset, rank, world_size, num_workers).iterate(position) for rank in range(world_size)]
        seen += [next(rank) for _ in range(num_steps) for rank in ranks]
        position += num_steps * world_size
    assert_same(alone, seen)


def test_workers_change_nothing(dataset):
    expected = list(islice(stream(dataset).iterate(2), 12))
    assert_same(expected, list(islice(stream(dataset, num_workers=2).iterate(2), 12)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_draws_nothing_from_the_global_generators(dataset, num_workers):
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(islice(stream(dataset, num_workers=num_workers).iterate(0), 3))
    list(valid_batches(dataset, 2.0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize("world_size", [1, 2, 20])
def test_validation_sees_each_clip_once_over_all_ranks(dataset, cuts, world_size):
    batches = [valid_batches(dataset, 2.5, rank, world_size) for rank in range(world_size)]
    ids = [name for part in batches for batch in part for name in batch.cut_ids]
    assert sorted(ids) == sorted(cut.id for cut in cuts)
    assert len(batches[0]) == len(list(batches[0]))
    assert_same(list(batches[0]), list(batches[0]))
    for part in batches:
        for batch in part:
            assert batch.features.shape[0] * batch.features.shape[1] <= 250


def test_validation_workers_change_nothing(dataset):
    assert_same(list(valid_batches(dataset, 2.5)), list(valid_batches(dataset, 2.5, num_workers=2)))
