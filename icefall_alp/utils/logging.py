# SPDX-License-Identifier: Apache-2.0
"""Where messages go: the terminal, without tearing a progress bar, and a text file.

The first process reports everything; the others only warnings, with their rank.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from icefall_alp.utils import distributed
from icefall_alp.utils.errors import disk_faults

LOGGER = logging.getLogger("icefall_alp")


class _TerminalHandler(logging.Handler):
    """Writes above the progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _FileHandler(logging.FileHandler):
    """Says once, on the terminal, that the disk refuses; the run's other files decide whether it can go on."""

    def handleError(self, record: logging.LogRecord) -> None:
        LOGGER.removeHandler(self)
        LOGGER.warning("cannot write %s: %s; messages go to the terminal only", self.baseFilename, sys.exc_info()[1])


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Send the library's messages to the terminal and, on the first process, to a file while the body runs.

    Args:
        path: text file to append to; None for the terminal alone.
    """
    main = distributed.is_main()
    handlers: list[logging.Handler] = [_TerminalHandler()]
    if path is not None and main:
        with disk_faults(path):
            handlers.append(_FileHandler(path, encoding="utf-8"))
    prefix = "" if main else f"rank {distributed.rank()} "
    LOGGER.setLevel(logging.INFO if main else logging.WARNING)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        LOGGER.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOGGER.removeHandler(handler)
            with suppress(OSError):  # told already
                handler.close()
