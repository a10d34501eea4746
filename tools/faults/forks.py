# SPDX-License-Identifier: Apache-2.0
"""Processes made by fork, which start in a moment because everything is imported already; on this machine's CPU."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError


def start(function: Callable[[], object], log: Path, world_size: int = 1, own_group: bool = False) -> list[int]:
    """Run `function` in `world_size` processes that know their ranks; what they print is appended to `log`.

    Args:
        function: what each of them runs.
        log: a text file.
        world_size: how many.
        own_group: whether they form a process group of their own, which the first one leads.

    Returns:
        Their process ids; the exit status is 0, 1 after an error, or that of `SystemExit`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world_size), "ALP_DEVICE": "cpu"}
    sys.stdout.flush()
    sys.stderr.flush()
    processes: list[int] = []
    for rank in range(world_size):
        processes.append(_fork(function, log, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        if own_group:
            os.setpgid(processes[rank], processes[0])
    return processes


def wait(processes: list[int]) -> list[int]:
    """Exit status of each, minus the signal's number for one that was killed."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def run(function: Callable[[], object], log: Path, world_size: int = 1) -> None:
    """Run to the end.

    Raises:
        UserError: a process failed; names the log.
    """
    statuses = wait(start(function, log, world_size))
    if any(statuses):
        raise UserError(f"processes ended with {statuses}: {log.read_text(encoding='utf-8')[-2000:]}")


def _fork(function: Callable[[], object], log: Path, environment: dict[str, str]) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.environ.update(environment)
        torch.set_num_threads(1)
        distributed.setup()
        function()
        distributed.cleanup()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
