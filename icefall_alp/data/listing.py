# SPDX-License-Identifier: Apache-2.0
"""The rows of a corpus's lists, in the order they come, to one item for each key, sorted by key, in bounded
memory.

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

from icefall_alp.data.captions import (
    SPLITS,
    AudioItem,
    CaptionedAudio,
    EventAudio,
    LabelledAudio,
    Question,
    QuestionedAudio,
    SoundEvent,
)
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.file_claims import FileClaims, is_whole

PIECE = 250_000  # rows
Row = tuple[AudioItem, str]  # and the place in its list: file:line
_CLASSES = {cls.__name__: cls for cls in (AudioItem, CaptionedAudio, LabelledAudio, EventAudio, QuestionedAudio)}


def joined_items(
    items: Iterable[AudioItem], skipped: SkipList, folder: Path, piece: int = PIECE
) -> Iterator[AudioItem]:
    """One item per key, sorted by key; rows that repeat or contradict an earlier one are noted in `skipped`.

    Captions of one key and file are joined, a row (`CaptionedAudio.row`) counts once. Of two files, two contents or
    two versions of a row with one key the first counts, of two splits the one that is held out: training on a test
    clip would be worse than training on a clip less. The same holds for two keys that claim a whole file each: it can
    hold one of the two clips, and what is said of the other would be wrong. Stretches of a file may be many.

    Args:
        items: as listed; `skipped.where` is their row while they are.
        skipped: takes notes.
        folder: where files without a name may lie for a while.
        piece: rows that are sorted in memory.
    """
    claims = FileClaims()
    rows = _sorted(((claims.noted(item), skipped.where) for item in items), folder, piece)
    return _one_for_each_file(_one_for_each_key(rows, skipped), claims, skipped)


def _one_for_each_key(rows: Iterator[Row], skipped: SkipList) -> Iterator[Row]:
    """What is known of each key, and the row it was first listed in."""
    for _, listed in itertools.groupby(rows, key=_key):
        known, first = next(listed)
        texts: dict[Any, tuple[str, ...]] = {}
        for item, where in listed:  # noqa: B031 -- each group is used up before the next
            known = _join(known, item, where, texts, skipped)
        yield known, first


def _one_for_each_file(rows: Iterator[Row], claims: FileClaims, skipped: SkipList) -> Iterator[AudioItem]:
    """The items; one whose whole file is another one's is noted. Every row is read when the first one comes."""
    owners: dict[int, int] | None = None
    for item, where in rows:
        owners = claims.owners() if owners is None else owners
        if owners and is_whole(item) and owners.get(hash(item.path), hash(item.key)) != hash(item.key):
            cause = "another clip has the same file, which can hold one of the two; that one stays"
            skipped.add("contradiction", cause, split=item.split, path=str(item.path), **_place(item, where))
            continue
        yield item


def _place(item: AudioItem, where: str) -> dict[str, str]:
    return {"key": item.key, **({"where": where} if where else {})}


def _join(
    known: AudioItem, item: AudioItem, where: str, texts: dict[Any, tuple[str, ...]], skipped: SkipList
) -> AudioItem:
    """What is known of a key after a further row; `texts` are the rows of its captions so far, by name."""
    details = _place(item, where)
    if item.split != known.split:
        kept, lost = sorted((item, known), key=lambda clip: SPLITS.index(clip.split), reverse=True)
        cause = f"the key is in the splits {lost.split} and {kept.split}; it stays in {kept.split} alone"
        skipped.add("contradiction", cause, split=lost.split, **details)
        if kept is item:
            texts.clear()
        return kept
    if item.path != known.path:
        path = {} if item.path is None else {"path": item.path}
        skipped.add("duplicate", "another file has the same key", split=item.split, **details, **path)
    elif isinstance(known, CaptionedAudio) and isinstance(item, CaptionedAudio):
        if not texts:
            texts[_row_name(known)] = known.captions
        if (name := _row_name(item)) not in texts:
            texts[name] = item.captions
            return replace(known, captions=known.captions + item.captions)
        skipped.repeated(texts[name] == item.captions, split=item.split, **details)
    else:
        skipped.repeated(known == item, split=item.split, **details)
    return known


def _row_name(item: CaptionedAudio) -> Any:
    """The row's name; rows without one are told apart by what they say."""
    return item.captions if item.row is None else item.row


def _key(row: Row) -> str:
    return row[0].key


def _sorted(rows: Iterable[Row], folder: Path, piece: int) -> Iterator[Row]:
    """Rows by key, those of equal keys in the order in which they came."""
    rows, files = iter(rows), []
    while True:
        part = sorted(itertools.islice(rows, piece), key=_key)
        if len(part) < piece:
            break
        files.append(_write(part, folder))
    yield from heapq.merge(*map(_read, files), part, key=_key)


def _write(rows: list[Row], folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 -- it has no name to leave behind
    for item, where in rows:
        file.write(json.dumps([type(item).__name__, vars(item), where], default=vars) + "\n")
    file.seek(0)
    return file


def _read(file: IO[str]) -> Iterator[Row]:
    with file:
        for line in file:
            name, values, where = json.loads(line)
            for field, value in values.items():
                if value.__class__ is list or value.__class__ is dict:
                    values[field] = _frozen(value)
            yield _CLASSES[name](**values), where


def _frozen(value: Any) -> Any:
    """JSON's lists and objects as the tuples, events, questions and attributes that they were."""
    if isinstance(value, dict):
        kind = SoundEvent if "onset" in value else Question if "answers" in value else dict
        return kind(**{name: _frozen(entry) for name, entry in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
