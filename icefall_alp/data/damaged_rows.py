# SPDX-License-Identifier: Apache-2.0
"""Which clip a row means that cannot be read: what a benchmark evaluates has no place in a source, good row or not.

A damaged row has lost a column, a quote or a byte, yet its id may stand there as it should. It is looked for among the
words of the line, whatever separates them. A word that only looks like an id does no harm: no source has such a clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Rescue = Callable[[bytes], dict[str, str]]
UNKNOWN_SPLIT = "test"  # of a clip that may be evaluated: every corpus with evaluated splits evaluates this one
_SEPARATORS = re.compile(r"[\s,;\"']+")
_MAX_BYTES = 10_000  # of a line; ids stand before the texts, which may have a megabyte


def rescue(read_id: Callable[[str], str], split: str = UNKNOWN_SPLIT) -> Rescue:
    """A reader of damaged lines: `key` and `split` of the clip, or nothing where no word is an id.

    Args:
        read_id: makes a key of an id and raises ValueError for other words, such as those of `audio_keys.SCHEMES`.
        split: of every row in the list, where the list says.
    """

    def details(line: bytes) -> dict[str, str]:
        for word in _SEPARATORS.split(line[:_MAX_BYTES].decode("utf-8", "replace")):
            try:
                return {"key": read_id(word), "split": split}
            except ValueError:
                continue
        return {}

    return details
