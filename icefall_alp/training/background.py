# SPDX-License-Identifier: Apache-2.0
"""One piece of work at a time beside the training loop, such as writing a checkpoint; its failures are not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs functions in a thread, one after the other."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether something failed that nobody has waited for yet; asks without waiting."""
        return self._failure is not None

    def start(self, function: Callable[[], object]) -> None:
        """Run `function` beside the caller, after what was started before has ended.

        Raises:
            Whatever the function before raised.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(function,), name="background")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing runs.

        Raises:
            Whatever the function raised, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as failure:
            self._failure = failure
