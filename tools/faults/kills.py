# SPDX-License-Identifier: Apache-2.0
"""R1, R15: kill -9 at random moments, also inside a save, and start again: bit for bit as unbroken."""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from pathlib import Path

from tqdm import tqdm

from faults import forks
from faults.twins import Twins
from faults.workbench import OBJECTIVES, Workbench
from icefall_alp.utils.errors import UserError

EVERY = 4  # one kill in so many waits until a checkpoint is half written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--objective", choices=OBJECTIVES, default="contrastive", help="default: %(default)s")
    parser.add_argument("--num-processes", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=200, help="kills (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Kill and compare; returns what was seen, in words."""
    twins = Twins(Workbench.build(folder), options.objective, options.num_processes)
    began = time.monotonic()
    twins.run_unbroken()
    whole = time.monotonic() - began
    generator = random.Random(options.rounds)
    kills = runs = inside = 0
    with tqdm(total=options.rounds, unit="kill", disable=None) as bar:
        while kills < options.rounds:
            left, processes = _unfinished(twins.broken), twins.start_broken()
            if kills % EVERY == 0:
                _await_save(twins.broken, left, processes[0])
            else:
                time.sleep(generator.uniform(0, 0.7 * whole))
            if _killed(processes):
                kills += 1
                inside += not _unfinished(twins.broken) <= left
                bar.update()
            elif twins.finished:
                twins.compare()
                runs += 1
    twins.finish()
    if not inside:
        raise UserError(f"none of {kills} kills fell inside a save")
    return (
        f"{kills} kills, {inside} of them inside a save, in {runs + 1} runs: weights, average, optimizer, "
        "random states and losses equal to the bit"
    )


def kill_when(processes: list[int], path: Path) -> None:
    """Kill all as soon as a path is there."""
    while not path.exists():
        time.sleep(0.001)
    for process in processes:
        os.kill(process, signal.SIGKILL)
    forks.wait(processes)


def _await_save(exp_dir: Path, left: set[Path], process: int) -> None:
    """Until a checkpoint is half written, beside those left so before, or the process has ended."""
    while _unfinished(exp_dir) <= left and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.0005)


def _unfinished(exp_dir: Path) -> set[Path]:
    return set((exp_dir / "checkpoints").glob(".step_*.new.*"))


def _killed(processes: list[int]) -> bool:
    """Kill all; whether any was still alive."""
    for process in processes:
        os.kill(process, signal.SIGKILL)  # one that has ended is still ours until it is waited for
    return any(forks.wait(processes))
