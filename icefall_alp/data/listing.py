# SPDX-License-Identifier: Apache-2.0
"""The rows of a corpus's lists, in the order they come, to one item for each key and split, sorted by key,
in bounded memory.

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
from operator import attrgetter
from pathlib import Path
from typing import IO, Any

from icefall_alp.data.captions import (
    AudioItem,
    CaptionedAudio,
    EventAudio,
    LabelledAudio,
    Question,
    QuestionedAudio,
    SoundEvent,
)
from icefall_alp.data.corpus_lists import SkipList

PIECE = 250_000  # rows
_CLASSES = {cls.__name__: cls for cls in (AudioItem, CaptionedAudio, LabelledAudio, EventAudio, QuestionedAudio)}


def joined_items(
    items: Iterable[AudioItem], skipped: SkipList, folder: Path, piece: int = PIECE
) -> Iterator[AudioItem]:
    """Items with the captions of equal keys joined, by key and then split; what contradicts the first row is noted.

    Args:
        items: as listed.
        skipped: takes rows whose key was there before with another file, or with other labels or questions.
        folder: where files without a name may lie for a while.
        piece: rows that are sorted in memory.
    """
    for _, rows in itertools.groupby(_sorted(items, folder, piece), key=lambda item: item.key):
        by_split: dict[str, list[AudioItem]] = {}
        for item in rows:
            by_split.setdefault(item.split, []).append(item)
        for _, listed in sorted(by_split.items()):
            yield _join(listed, skipped)


def _join(items: list[AudioItem], skipped: SkipList) -> AudioItem:
    """One item of those with one key and split; the first counts."""
    first, *others = items
    texts = list(first.captions) if isinstance(first, CaptionedAudio) else []
    for item in others:
        details = {"key": item.key, "split": item.split}
        if item.path != first.path:
            skipped.add("duplicate", "another file has the same key", **details, path=item.path)
        elif isinstance(first, CaptionedAudio) and isinstance(item, CaptionedAudio):
            texts += item.captions
        elif item != first:
            skipped.add("duplicate", "the key was listed before, with other content", **details)
    return replace(first, captions=tuple(texts)) if isinstance(first, CaptionedAudio) and others else first


def _sorted(items: Iterable[AudioItem], folder: Path, piece: int) -> Iterator[AudioItem]:
    """Items by key, those of equal keys in the order in which they came."""
    by_key = attrgetter("key")
    items, files = iter(items), []
    while True:
        rows = sorted(itertools.islice(items, piece), key=by_key)
        if len(rows) < piece:
            break
        files.append(_write(rows, folder))
    yield from heapq.merge(*map(_read, files), rows, key=by_key)


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
        return SoundEvent(**value) if "onset" in value else Question(value["text"], tuple(value["answers"]))
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
