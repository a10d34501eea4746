# SPDX-License-Identifier: Apache-2.0
"""Requests to stop: SIGTERM and SIGUSR1 mean "save now and leave with exit code 75" (try again later).

They may come to every process of a job at once, as Slurm and a terminal send them: the loader's processes must outlive
them, since the step that is saved still needs what they read.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

STOPPED = 75
_STOPPING = (signal.SIGTERM, signal.SIGUSR1)
_FOR_PARENT = {*_STOPPING, signal.SIGINT}  # what a process that works for another leaves to that one


class StopRequest:
    """Remembers that a signal came, until the loop is ready to obey."""

    def __init__(self) -> None:
        self.received = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the body runs; the earlier handlers are put back. Main thread only."""
        previous = {number: signal.signal(number, self._handle) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Signals to this thread arrive after the body; a process started in it has them held back for ever."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_parent_only(_worker: int = 0) -> None:
    """Let this process, which works for another, end on SIGTERM from that one alone; serves as `worker_init_fn`.

    Ignoring the signal would not do: when Python ends, it terminates and then awaits the processes it has started.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_PARENT)
        threading.Thread(target=_await_parent, name="signals", daemon=True).start()


def _await_parent() -> None:
    while True:
        received = signal.sigwaitinfo(_FOR_PARENT)
        if received.si_signo == signal.SIGTERM and received.si_pid == os.getppid():
            os._exit(0)


def leave_stopped() -> NoReturn:
    """Leave with exit code 75; `tools/launch.sh` also finds it in a file, because torchrun turns it into 1."""
    if (path := os.environ.get("ALP_STATUS_FILE")) is not None:
        Path(path).write_text(f"{STOPPED}\n", encoding="utf-8")
    sys.exit(STOPPED)
