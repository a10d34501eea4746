# SPDX-License-Identifier: Apache-2.0
"""The order of batches as a pure function of (seed, epoch).

Clips are sorted by duration and cut into buckets of whole batches. A bucket's batch size is what fits `max_duration`
at its longest clip, so clips may be shuffled inside their bucket without making a batch too long, and every epoch has
the same number of batches: which batch a step reads needs no replay. Where a bucket has batches enough, the shuffled
clips are sorted again in pools of a few batches, which leaves next to no padding.

A clip of weight w is visited w times an epoch: of weight 0.25 in every fourth, of weight 2 twice in each. Which ones
have their turn goes round, so that over the epochs all clips of one weight are visited equally often. Where a weight
exceeds 1, the epoch is made of parts, one after the other, in which no clip occurs twice: a clip is never its own batch
mate, and the mixture is the same in every part. A clip's visits after the first are written as its position plus the
number of clips, or twice that number, and so on (`visits_and_positions`), so that each is drawn and augmented anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from icefall_alp.utils.errors import UserError

_POOL = 8  # batches, and at most a quarter of the bucket: beyond that batch mates would hardly change


@dataclass(frozen=True)
class _Bucket:
    """Clips `first` to `last` of the sorted order, visited in batches of `batch_size`; the last may be smaller.

    `groups` are those clips by weight: (places in the sorted order, visits of all of them in an epoch).
    """

    first: int
    last: int
    batch_size: int
    groups: list[tuple[np.ndarray, int]]

    @property
    def num_parts(self) -> int:
        """So many that each holds no clip of the bucket twice."""
        return max((-(-visits // len(places)) for places, visits in self.groups), default=1)

    def part_size(self, part: int, num_parts: int) -> int:
        """Visits in one of the parts of an epoch."""
        if not self.groups:  # then there is one part
            return self.last - self.first
        return sum(len(_share(visits, part, num_parts)) for _, visits in self.groups)


class BatchPlan:
    """Batches of clips of similar length; where all have weight 1, each clip once per epoch.

    Args:
        durations: (number of clips,) seconds, positive.
        max_duration: seconds per batch, counted as the longest clip times the number of clips. A clip that is longer
            makes a batch of its own.
        num_buckets: into how many parts of equal total duration the clips are sorted; many pad less, few mix more.
            A bucket also ends before a clip of less than half the duration of its longest.
        seed: the order of every epoch follows from it.
        weights: (number of clips,) visits of each clip per epoch, see `mixture_weights`; None for 1.
        limits: (seconds, `max_duration` for clips up to that long), see `duration_limits`; they win over
            `max_duration`, which holds for clips longer than all of them.

    Raises:
        UserError: no clips, or durations, weights or `max_duration` not positive.
    """

    def __init__(
        self,
        durations: np.ndarray,
        max_duration: float,
        num_buckets: int,
        seed: int,
        weights: np.ndarray | None = None,
        limits: Sequence[tuple[float, float]] = (),
    ) -> None:
        durations = np.asarray(durations, dtype=np.float64)
        if len(durations) == 0 or not (durations > 0).all():
            raise UserError(f"batches need clips of positive duration; {len(durations)} clips were given")
        if max_duration <= 0 or num_buckets < 1:
            raise UserError(f"max_duration ({max_duration}) and num_buckets ({num_buckets}) must be positive")
        if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise UserError("weights of clips must be finite, none negative and not all zero; check data.mixture")
        self.max_duration = max_duration
        self.seed = seed
        self._durations = durations
        self._order = _longest_first(durations)
        if weights is not None:
            self._order = self._order[weights[self._order] > 0]
            weights = weights[self._order]
        limits = [*sorted(limits), (float("inf"), max_duration)]
        self._buckets = _fill_buckets(durations[self._order], limits, num_buckets, weights)
        self._num_parts = max(bucket.num_parts for bucket in self._buckets)
        self._num_batches = sum(
            -(-bucket.part_size(part, self._num_parts) // bucket.batch_size)
            for bucket in self._buckets
            for part in range(self._num_parts)
        )

    def __len__(self) -> int:
        """Batches per epoch, the same in every epoch."""
        return self._num_batches

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Batches of one epoch, each an array of positions in `durations`; equal for equal (seed, epoch).

        Where weights exceed 1, `visits_and_positions` takes the positions apart.
        """
        generator = np.random.default_rng((self.seed, epoch))
        visited = [self._visited(number, epoch, generator) for number in range(len(self._buckets))]
        batches: list[np.ndarray] = []
        for part in range(self._num_parts):
            batches += self._part([clips[part] for clips in visited], generator)
        return batches

    def _part(self, visited: list[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
        """Batches of what is visited of each bucket, in their order."""
        batches: list[np.ndarray] = []
        for bucket, in_part in zip(self._buckets, visited, strict=True):
            clips = self._sort_pools(generator.permutation(in_part), bucket.batch_size)
            whole = len(clips) - len(clips) % bucket.batch_size
            batches += list(clips[:whole].reshape(-1, bucket.batch_size))
            if whole < len(clips):
                batches.append(clips[whole:])
        return [batches[position] for position in generator.permutation(len(batches))]

    def _visited(self, number: int, epoch: int, generator: np.random.Generator) -> list[np.ndarray]:
        """The clips of a bucket that have their turn in each part of an epoch."""
        bucket = self._buckets[number]
        if not bucket.groups:
            return [self._order[bucket.first : bucket.last]]
        parts: list[list[np.ndarray]] = [[] for _ in range(self._num_parts)]
        for group, (places, num_visits) in enumerate(bucket.groups):
            in_turn = np.random.default_rng((self.seed, number, group)).permutation(self._order[places])
            # `num_visits` steps further round the circle in every epoch
            visits, turn = np.divmod(np.arange(num_visits), len(in_turn))
            in_turn = np.roll(in_turn, -(epoch * num_visits) % len(in_turn))
            if self._num_parts > 1:  # or the same clips would be in the same part every time
                more = num_visits % len(in_turn)  # clips are visited once more than the others
                in_turn = np.concatenate([generator.permutation(in_turn[:more]), generator.permutation(in_turn[more:])])
            clips = in_turn[turn] + visits * len(self._durations)
            for part, visited in enumerate(parts):
                share = _share(num_visits, part, self._num_parts)
                visited.append(clips[share.start : share.stop])
        return [np.concatenate(visited) for visited in parts]

    def _sort_pools(self, clips: np.ndarray, batch_size: int) -> np.ndarray:
        """Sort each pool of a shuffled bucket by duration; the clips left over at its end stay as they are."""
        pool = min(_POOL, len(clips) // (4 * batch_size)) * batch_size
        if pool <= batch_size:
            return clips
        whole = len(clips) - len(clips) % pool
        pools = clips[:whole].reshape(-1, pool)
        order = np.argsort(self._durations[self._positions(pools)], axis=1, kind="stable")
        return np.concatenate([np.take_along_axis(pools, order, axis=1).ravel(), clips[whole:]])

    def _positions(self, clips: np.ndarray) -> np.ndarray:
        return clips if self._num_parts == 1 else clips % len(self._durations)


def visits_and_positions(clips: np.ndarray, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
    """What a batch of the plan says: of each clip which visit in its epoch it is, from 0, and its position."""
    return np.divmod(clips, num_clips)


class Sources(Protocol):
    """Which corpus each clip is of."""

    sources: np.ndarray  # (number of clips,) places in `source_names`
    source_names: list[str]


def mixture_weights(clips: Sources, mixture: Sequence[str]) -> np.ndarray | None:
    """Weight of each clip from `corpus=weight` lines; 1 where a corpus is not named, None where none is.

    Args:
        clips: with their corpora.
        mixture: for example ("wavcaps=2", "audiosetcaps=0.25").

    Raises:
        UserError: not of that form, or an unknown corpus.
    """
    if not mixture:
        return None
    names = clips.source_names
    weights = np.ones(len(names))
    for line in mixture:
        name, _, text = line.partition("=")
        if name not in names:
            raise UserError(f"data.mixture: {line}: no clip is of corpus {name!r}; there are {', '.join(names)}")
        try:
            weights[names.index(name)] = float(text)
        except ValueError as error:
            raise UserError(f"data.mixture: {line}: write it as corpus=weight, for example {name}=0.5") from error
    return weights[clips.sources]


def duration_limits(lines: Sequence[str]) -> list[tuple[float, float]]:
    """(seconds, max_duration) from `seconds=max_duration` lines, as `tools/find_max_duration.py` prints them.

    Raises:
        UserError: not of that form.
    """
    limits = []
    for line in lines:
        seconds, _, limit = line.partition("=")
        try:
            limits.append((float(seconds), float(limit)))
        except ValueError as error:
            raise UserError(f"data.max_durations: {line}: write it as seconds=max_duration, such as 10=900") from error
    return limits


def _longest_first(durations: np.ndarray) -> np.ndarray:
    """Positions by falling duration, equal ones in their order."""
    frames = np.rint(durations * 100)
    longest = (1 << 16) - 1
    if frames.max() <= longest and (frames / 100 == durations).all():
        return np.argsort((longest - frames).astype(np.uint16), kind="stable")  # NumPy sorts 16 bits by radix: fast
    return np.argsort(-durations, kind="stable")


def _fill_buckets(
    durations: np.ndarray, limits: Sequence[tuple[float, float]], num_buckets: int, weights: np.ndarray | None
) -> list[_Bucket]:
    """Cut clips, sorted from long to short, into buckets of whole batches."""
    ends = np.cumsum(durations if weights is None else durations * weights)
    visits = None if weights is None else np.cumsum(weights)
    share = ends[-1] / num_buckets
    shortest_first = durations[::-1]
    buckets: list[_Bucket] = []
    first = 0
    while first < len(durations):
        longest = durations[first]
        max_duration = next(limit for seconds, limit in limits if longest <= seconds)
        batch_size = max(1, int(max_duration / longest))
        before = ends[first - 1] if first else 0.0
        full = np.searchsorted(ends, before + share * (1 - 1e-9)) + 1
        similar = len(durations) - np.searchsorted(shortest_first, longest / 2, side="left")
        end = min(full, similar, len(durations))
        if visits is None:
            last = min(len(durations), first + -(-(end - first) // batch_size) * batch_size)
            buckets.append(_Bucket(first, last, batch_size, []))
        else:
            done = visits[first - 1] if first else 0.0
            wanted = -(-(visits[end - 1] - done) // batch_size) * batch_size
            last = min(len(durations), int(np.searchsorted(visits, done + wanted * (1 - 1e-9))) + 1)
            buckets.append(_Bucket(first, last, batch_size, _groups(first, weights[first:last])))
        first = last
    return buckets


def _share(num_visits: int, part: int, num_parts: int) -> range:
    """A part's even share of visits that go round and round a circle: never more than once round."""
    return range(num_visits * part // num_parts, num_visits * (part + 1) // num_parts)


def _groups(first: int, weights: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Clips of a bucket by weight, with their visits in an epoch: at least one, or some clips would never be seen."""
    groups = []
    for weight in np.unique(weights):
        places = first + np.flatnonzero(weights == weight)
        groups.append((places, max(1, round(float(weight) * len(places)))))
    return groups
