# SPDX-License-Identifier: Apache-2.0
"""The rows of a corpus's lists, in the order they come, to one item per split and key, sorted, in bounded memory.

Rows are sorted in pieces that go to an unnamed file each, which are then merged as they are read: a corpus of six
million captions needs no more memory than one of a quarter of a million.
"""

from __future__ import annotations

import heapq
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from icefall_alp.data.captions import AudioItem, CaptionedAudio, LabelledAudio, Question, QuestionedAudio
from icefall_alp.data.corpus_lists import SkipList

PIECE = 250_000  # rows
_CLASSES = {cls.__name__: cls for cls in (AudioItem, CaptionedAudio, LabelledAudio, QuestionedAudio)}


def joined_items(
    items: Iterable[AudioItem], skipped: SkipList, folder: Path, piece: int = PIECE
) -> Iterator[AudioItem]:
    """Items with the captions of equal keys joined, by split and then key; what contradicts the first row is noted.

    Args:
        items: as listed.
        skipped: takes rows whose key was there before with another file, or with other labels or questions.
        folder: where files without a name may lie for a while.
        piece: rows that are sorted in memory.
    """
    for _, rows in itertools.groupby(_sorted(items, folder, piece), key=_place):
        first, *others = rows
        texts = list(first.captions) if isinstance(first, CaptionedAudio) else []
        for item in others:
            details = {"key": item.key, "split": item.split}
            if item.path != first.path:
                skipped.add("duplicate", "another file has the same key", **details, path=item.path)
            elif isinstance(first, CaptionedAudio) and isinstance(item, CaptionedAudio):
                texts += item.captions
            elif item != first:
                skipped.add("duplicate", "the key was listed before, with other content", **details)
        yield replace(first, captions=tuple(texts)) if isinstance(first, CaptionedAudio) else first


def _place(item: AudioItem) -> tuple[str, str]:
    return item.split, item.key


def _sorted(items: Iterable[AudioItem], folder: Path, piece: int) -> Iterator[AudioItem]:
    """Items by split and key, those of equal keys in the order in which they came."""
    items, files = iter(items), []
    while True:
        rows = sorted(itertools.islice(items, piece), key=_place)
        if len(rows) < piece:
            break
        files.append(_write(rows, folder))
    yield from heapq.merge(*map(_read, files), rows, key=_place)


def _write(rows: list[AudioItem], folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 -- it has no name to leave behind
    for item in rows:
        file.write(json.dumps([type(item).__name__, vars(item)], default=vars) + "\n")
    file.seek(0)
    return file


def _read(file: IO[str]) -> Iterator[AudioItem]:
    with file:
        for line in file:
            name, values = json.loads(line)
            yield _CLASSES[name](**{field: _frozen(value) for field, value in values.items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return Question(value["text"], tuple(value["answers"]))
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
