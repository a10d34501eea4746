# SPDX-License-Identifier: Apache-2.0
"""R1, R15: kill -9 at random moments, also inside a save, and start again: bit for bit as unbroken."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import time
from pathlib import Path

from tqdm import tqdm

from faults import forks
from faults.workbench import OBJECTIVES, Workbench
from icefall_alp.config import TrainingConfig
from icefall_alp.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--objective", choices=OBJECTIVES, default="contrastive", help="default: %(default)s")
    parser.add_argument("--num-processes", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=200, help="kills (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Kill and compare; returns what was seen, in words."""
    bench = Workbench.build(folder)
    training = TrainingConfig(
        num_steps=24, log_every=3, valid_every=8, save_every=2, keep_checkpoints=3, average_every=4
    )
    log = folder / "log"

    def unbroken() -> None:
        bench.trainer(options.objective, folder / "unbroken", training).fit()

    def broken() -> None:
        bench.trainer(options.objective, folder / "broken", training).fit()

    began = time.monotonic()
    forks.run(unbroken, log, options.num_processes)
    whole = time.monotonic() - began
    generator = random.Random(options.rounds)
    kills = runs = 0
    with tqdm(total=options.rounds, unit="kill", disable=None) as bar:
        while kills < options.rounds:
            processes = forks.start(broken, log, options.num_processes)
            if _killed_after(processes, generator.uniform(0, 0.7 * whole)):
                kills += 1
                bar.update()
            elif (folder / "broken/checkpoints/step_24").is_dir():
                runs += _compare(folder)
        forks.run(broken, log, options.num_processes)
        runs += _compare(folder)
    return f"{kills} kills in {runs} runs: weights, average, optimizer, random states and losses equal to the bit"


def kill_when(processes: list[int], path: Path) -> None:
    """Kill all as soon as a path is there."""
    while not path.exists():
        time.sleep(0.001)
    for process in processes:
        os.kill(process, signal.SIGKILL)
    forks.wait(processes)


def _killed_after(processes: list[int], seconds: float) -> bool:
    """Kill all after a while; whether any was still alive."""
    time.sleep(seconds)
    for process in processes:
        os.kill(process, signal.SIGKILL)  # one that has ended is still ours until it is waited for
    return any(forks.wait(processes))


def _compare(folder: Path) -> int:
    """Compare a finished run with the unbroken one, and clear it away."""
    for name in ("losses.jsonl", *(f"checkpoints/step_24/{path.name}" for path in _last(folder / "unbroken"))):
        if (folder / "broken" / name).read_bytes() != (folder / "unbroken" / name).read_bytes():
            raise UserError(f"{folder / 'broken' / name} differs from that of the unbroken run")
    shutil.rmtree(folder / "broken")
    return 1


def _last(exp_dir: Path) -> list[Path]:
    return sorted((exp_dir / "checkpoints/step_24").iterdir())
