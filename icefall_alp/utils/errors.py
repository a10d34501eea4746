# SPDX-License-Identifier: Apache-2.0
"""Errors that a person can mend: one line that says what, where and what to do.

`UserError` is raised wherever input, configuration or the disk is at fault; `clean_exit` turns it into one line on
stderr and exit status 1. Every other exception is a fault of this program and keeps its traceback.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

INTERRUPTED = 130


class UserError(Exception):
    """Something outside this program is wrong; the message names it and says what to do, in one line."""


def clean_exit(main: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the main function of a script.

    Args:
        main: the function; its return value is passed through.

    Returns:
        The wrapped function. `UserError` becomes `error: <one line>` on stderr and exit status 1,
        `KeyboardInterrupt` exit status 130.
    """

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    return wrapped
