# SPDX-License-Identifier: Apache-2.0
"""P6: batches from shards, stored features and FLAC with features on the fly; beside it Lhotse's own loader recipe."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from lhotse import CutSet, Fbank
from lhotse.dataset import DynamicBucketingSampler, OnTheFlyFeatures, PrecomputedFeatures
from lhotse.dataset.iterable_dataset import IterableDatasetWrapper
from torch.utils.data import DataLoader, Dataset

from benchmarks._corpora import paper_durations, write_noise
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import CaptionDataset
from icefall_alp.data.shards import AUDIO, FBANK, FeatureShards

MAX_DURATION, NUM_BUCKETS = 160.0, 8
FIELDS = {FBANK: "features", AUDIO: "recording"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--num-workers", type=int, default=0, help="0 measures one core (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Measure both in turns, for both kinds of shards."""
    durations = paper_durations(options.clips)
    for kind in (FBANK, AUDIO):
        with tempfile.TemporaryDirectory() as folder:
            write_noise(Path(folder), durations, kind)
            ours, theirs = [], []
            for turn in range(-1, options.rounds):
                own = _seconds_of_audio(our_batches(Path(folder), options), options.device)
                other = _seconds_of_audio(lhotse_batches(Path(folder), kind, options), options.device)
                if turn >= 0:  # the turn before the first warms up
                    ours.append(own)
                    theirs.append(other)
        ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
        print(
            f"{kind}: ours {statistics.median(ours):.0f} audio-s/s, Lhotse {statistics.median(theirs):.0f}, "
            f"{statistics.median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f}, {len(ratios)} rounds)"
        )


def our_batches(folder: Path, options: argparse.Namespace) -> Iterator[tuple[float, object]]:
    """Seconds of audio and features of every batch of an epoch, on the device."""
    dataset = CaptionDataset(FeatureShards(folder))
    plan = BatchPlan(dataset.durations, MAX_DURATION, NUM_BUCKETS, seed=1)
    for batch in islice(TrainStream(dataset, plan, num_workers=options.num_workers).iterate(), len(plan)):
        yield batch.num_seconds, batch.to(options.device).features


class _LhotseDataset(Dataset):
    def __init__(self, kind: str) -> None:
        self._features = PrecomputedFeatures() if kind == FBANK else OnTheFlyFeatures(Fbank())

    def __getitem__(self, cuts: CutSet) -> tuple[float, object, list[str]]:
        features, _ = self._features(cuts)
        return sum(cut.duration for cut in cuts), features, [cut.supervisions[0].id for cut in cuts]


def lhotse_batches(folder: Path, kind: str, options: argparse.Namespace) -> Iterator[tuple[float, object]]:
    """The same by Lhotse: Shar read in order, dynamic buckets, its collation."""
    paths = {name: [str(path) for path in sorted(folder.glob(f"{name}.*"))] for name in ("cuts", FIELDS[kind])}
    cuts = CutSet.from_shar(fields=paths, shuffle_shards=True, seed=1)
    sampler = DynamicBucketingSampler(
        cuts, max_duration=MAX_DURATION, num_buckets=NUM_BUCKETS, shuffle=True, seed=1, buffer_size=options.clips
    )
    dataset = IterableDatasetWrapper(_LhotseDataset(kind), sampler)
    for seconds, features, _ in DataLoader(dataset, batch_size=None, num_workers=options.num_workers):
        yield seconds, features.to(options.device)


def _seconds_of_audio(batches: Iterator[tuple[float, object]], device: torch.device) -> float:
    start = time.perf_counter()
    total = sum(seconds for seconds, _ in batches)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return total / (time.perf_counter() - start)
