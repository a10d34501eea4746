# SPDX-License-Identifier: Apache-2.0
"""R6: a process of a run dies, freezes or hangs: it is named, all leave within a minute, the next start goes on."""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from faults import forks
from faults.twins import NUM_STEPS, Twins, Watched
from faults.workbench import OBJECTIVES, Workbench
from icefall_alp.config import TrainingConfig
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.watchdog import SILENCE, Watchdog

KINDS = ("killed", "frozen", "hanging")
MINUTE = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--objective", choices=OBJECTIVES, default="contrastive", help="default: %(default)s")
    parser.add_argument("--num-processes", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=18, help="losses, of each process in turn (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="in turn (default: all)")
    hang_seconds = TrainingConfig().hang_seconds
    parser.add_argument("--silence", type=float, default=SILENCE, help="the watchdog's (default: %(default)s)")
    parser.add_argument("--hang-seconds", type=float, default=hang_seconds, help="likewise (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Lose one process after the other and compare; returns what was seen, in words."""
    twins = Twins(Workbench.build(folder), options.objective, options.num_processes)
    twins.run_unbroken()
    generator, slowest = random.Random(options.rounds), 0.0
    for number in tqdm(range(options.rounds), unit="loss", disable=None):
        victim = number % options.num_processes
        kind = options.kinds[number // options.num_processes % len(options.kinds)]
        watchdog = Watchdog(options.hang_seconds, options.silence)
        seconds = _lose(twins, kind, victim, generator.randrange(3, NUM_STEPS - 1), watchdog)
        slowest = max(slowest, seconds)
        twins.finish()
    return f"{options.rounds} losses: always named, all left in {slowest:.0f} s at most, and then equal to the bit"


def _lose(twins: Twins, kind: str, victim: int, batch: int, watchdog: Watchdog) -> float:
    """Train until a process is lost at one of its batches; returns how long the others stayed."""
    there = twins.folder / "there"
    there.unlink(missing_ok=True)

    def look(number: int) -> None:
        if number == batch and distributed.rank() == victim:
            there.touch()
            _suffer(kind)

    def work() -> None:
        trainer = twins.trainer()
        trainer.watchdog = watchdog
        trainer.train_stream = Watched(trainer.train_stream, look)
        trainer.fit()

    read = twins.log.stat().st_size
    processes = twins.start_broken(work)
    lost = processes[victim]
    _await(processes, there.exists, "the loss")
    began = time.monotonic()
    _await([process for process in processes if process != lost], lambda: False, f"rank {victim} was {kind}; leaving")
    seconds = time.monotonic() - began
    os.kill(lost, signal.SIGKILL)
    statuses = forks.wait(processes)
    printed = twins.log.read_bytes()[read:].decode()
    accused = {line.split(": ", 2)[2].split()[1] for line in printed.splitlines() if line.startswith("error: rank ")}
    if accused != {str(victim)} or 0 in statuses:
        raise UserError(f"rank {victim} was {kind}; named: {accused}, left with {statuses}: {printed[-2000:]}")
    return seconds


def _suffer(kind: str) -> None:
    if kind == "hanging":
        time.sleep(10 * MINUTE)
    os.kill(os.getpid(), signal.SIGKILL if kind == "killed" else signal.SIGSTOP)


def _await(processes: list[int], happened: Callable[[], bool], what: str) -> None:
    """Until something has happened or all processes have ended; nothing is collected of them.

    Raises:
        UserError: not within a minute.
    """
    deadline = time.monotonic() + MINUTE
    while not happened() and any(_runs(process) for process in processes):
        if time.monotonic() > deadline:
            raise UserError(f"{what}: not within a minute")
        time.sleep(0.05)


def _runs(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
