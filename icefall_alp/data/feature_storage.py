# SPDX-License-Identifier: Apache-2.0
"""Stage 2: a cutset's features, or its audio for features on the fly, into restartable shards.

Bad audio is left out, listed with its cause, and capped: where it is more than a set share, something else is wrong.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from lhotse import MonoCut
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from icefall_alp.data import audio, fbank, fbank_loops, shards, stored_cuts
from icefall_alp.data.audio import read_audio
from icefall_alp.data.captions import CutDict, read_jsonl
from icefall_alp.data.fbank import FRAME_RATE, MIN_FRAMES, SAMPLING_RATE, Fbank
from icefall_alp.data.shards import FBANK, ShardWriter, finish_shards, list_skipped, start_shards, stored_shard
from icefall_alp.utils.digests import sha256_file, sha256_text
from icefall_alp.utils.errors import UserError

MAX_SECONDS = 600.0  # of a clip: two hours in one batch would fill any device
# What was stored by other code is stored again.
CODE = [Path(module.__file__) for module in (audio, fbank, fbank_loops, shards, stored_cuts)]
CODE += [*fbank_loops.LIBRARY.sources, Path(__file__)]


@dataclass
class StorageReport:
    """What one or all shards of a cutset hold."""

    num_cuts: int = 0
    num_seconds: float = 0.0
    num_computed: int = 0  # cuts whose features were computed now; the others lay there already
    skipped: list[dict[str, str]] = field(default_factory=list)


def store_features(
    cuts: Path,
    output_dir: Path,
    roots: dict[str, Path],
    shard_size: int,
    num_jobs: int,
    kind: str = FBANK,
    max_skipped_share: float = 0.1,
) -> StorageReport:
    """Store a cutset as Lhotse Shar: its features, or its audio for features on the fly. Current shards are kept.

    Args:
        cuts: jsonl.gz of captioned cuts.
        output_dir: where the shards go; `skipped.jsonl` there lists what was left out, with its cause.
        roots: folder of each corpus that the recordings' paths are relative to.
        shard_size: cuts per shard.
        num_jobs: processes.
        kind: `fbank`, or `audio` as 16-bit FLAC.
        max_skipped_share: of the clips; more bad audio than that is an error, though the list of it is written.

    Raises:
        UserError: the cutset is unreadable or its corpus unknown, the disk refuses, or too little could be stored.
    """
    total = sum(1 for _ in read_jsonl(cuts))
    num_shards = math.ceil(total / shard_size)
    start_shards(output_dir, num_shards)
    jobs = DataLoader(
        _ShardJobs(cuts, output_dir, roots, shard_size, kind),
        batch_size=None,
        num_workers=num_jobs if num_jobs > 1 else 0,
    )
    summary = StorageReport()
    with tqdm(total=total, desc=output_dir.name, unit="cut") as progress:
        for report in jobs:
            if isinstance(report, UserError):
                raise report
            summary.num_cuts += report.num_cuts
            summary.num_seconds += report.num_seconds
            summary.num_computed += report.num_computed
            summary.skipped += report.skipped
            progress.update(report.num_cuts + len(report.skipped))
    summary.skipped.sort(key=lambda entry: entry["id"])
    if summary.num_cuts == 0 or len(summary.skipped) > max_skipped_share * total:
        list_skipped(output_dir / "too_many_skipped.jsonl", summary.skipped)
        cause = f"the first is {summary.skipped[0]}" if summary.skipped else "it is empty"
        raise UserError(
            f"{len(summary.skipped)} of {total} cuts of {cuts} could not be stored, more than the share of "
            f"{max_skipped_share} that is allowed; {cause}; all are listed in {output_dir / 'too_many_skipped.jsonl'}"
        )
    (output_dir / "too_many_skipped.jsonl").unlink(missing_ok=True)
    finish_shards(output_dir, summary.skipped)
    return summary


class _ShardJobs(IterableDataset):
    """Worker w of W stores every W-th shard and yields its report, or the `UserError` that stopped it."""

    def __init__(self, cuts: Path, output_dir: Path, roots: dict[str, Path], shard_size: int, kind: str) -> None:
        self.cuts, self.output_dir, self.roots, self.shard_size = cuts, output_dir, roots, shard_size
        self.kind = kind

    def __iter__(self) -> Iterator[StorageReport | UserError]:
        worker = get_worker_info()
        worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        entries, number = read_jsonl(self.cuts), 0
        while shard := list(islice(entries, self.shard_size)):
            if number % num_workers == worker_id:
                try:
                    yield self._store(number, shard)
                except UserError as error:
                    yield error
            number += 1

    def _store(self, number: int, entries: list[CutDict]) -> StorageReport:
        cuts = [MonoCut.from_dict(entry) for entry in entries]
        paths = [self._path(cut) for cut in cuts]
        digest = sha256_text("\n".join([*map(sha256_file, CODE), self.kind, json.dumps(entries), *map(_stamp, paths)]))
        if (stored := stored_shard(self.output_dir, number, digest)) is not None:
            return StorageReport(len(stored.num_frames), sum(stored.num_frames) / FRAME_RATE, 0, stored.skipped)
        fbank, report = Fbank(), StorageReport()
        with ShardWriter(self.output_dir, number, self.kind) as writer:
            for cut, path in zip(cuts, paths, strict=True):
                if (parent := multiprocessing.parent_process()) is not None and not parent.is_alive():
                    sys.exit(1)  # killed: the next start must not meet a writer of this one
                try:
                    waveform = _cut_audio(cut, path)
                except ValueError as cause:
                    report.skipped.append({"id": cut.id, "path": str(path), "reason": str(cause)})
                    continue
                num_frames = (len(waveform) + 80) // 160
                if self.kind == FBANK:
                    features, _ = fbank(waveform[None], torch.tensor([len(waveform)]))
                    writer.add(cut, features[0].numpy())
                else:
                    writer.add(cut, waveform.numpy())
                report.num_cuts += 1
                report.num_seconds += num_frames / FRAME_RATE
            writer.finish(digest, report.skipped)
        report.num_computed = report.num_cuts
        return report

    def _path(self, cut: MonoCut) -> Path:
        corpus = (cut.custom or {}).get("corpus")
        root = self.roots.get(corpus)
        if root is None:
            known = ", ".join(sorted(self.roots)) or "none"
            raise UserError(
                f"{self.cuts}: cut {cut.id} is of corpus {corpus!r}, whose folder is not known; known: {known}"
            )
        if not root.is_dir():
            raise UserError(f"the folder {root} of corpus {corpus} is gone; run stage 0 again with its present place")
        return root / cut.recording.sources[0].source


def _stamp(path: Path) -> str:
    """Changes when a file is replaced, so that features are never those of another recording."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _cut_audio(cut: MonoCut, path: Path) -> Tensor:
    if cut.duration > MAX_SECONDS:
        raise ValueError(f"longer than {MAX_SECONDS} s: {cut.duration:.1f} s")
    waveform = read_audio(path, cut.start, cut.duration)
    if (len(waveform) + 80) // 160 < MIN_FRAMES:
        raise ValueError(f"shorter than {MIN_FRAMES} frames: {len(waveform) / SAMPLING_RATE:.3f} s")
    return waveform
