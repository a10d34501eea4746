# SPDX-License-Identifier: Apache-2.0
"""Requests to stop: SIGTERM and SIGUSR1 mean "save now and leave with exit code 75" (try again later)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

STOPPED = 75


class StopRequest:
    """Remembers that a signal came, until the loop is ready to obey."""

    def __init__(self) -> None:
        self.received = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the body runs; the earlier handlers are put back. Main thread only."""
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def leave_stopped() -> NoReturn:
    """Leave with exit code 75; `tools/launch.sh` also finds it in a file, because torchrun turns it into 1."""
    if (path := os.environ.get("ALP_STATUS_FILE")) is not None:
        Path(path).write_text(f"{STOPPED}\n", encoding="utf-8")
    sys.exit(STOPPED)
