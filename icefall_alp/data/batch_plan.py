# SPDX-License-Identifier: Apache-2.0
"""The order of batches as a pure function of (seed, epoch).

Clips are sorted by duration and cut into buckets of whole batches. A bucket's batch size is what fits `max_duration`
at its longest clip, so clips may be shuffled inside their bucket without making a batch too long, and every epoch has
the same number of batches: which batch a step reads needs no replay. Where a bucket has batches enough, the shuffled
clips are sorted again in pools of a few batches, which leaves next to no padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icefall_alp.utils.errors import UserError

_POOL = 8  # batches, and at most a quarter of the bucket: beyond that batch mates would hardly change


@dataclass(frozen=True)
class _Bucket:
    """Clips `first` to `last` of the sorted order, in batches of `batch_size`; its last batch may be smaller."""

    first: int
    last: int
    batch_size: int


class BatchPlan:
    """Batches of clips of similar length, each clip once per epoch.

    Args:
        durations: (number of clips,) seconds, positive.
        max_duration: seconds per batch, counted as the longest clip times the number of clips. A clip that is longer
            makes a batch of its own.
        num_buckets: into how many parts of equal total duration the clips are sorted; many pad less, few mix more.
            A bucket also ends before a clip of less than half the duration of its longest.
        seed: the order of every epoch follows from it.

    Raises:
        UserError: no clips, or durations or `max_duration` not positive.
    """

    def __init__(self, durations: np.ndarray, max_duration: float, num_buckets: int, seed: int) -> None:
        durations = np.asarray(durations, dtype=np.float64)
        if len(durations) == 0 or not (durations > 0).all():
            raise UserError(f"batches need clips of positive duration; {len(durations)} clips were given")
        if max_duration <= 0 or num_buckets < 1:
            raise UserError(f"max_duration ({max_duration}) and num_buckets ({num_buckets}) must be positive")
        self.max_duration = max_duration
        self.seed = seed
        self._durations = durations
        self._order = np.argsort(-durations, kind="stable")
        self._buckets = _fill_buckets(durations[self._order], max_duration, num_buckets)
        self._num_batches = sum(-(-(bucket.last - bucket.first) // bucket.batch_size) for bucket in self._buckets)

    def __len__(self) -> int:
        """Batches per epoch, the same in every epoch."""
        return self._num_batches

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Batches of one epoch, each an array of positions in `durations`; equal for equal (seed, epoch)."""
        generator = np.random.default_rng((self.seed, epoch))
        batches: list[np.ndarray] = []
        for bucket in self._buckets:
            clips = self._sort_pools(generator.permutation(self._order[bucket.first : bucket.last]), bucket.batch_size)
            whole = len(clips) - len(clips) % bucket.batch_size
            batches += list(clips[:whole].reshape(-1, bucket.batch_size))
            if whole < len(clips):
                batches.append(clips[whole:])
        return [batches[position] for position in generator.permutation(len(batches))]

    def _sort_pools(self, clips: np.ndarray, batch_size: int) -> np.ndarray:
        """Sort each pool of a shuffled bucket by duration; the clips left over at its end stay as they are."""
        pool = min(_POOL, len(clips) // (4 * batch_size)) * batch_size
        if pool <= batch_size:
            return clips
        whole = len(clips) - len(clips) % pool
        pools = clips[:whole].reshape(-1, pool)
        order = np.argsort(self._durations[pools], axis=1, kind="stable")
        return np.concatenate([np.take_along_axis(pools, order, axis=1).ravel(), clips[whole:]])


def _fill_buckets(durations: np.ndarray, max_duration: float, num_buckets: int) -> list[_Bucket]:
    """Cut clips, sorted from long to short, into buckets of whole batches."""
    ends = np.cumsum(durations)
    share = ends[-1] / num_buckets
    buckets = []
    first = 0
    while first < len(durations):
        longest = durations[first]
        batch_size = max(1, int(max_duration / longest))
        full = np.searchsorted(ends, ends[first] - longest + share * (1 - 1e-9)) + 1
        similar = np.searchsorted(-durations, -longest / 2, side="right")
        num_batches = -(-(min(full, similar) - first) // batch_size)
        last = min(len(durations), first + int(num_batches) * batch_size)
        buckets.append(_Bucket(first, last, batch_size))
        first = last
    return buckets
