# SPDX-License-Identifier: Apache-2.0
"""P7, P8: batches per second that one of 8 ranks gets, and their padding; beside it Lhotse's dynamic buckets."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from lhotse import CutSet, MonoCut, Recording
from lhotse.dataset import DynamicBucketingSampler

from benchmarks._corpora import paper_durations
from icefall_alp.data.batch_plan import BatchPlan

MAX_DURATION, NUM_BUCKETS = 640.0, 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=1_000_000, help="of ours (default: %(default)s)")
    parser.add_argument("--lhotse-clips", type=int, default=30_000, help="of Lhotse's (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=8, help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    """Measure both in turns."""
    durations, few = paper_durations(options.clips), paper_durations(options.lhotse_clips)
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(_rate(our_batches(durations, MAX_DURATION, NUM_BUCKETS, options.ranks)))
        theirs.append(_rate(lhotse_batches(few, MAX_DURATION, NUM_BUCKETS, options.ranks)))
    ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
    print(f"batches per second and rank, {options.ranks} ranks, whole epochs, planning included:")
    print(f"  ours    {statistics.median(ours):9.0f}   ({options.clips} clips)")
    print(f"  Lhotse  {statistics.median(theirs):9.0f}   ({options.lhotse_clips} clips)")
    print(
        f"  ratio   {statistics.median(ratios):9.0f}   ({min(ratios):.0f} to {max(ratios):.0f}, {len(ratios)} rounds)"
    )
    for name, batches, of in (
        ("ours", our_batches(durations, MAX_DURATION, NUM_BUCKETS, 1), durations),
        ("Lhotse", ([int(cut.id) for cut in b] for b in lhotse_batches(few, MAX_DURATION, NUM_BUCKETS, 1)), few),
    ):
        print(f"  padding {name}: {100 * padding(batches, of):.2f} %")


def our_batches(durations: np.ndarray, max_duration: float, num_buckets: int, world_size: int) -> Iterator[np.ndarray]:
    """One rank's batches of an epoch, as the train stream reads them."""
    plan = BatchPlan(durations, max_duration, num_buckets, seed=1)
    yield from islice(plan.epoch(0), 0, None, world_size)


def lhotse_batches(durations: np.ndarray, max_duration: float, num_buckets: int, world_size: int) -> Iterator[CutSet]:
    """One rank's batches of an epoch by Lhotse's sampler, which draws those of all ranks."""
    cuts = CutSet.from_cuts(_lhotse_cut(number, float(seconds)) for number, seconds in enumerate(durations))
    sampler = DynamicBucketingSampler(
        cuts, max_duration=max_duration, num_buckets=num_buckets, shuffle=True, world_size=world_size, rank=0, seed=1
    )
    yield from sampler


def padding(batches: Iterable[np.ndarray], durations: np.ndarray) -> float:
    """Share of a batch's time that is no audio."""
    real = padded = 0.0
    for batch in batches:
        seconds = durations[np.asarray(batch)]
        real, padded = real + seconds.sum(), padded + seconds.max() * len(seconds)
    return 1.0 - real / padded


def _lhotse_cut(number: int, seconds: float) -> MonoCut:
    recording = Recording(str(number), [], 16000, round(seconds * 16000), seconds)
    return MonoCut(str(number), 0, seconds, 0, recording=recording)


def _rate(batches: Iterable[object]) -> float:
    start = time.perf_counter()
    number = sum(1 for _ in batches)
    return number / (time.perf_counter() - start)
