# SPDX-License-Identifier: Apache-2.0
"""P9: from nothing to the batch in the middle of an epoch of 9.3 M clips; beside it Lhotse's sampler, which replays."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks._corpora import PAPER_CLIPS, paper_durations, write_index
from benchmarks.batches import lhotse_batches
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.shards import FeatureShards

MAX_DURATION, NUM_BUCKETS = 640.0, 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=PAPER_CLIPS, help="default: %(default)s")
    parser.add_argument("--lhotse-clips", type=int, default=20_000, help="that Lhotse replays (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Measure cold and warm starts, and Lhotse's replay in turns; its time grows with the clips, so it is scaled."""
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), paper_durations(options.clips))
        _forget(Path(folder) / "clips.npy")
        cold = resume(Path(folder))
        warm, replayed = [], []
        for _ in range(options.rounds):
            warm.append(resume(Path(folder)))
            replayed.append(replay(options.lhotse_clips) * options.clips / options.lhotse_clips)
    print(f"resume at the middle of {options.clips} clips: cold {cold:.2f} s, warm {statistics.median(warm):.2f} s")
    print(f"  warm, {len(warm)} rounds: {min(warm):.2f} to {max(warm):.2f} s")
    ratios = [other / own for own, other in zip(warm, replayed, strict=True)]
    print(
        f"Lhotse's replay, measured on {options.lhotse_clips} clips and scaled: {statistics.median(replayed):.0f} s, "
        f"{statistics.median(ratios):.0f} times as long ({min(ratios):.0f} to {max(ratios):.0f})"
    )


def resume(folder: Path) -> float:
    """Seconds until it is known which clips the step in the middle of epoch 3 reads."""
    start = time.perf_counter()
    plan = BatchPlan(FeatureShards(folder).durations, MAX_DURATION, NUM_BUCKETS, seed=1)
    epoch, place = divmod(3 * len(plan) + len(plan) // 2, len(plan))
    batch = plan.epoch(epoch)[place]
    assert len(batch) > 0
    return time.perf_counter() - start


def replay(num_clips: int) -> float:
    """Seconds that Lhotse's sampler takes to pass over half of the clips."""
    durations = paper_durations(num_clips)
    start, seen = time.perf_counter(), 0
    for batch in lhotse_batches(durations, MAX_DURATION, NUM_BUCKETS, world_size=1):
        seen += len(batch)
        if seen >= num_clips / 2:
            break
    return time.perf_counter() - start


def _forget(path: Path) -> None:
    """Take a file out of the system's memory, as after a restart."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
