# SPDX-License-Identifier: Apache-2.0
"""Requests to stop: SIGTERM and SIGUSR1 mean "save now and leave with exit code 75" (try again later)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
