# SPDX-License-Identifier: Apache-2.0
"""R3: SIGTERM and SIGUSR1 to every process, the loader's too: saved within a step, exit code 75, and on to the end."""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from pathlib import Path

from tqdm import tqdm

from faults import forks
from faults.twins import Twins, Watched
from faults.workbench import OBJECTIVES, Workbench
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.signals import STOPPED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--objective", choices=OBJECTIVES, default="contrastive", help="default: %(default)s")
    parser.add_argument("--num-processes", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--num-workers", type=int, default=2, help="of the loader (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=50, help="signals (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Signal and compare; returns what was seen, in words."""
    twins = Twins(Workbench.build(folder), options.objective, options.num_processes, options.num_workers)
    twins.run_unbroken()
    generator, signals, runs = random.Random(options.rounds), 0, 0
    with tqdm(total=options.rounds, unit="signal", disable=None) as bar:
        while signals < options.rounds:
            number = (signal.SIGTERM, signal.SIGUSR1)[signals % 2]
            if _left_with_everything_saved(twins, number, generator.uniform(0, 0.3)):
                signals += 1
                bar.update()
            else:
                twins.compare()
                runs += 1
    twins.finish()
    return f"{signals} signals in {runs + 1} runs: saved within a step, left with {STOPPED}, equal to the bit"


def _left_with_everything_saved(twins: Twins, number: signal.Signals, seconds: float) -> bool:
    """Signal the whole group after a while; False where the run came to its end all the same."""
    for path in twins.folder.glob("read_*"):
        path.unlink()
    before = _last_step(twins)
    processes = twins.start_broken(lambda: _counting(twins))
    while len(list(twins.folder.glob("read_*"))) < twins.num_processes:
        time.sleep(0.001)
    time.sleep(seconds)
    os.killpg(processes[0], number)
    num_read = min(path.stat().st_size for path in twins.folder.glob("read_*"))
    statuses = forks.wait(processes)
    if twins.finished:
        return False
    if set(statuses) != {STOPPED}:
        raise UserError(f"{number.name}: left with {statuses}: {twins.log.read_text(encoding='utf-8')[-2000:]}")
    if (done := _last_step(twins)) > before + num_read + 1:
        raise UserError(f"{number.name}: came at step {before + num_read}, and step {done} was saved")
    return True


def _counting(twins: Twins) -> None:
    """Train; each process's file grows by a byte with every batch."""
    path = twins.folder / f"read_{distributed.rank()}"

    def count(number: int) -> None:
        with path.open("ab") as file:
            file.write(b".")

    trainer = twins.trainer()
    trainer.train_stream = Watched(trainer.train_stream, count)
    trainer.fit()


def _last_step(twins: Twins) -> int:
    last = twins.broken / "checkpoints/last"
    return int(last.read_text(encoding="utf-8").removeprefix("step_")) if last.exists() else 0
