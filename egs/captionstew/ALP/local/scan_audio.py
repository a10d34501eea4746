#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""List the audio of a corpus with its lengths in <corpus-dir>/audio_scan.gz, so that no later stage opens it.

Files that have not changed since the last scan are not opened again. A folder too large for one job is scanned in
parts, on any number of machines, which are then put together:

    local/scan_audio.py --corpus-dir DIR --num-parts 16 --part 1        ... to --part 16
    local/scan_audio.py --corpus-dir DIR --num-parts 16 --join

Where Lhotse's recipe has been run, its manifests (recordings, or cuts) tell the lengths, and the files they name are
not opened; those they do not name are. What is of no use in them is listed in DIR/audio_scan_skipped.log:

    lhotse prepare musan DIR data/lhotse
    local/scan_audio.py --corpus-dir DIR --recordings data/lhotse/musan_recordings_*.jsonl.gz

A folder that may not be written to: make one of your own with links to what lies there, and prepare that.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from icefall_alp.data.audio_scan import SCAN_NAME, AudioScan, Known, ScanRow, scan_file, walk_audio
from icefall_alp.data.captions import jsonl_writer, read_jsonl
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.lhotse_recordings import LhotseRecordings
from icefall_alp.utils.errors import UserError, clean_exit

CHUNK = 4096  # headers read ahead
SKIPPED_NAME = "audio_scan_skipped.log"  # JSON lines; preparations take what ends in .jsonl for a list


def part_path(root: Path, part: int, num_parts: int) -> Path:
    """Where a part of a scan waits for the others."""
    return root / f"audio_scan.{part}-of-{num_parts}.gz"


def scan(root: Path, part: int, num_parts: int, num_jobs: int, known: Sequence[Known] = ()) -> Iterator[ScanRow]:
    """Yield the line of every `num_parts`-th file, from the `part`-th on."""
    path = root / SCAN_NAME
    if path.is_file():
        known = [AudioScan(path, stamps=True), *known]
    mine = itertools.islice(walk_audio(root), part - 1, None, num_parts)
    with ThreadPoolExecutor(num_jobs) as pool:
        while chunk := list(itertools.islice(mine, CHUNK)):
            yield from filter(None, pool.map(lambda name: scan_file(root, name, *known), chunk))


def scan_with_lhotse(root: Path, manifests: list[Path], num_jobs: int) -> Iterator[ScanRow]:
    """Yield the line of every file, of those that the manifests name without opening them, and list what was wrong."""
    skipped = SkipList()
    recordings = LhotseRecordings(root, manifests, skipped)
    yield from scan(root, 1, 1, num_jobs, [recordings])
    num_used, notes = recordings.finish(), root / SKIPPED_NAME
    skipped.write(notes)
    reasons = "".join(f", {count:,} {reason}" for reason, count in skipped.counts().items())
    print(f"{num_used:,} files not opened: Lhotse's lengths{reasons and f'; of no use{reasons}, see {notes}'}")


def join(root: Path, num_parts: int) -> Iterator[ScanRow]:
    """Yield the lines of all parts in the order of the walk."""
    parts = [read_jsonl(part_path(root, part, num_parts)) for part in range(1, num_parts + 1)]
    for rows in itertools.zip_longest(*parts):
        yield from (row for row in rows if row is not None)


@clean_exit
def main() -> None:
    """Read the command line and write the scan, or a part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus-dir", type=Path, required=True, help="where the corpus lies")
    parser.add_argument("--num-jobs", type=int, default=4, help="threads that read audio headers")
    parser.add_argument("--num-parts", type=int, default=1)
    parser.add_argument("--part", type=int, default=1, help="which part to scan, from 1")
    parser.add_argument("--join", action="store_true", help="put the parts together")
    parser.add_argument("--recordings", type=Path, nargs="+", default=[], help="Lhotse's manifests, .jsonl.gz")
    args = parser.parse_args()
    root, num_parts = args.corpus_dir, args.num_parts
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    if not 1 <= args.part <= num_parts:
        raise UserError(f"--part {args.part}: the parts are 1 to {num_parts}")
    if args.recordings and (args.join or num_parts > 1):
        raise UserError("--recordings goes without parts: hardly a file is opened")
    whole = args.join or num_parts == 1
    if args.recordings:
        rows = scan_with_lhotse(root, args.recordings, args.num_jobs)
    else:
        rows = join(root, num_parts) if args.join else scan(root, args.part, num_parts, args.num_jobs)
    path = root / SCAN_NAME if whole else part_path(root, args.part, num_parts)
    num_files = num_unreadable = 0
    with jsonl_writer(path) as write:
        for row in tqdm(rows, desc=path.name, unit="file", disable=None):
            write(row)
            num_files += 1
            num_unreadable += len(row) == 4
    if args.join:
        for part in range(1, num_parts + 1):
            part_path(root, part, num_parts).unlink()
    print(f"{path}: {num_files:,} audio files, {num_unreadable:,} of which cannot be read")


if __name__ == "__main__":
    main()
