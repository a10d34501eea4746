# SPDX-License-Identifier: Apache-2.0
"""Stages 0 and 1 on lists of the paper's size, without audio: seconds, CPU seconds, peak memory of each (one run)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from icefall_alp.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs/captionstew/ALP"
LIMIT_SECONDS, LIMIT_GIB = 1800.0, 6.0


@dataclass
class Usage:
    """What a command and its children took together."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int  # of all processes at one moment, pages that they share counted once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--scale", type=float, default=1.0, help="share of the paper's 10.7 million captions")
    parser.add_argument("--num-jobs", type=int, default=2, help="corpora prepared at the same time")
    parser.add_argument("--work-dir", type=Path, help="where lists and manifests go, 6 GB at full size; kept")


def run(args: argparse.Namespace) -> None:
    """Write the lists, run the stages on them, print what each took."""
    if args.work_dir:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        measure_stages(args.work_dir.resolve(), args)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure_stages(Path(folder), args)


def measure_stages(work_dir: Path, args: argparse.Namespace) -> None:
    """As run.sh calls them, in a folder of their own."""
    local, corpora = RECIPE / "local", RECIPE / "conf/corpora.yaml"
    made = work_dir / "lists"
    if not made.exists():
        making = work_dir / "lists.part"
        measure([str(local / "make_large_lists.py"), "--output-dir", str(making), "--scale", str(args.scale)], work_dir)
        making.rename(made)
    roots = [f"{folder.name}={folder}" for folder in sorted(made.iterdir())]
    link = work_dir / "local"  # scripts are called by their path in the recipe
    if not link.exists():
        link.symlink_to(local)
    prepare = [
        str(local / "prepare.py"),
        "--corpora",
        str(corpora),
        "--num-jobs",
        str(args.num_jobs),
        "--roots",
        *roots,
    ]
    draw = str(local / "draw_splits.py")
    subsets, splits = (str(RECIPE / f"conf/{name}.yaml") for name in ("subsets", "splits"))
    usages = {
        "stage 0 (prepare)": measure(prepare, work_dir),
        "stage 1 (merge)": measure([str(local / "merge_captionstew.py"), "--corpora", str(corpora)], work_dir),
        "stage 1 (subsets)": measure([str(local / "make_subsets.py"), "--subsets", subsets], work_dir),
        "stage 1 (splits)": measure([draw, "--splits", splits, "--corpora", str(corpora)], work_dir),
    }
    summary = json.loads((work_dir / "data/captionstew/summary.json").read_text(encoding="utf-8"))
    captions, leaks = (sum(c[kind] for c in summary["sources"].values()) for kind in ("captions_in", "leak"))
    kept = summary["train"]["captions"] + summary["valid"]["captions"]
    print(f"{captions:,} captions of {len(summary['sources'])} sources in, {kept:,} out; {leaks:,} clips leaked")
    usages["together"] = Usage(
        sum(u.seconds for u in usages.values()),
        sum(u.cpu_seconds for u in usages.values()),
        max(u.peak_bytes for u in usages.values()),
    )
    for name, usage in usages.items():
        print(f"{name:18} {usage.seconds:9.1f} s {usage.cpu_seconds:9.1f} CPU s {usage.peak_bytes / 2**30:7.2f} GiB")
    print(f"limits at full size: {LIMIT_SECONDS:.0f} s and {LIMIT_GIB:.0f} GiB on 2 cores")


def measure(command: list[str], work_dir: Path) -> Usage:
    """Run a Python script of the recipe to its end. Raises UserError when it fails."""
    path = f"{Path(sys.executable).parent}:{ROOT / 'tools'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=work_dir, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peak, ended = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
    watcher.start()
    output = process.communicate()[0].decode(errors="replace")
    ended.set()
    watcher.join()
    if process.returncode:
        raise UserError(f"{Path(command[0]).name} failed: {output.strip().splitlines()[-1] if output else 'no output'}")
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return Usage(time.perf_counter() - started, cpu, peak[0])


def _watch(pid: int, peak: list[int], ended: threading.Event) -> None:
    """Keep the largest sum of the proportional memory of a process and its descendants, looking twice a second."""
    while not ended.wait(0.5):
        peak[0] = max(peak[0], sum(map(_proportional_bytes, _with_descendants(pid))))


def _with_descendants(pid: int) -> list[int]:
    found = [pid]
    for number in found:
        for children in Path(f"/proc/{number}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # it has ended meanwhile
                continue
    return found


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
