# SPDX-License-Identifier: Apache-2.0
"""R19: loader and trainer for a long time: memory stays flat after the warm-up."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from pathlib import Path

from faults import forks
from faults.twins import Watched
from faults.workbench import Workbench
from icefall_alp.config import TrainingConfig
from icefall_alp.utils.errors import UserError

WARM_UP_SHARE = 0.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--steps", type=int, default=50_000, help="default: %(default)s")
    parser.add_argument("--num-workers", type=int, default=2, help="of the loader (default: %(default)s)")
    parser.add_argument("--max-growth", type=float, default=16.0, help="MiB after the warm-up (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Train and watch; returns what was seen, in words."""
    bench = Workbench.build(folder)
    every = max(1, options.steps // 10)
    training = TrainingConfig(
        num_steps=options.steps, log_every=10, valid_every=every, save_every=every, keep_checkpoints=2, average_every=10
    )

    def look(number: int) -> None:
        if number % max(1, options.steps // 200) == 0:
            with (folder / "memory.jsonl").open("a", encoding="utf-8") as file:
                file.write(f"{resident_mebibytes()}\n")

    def train() -> None:
        trainer = bench.trainer("contrastive", folder / "run", training, options.num_workers)
        trainer.train_stream = Watched(trainer.train_stream, look)
        trainer.fit()

    forks.run(train, folder / "log")
    sizes = [json.loads(line) for line in (folder / "memory.jsonl").read_text().splitlines()]
    warm = int(WARM_UP_SHARE * len(sizes))
    middle = (warm + len(sizes)) // 2
    # The least of each half: what is given back between two looks is no leak.
    growth = min(sizes[middle:]) - min(sizes[warm:middle])
    if growth > options.max_growth:
        raise UserError(f"memory grew by {growth:.1f} MiB after the warm-up: {sizes[warm:]}")
    return f"{options.steps} steps: {sizes[warm]:.0f} MiB after the warm-up, growth {growth:.1f} MiB"


def resident_mebibytes() -> float:
    """Memory in use by this process and those of the loader."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    return sum(map(_resident_mebibytes, processes))


def _resident_mebibytes(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise UserError("this system does not say how much memory a process uses")
