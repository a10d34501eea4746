# SPDX-License-Identifier: Apache-2.0
"""Streams of batches for one rank: endless for training, in fixed order for validation.

The training stream is epoch 0, 1, 2, ... of the batch plan, one after the other: a row of batches without end, which
W ranks read in turn. So resuming at any position is arithmetic, for any number of ranks, and what stands at a position
depends neither on the loader's workers nor on what was read before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from icefall_alp.config import DataConfig
from icefall_alp.data.batch_plan import BatchPlan, duration_limits, mixture_weights
from icefall_alp.utils.distributed import device
from icefall_alp.utils.signals import held_back, obey_parent_only

_PREFETCH = 2  # batches per worker: one of 5,120 s takes 164 MB of shared memory
Visit = tuple[int, np.ndarray]


class TrainStream:
    """Training batches of one rank.

    Args:
        dataset: takes (epoch, positions), gives a batch.
        plan: the order of batches.
        rank: of this process.
        world_size: number of processes, which read the row of batches in turn.
        num_workers: loader processes; 0 loads in this one.
    """

    def __init__(
        self, dataset: Dataset, plan: BatchPlan, rank: int = 0, world_size: int = 1, num_workers: int = 0
    ) -> None:
        self.dataset = dataset
        self.plan = plan
        self.rank = rank
        self.world_size = world_size
        self.num_workers = num_workers

    @classmethod
    def build(cls, dataset: Dataset, config: DataConfig, seed: int, rank: int, world_size: int) -> TrainStream:
        """The stream of a configuration over a dataset with `shards` and `durations`."""
        weights, limits = mixture_weights(dataset.shards, config.mixture), duration_limits(config.max_durations)
        plan = BatchPlan(dataset.durations, config.max_duration, config.num_buckets, seed, weights, limits)
        return cls(dataset, plan, rank, world_size, config.num_workers)

    def first_features(self) -> tuple[Tensor, Tensor]:
        """Features (N, T, 80) and lengths (N,) of the batch at position 0, on the CPU, the same for every rank."""
        batch = self.dataset[0, self.plan.epoch(0)[0]].to("cpu")
        return batch.features, batch.feature_lens

    @property
    def max_duration(self) -> float:
        """Seconds of audio, with padding, that a batch holds at most."""
        return self.plan.max_duration

    def epoch_of(self, position: int) -> int:
        """Epoch of the batch at a position of the row."""
        return position // len(self.plan)

    def iterate(self, position: int = 0) -> Iterator[Any]:
        """This rank's batches without end; the first rank's first one stands at `position` of the row."""
        return _load(self.dataset, _Visits(self, position), self.num_workers)


class _Visits:
    """What one rank reads from a position on."""

    def __init__(self, stream: TrainStream, position: int) -> None:
        self.stream = stream
        self.position = position

    def __iter__(self) -> Iterator[Visit]:
        plan, world_size = self.stream.plan, self.stream.world_size
        position = self.position + self.stream.rank
        present = -1
        while True:
            epoch, place = divmod(position, len(plan))
            if epoch != present:
                present, batches = epoch, plan.epoch(epoch)
            yield epoch, batches[place]
            position += world_size


class ValidBatches:
    """Every clip once over all ranks, in an order that never changes; may be iterated again and again."""

    def __init__(self, dataset: Dataset, visits: list[Visit], num_workers: int) -> None:
        self._dataset, self._visits, self._num_workers = dataset, visits, num_workers

    def __len__(self) -> int:
        return len(self._visits)

    def __iter__(self) -> Iterator[Any]:
        return _load(self._dataset, self._visits, self._num_workers)


def valid_batches(
    dataset: Dataset, max_duration: float, rank: int = 0, world_size: int = 1, num_workers: int = 0
) -> ValidBatches:
    """Validation batches of one rank.

    Args:
        dataset: with `durations`; takes (epoch, positions), gives a batch.
        max_duration: seconds of audio, with padding, per batch.
        rank: of this process.
        world_size: number of processes.
        num_workers: loader processes; 0 loads in this one.
    """
    # As many buckets as clips: sorted by duration, with next to no padding.
    plan = BatchPlan(dataset.durations, max_duration, num_buckets=len(dataset), seed=0)
    visits = [(0, indices) for indices in plan.epoch(0)[rank::world_size]]
    return ValidBatches(dataset, visits, num_workers)


def _load(dataset: Dataset, visits: Iterable[Visit], num_workers: int) -> Iterator[Any]:
    loader = DataLoader(
        dataset,
        sampler=visits,
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=_PREFETCH if num_workers > 0 else None,
        pin_memory=device().type != "cpu",
        worker_init_fn=obey_parent_only,
        # Its own generator, so that starting a loader draws nothing from the global one.
        generator=torch.Generator(),
    )
    with held_back():  # no moment in which a signal meets a worker that is not ready for it
        return iter(loader)
