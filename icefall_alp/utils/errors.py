# SPDX-License-Identifier: Apache-2.0
"""Errors that a person can mend: one line that says what, where and what to do.

`UserError` is raised wherever input, configuration or the disk is at fault; `clean_exit` turns it into one line on
stderr and exit status 1. Every other exception is a fault of this program and keeps its traceback.
"""

from __future__ import annotations

import functools
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INTERRUPTED, NOBODY_READS = 130, 141  # 128 and the signal's number, as shells have it


class UserError(Exception):
    """Something outside this program is wrong; the message names it and says what to do, in one line."""


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Tell what the disk refuses in the body, for example because it is full, as something a person can mend.

    Args:
        path: what the body writes.

    Raises:
        UserError: the system refused.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or path}: {error.strerror or error}; what is complete there stays"
        ) from error


def clean_exit(main: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the main function of a script.

    Args:
        main: the function; its return value is passed through.

    Returns:
        The wrapped function. `UserError` becomes `error: <one line>` on stderr and exit status 1,
        `KeyboardInterrupt` exit status 130, and where the reader of the output has left, as `head` does, 141.
    """

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            result = main(*args, **kwargs)
            sys.stdout.flush()
            return result
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            if not _reader_has_left():
                raise  # another pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
            sys.exit(NOBODY_READS)

    return wrapped


def _reader_has_left() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are reported unasked
    return bool(poll.poll(0))
