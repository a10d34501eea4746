# SPDX-License-Identifier: Apache-2.0
"""P9: from nothing to the batch in the middle of an epoch of 9.3 M clips; beside it Lhotse's sampler, which replays.

What is measured is all that the recipe's `train.py` does with the data: it opens the shards and looks at the size of
each, makes the plan, takes the digests of the inputs, starts the workers and receives the batch. Not measured are what
depends on the model, and Python's imports.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._corpora import PAPER_CLIPS, paper_durations, write_index
from benchmarks.batches import lhotse_batches
from icefall_alp.config import DataConfig
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import CaptionDataset
from icefall_alp.data.shards import input_files
from icefall_alp.utils.digests import sha256_file

CONFIG = DataConfig(max_duration=640.0, num_buckets=30, num_workers=2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=PAPER_CLIPS, help="default: %(default)s")
    parser.add_argument("--lhotse-clips", type=int, default=20_000, help="that Lhotse replays (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Measure cold and warm starts, and Lhotse's replay in turns; its time grows with the clips, so it is scaled."""
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), paper_durations(options.clips))
        for name in ("clips.npy", "clips.json"):
            _forget(Path(folder) / name)
        cold = resume(Path(folder))
        warm, replayed = [], []
        for _ in range(options.rounds):
            warm.append(resume(Path(folder)))
            replayed.append(replay(options.lhotse_clips) * options.clips / options.lhotse_clips)
    totals = [sum(parts.values()) for parts in warm]
    print(
        f"resume at the middle of {options.clips} clips: cold {sum(cold.values()):.2f} s, "
        f"warm {statistics.median(totals):.2f} s ({min(totals):.2f} to {max(totals):.2f}, {len(totals)} rounds)"
    )
    print("  " + ", ".join(f"{name} {statistics.median(p[name] for p in warm):.2f} s" for name in cold))
    ratios = [other / own for own, other in zip(totals, replayed, strict=True)]
    print(
        f"Lhotse's replay, measured on {options.lhotse_clips} clips and scaled: {statistics.median(replayed):.0f} s, "
        f"{statistics.median(ratios):.0f} times as long ({min(ratios):.0f} to {max(ratios):.0f})"
    )


def resume(folder: Path) -> dict[str, float]:
    """Seconds of each part of the way to the batch in the middle of epoch 3."""
    times = [time.perf_counter()]
    dataset = CaptionDataset.open(CONFIG, str(folder), training=True, seed=1)
    times.append(time.perf_counter())
    stream = TrainStream.build(dataset, CONFIG, seed=1, rank=0, world_size=1)
    times.append(time.perf_counter())
    for path in input_files(folder):
        sha256_file(path)
    times.append(time.perf_counter())
    batch = next(stream.iterate(3 * len(stream.plan) + len(stream.plan) // 2))
    times.append(time.perf_counter())
    assert len(batch.captions) > 0
    return dict(zip(("shards", "plan", "digests", "batch"), np.diff(times).tolist(), strict=True))


def replay(num_clips: int) -> float:
    """Seconds that Lhotse's sampler takes to pass over half of the clips."""
    durations = paper_durations(num_clips)
    start, seen = time.perf_counter(), 0
    for batch in lhotse_batches(durations, CONFIG.max_duration, CONFIG.num_buckets, world_size=1):
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
