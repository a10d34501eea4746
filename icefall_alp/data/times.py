# SPDX-License-Identifier: Apache-2.0
"""Times as corpora list them: where they become numbers, and where those that no recording can have are refused."""

from __future__ import annotations

MAX_SECONDS = 10_000_000.0  # four months: no recording is as long, and its milliseconds are still exact


def seconds(value: object, name: str) -> float:
    """A number, or the text of one, as seconds from 0 to `MAX_SECONDS`. Raises ValueError, with `name`, for others."""
    try:
        number = -1.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0.0 <= number <= MAX_SECONDS:  # nor is it NaN
        raise ValueError(f"{name} is {repr(value)[:40]} instead of seconds")
    return number


def stretch(start: object, end: object, longest: float = MAX_SECONDS) -> tuple[float, float]:
    """Start and end in seconds. Raises ValueError where they bound nothing, or more than `longest` seconds."""
    first, last = seconds(start, "start"), seconds(end, "end")
    if not 0 < round((last - first) * 1000) <= longest * 1000:
        at_most = f" of at most {longest:g} s" if longest < MAX_SECONDS else ""
        raise ValueError(f"{first:g} s to {last:g} s bound no clip{at_most}")
    return first, last
