# SPDX-License-Identifier: Apache-2.0
"""Reading the lists that corpora publish (CSV, TSV, JSON, JSON lines; any of them gzipped).

Good rows come through, whatever stands beside them; bad ones are noted with file and line.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import tempfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from icefall_alp.data.damaged_rows import Rescue
from icefall_alp.data.json_lists import CutShortError, Item, list_items, object_items
from icefall_alp.data.times import seconds
from icefall_alp.utils.errors import UserError

MAX_CAUSE_CHARACTERS = 300  # of a note: a cause may quote an id of a megabyte
MAX_ROW_LINES = 40  # a quoted text may go on over lines; a quote still open after so many was never meant to open
_IN_MEMORY = 1 << 24  # bytes of notes; more go to a file


class SkipList:
    """What was left out and why.

    As a context it makes the loss of a list, see `reading`, an error once everything else is written.

    Attributes:
        where: the row that is being read, for those who find later that it contradicts an earlier one.
    """

    def __init__(self) -> None:
        self.where = ""
        self._rescued: Callable[[], dict[str, str]] = dict
        self._is_context = False
        self._split = "train"  # of the list that is being read
        self._given_up: list[str] = []  # lists of which nothing could be read
        self._leaking: list[str] = []  # lists of evaluated clips that are not read to their end
        self._counts: Counter[str] = Counter()
        # Millions of clips may be missing. Half a surrogate pair, which a bad row may hold, becomes its escape in JSON.
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _IN_MEMORY, "w+", encoding="utf-8", errors="backslashreplace"
        )

    def add(self, reason: str, cause: str, count: int = 1, **details: str) -> None:
        """Note one thing that was left out, or so many in one line."""
        if len(cause) > MAX_CAUSE_CHARACTERS:
            cause = f"{cause[:MAX_CAUSE_CHARACTERS]}..."
        self._counts[reason] += count
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps({"reason": reason, "cause": cause, **details}, ensure_ascii=False) + "\n")

    def repeated(self, is_same: bool, **details: str) -> None:
        """Note a row about something that an earlier row was about, which counts."""
        if is_same:
            self.add("duplicate", "the row was there before", **details)
        else:
            self.add("contradiction", "listed before with other content; the first row counts", **details)

    def keep_first(self, known: dict[Any, Any], name: Any, value: Any, **details: str) -> bool:
        """Put what a row says of `name` into `known`; where an earlier row said it, note the row and return False."""
        if name in known:
            self.repeated(known[name] == value, **details)
            return False
        known[name] = value
        return True

    def lines(self) -> Iterator[str]:
        """Every entry as a line of JSON, in the order in which they came."""
        self._file.seek(0)
        yield from self._file

    def write(self, path: Path) -> None:
        """Replace a file by these lines."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(self.lines())
        temporary.replace(path)

    @property
    def entries(self) -> list[dict[str, str]]:
        """A dictionary for each thing: reason, cause, where (file:line) and other details."""
        return [json.loads(line) for line in self.lines()]

    @contextmanager
    def bad_row(
        self, where: str, rescued: Callable[[], dict[str, str]] | None = None, **details: str
    ) -> Iterator[None]:
        """Note the row at `where` (file:line) if the block raises ValueError, and go on.

        Give `key` and `split` in `details` as soon as they are known: a benchmark's clip is kept out of the sources
        even if the rest of its row is useless. `rescued` finds them for this block and those inside that do not know.
        """
        outer, self.where, self._rescued = (self.where, self._rescued), where, rescued or self._rescued
        try:
            yield
        except ValueError as error:
            self.add("bad_row", str(error), **({"where": where} | self._rescued() | details))
        finally:
            self.where, self._rescued = outer

    def cut_short(self, where: str, cause: str) -> None:
        """Note that a list cannot be read from `where` (file:line) on."""
        self.add("bad_row", cause, where=where)
        if self._split != "train":
            self._leaking.append(f"{where}: {cause}")

    @contextmanager
    def reading(self, name: str, split: str) -> Iterator[None]:
        """Note the list `name` if its reader gives it up (UserError) in the block, and go on with the corpus's others.

        A list of training clips may be lost. Clips of `valid` and `test` are evaluated, and those that nobody could
        read would stay in the sources: after all others are written, the corpus ends in an error where such a list is
        lost or ends too early. Where the SkipList is no context, which would raise that error, any lost list is one.
        """
        outer, self._split = self._split, split
        try:
            yield
        except UserError as error:
            if not self._is_context:
                raise
            self.add("bad_list", str(error), where=name)
            self._given_up.append(str(error))
            if split != "train":
                self._leaking.append(str(error))
        finally:
            self._split = outer

    def __enter__(self) -> SkipList:
        """Let lists be lost until the end."""
        self._is_context = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Raise UserError where a list was lost that may not be, or where that may be why nothing is left."""
        if isinstance(error, UserError) and self._given_up:
            raise UserError(f"{error}; {self._given_up[0]}") from error
        if error is None and self._leaking:
            raise UserError(
                f"{self._leaking[0]}; the list has evaluated clips, which the sources would keep. All else is written"
            )

    def counts(self) -> dict[str, int]:
        """How many things each reason left out."""
        return dict(sorted(self._counts.items()))


def existing_lists(paths: Iterable[Path], skipped: SkipList) -> list[Path]:
    """Those list files that are there; the others are noted. Raises UserError when none is."""
    paths = list(paths)
    found = [path for path in paths if path.is_file()]
    if not found:
        raise UserError(f"none of {', '.join(map(str, paths))} is there; see the layout in --help")
    for path in paths:
        if path not in found:
            skipped.add("no_list", "no such file", where=path.name)
    return found


def _lines(path: Path, skipped: SkipList) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; what a damaged gzip file still gives comes through, and the damage is noted."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; see the layout in --help")
    if not path.stat().st_size:
        raise UserError(f"{path}: empty file; download it again")
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        try:
            for raw in stream:
                number += 1
                yield number, raw
        except (EOFError, OSError, zlib.error) as error:
            cause = f"the file ends too early or is damaged from here on ({error}); download it again"
            skipped.cut_short(f"{path.name}:{number + 1}", cause)


# ---- CSV and TSV ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dialect:
    encoding: str
    delimiter: str
    begins_row: re.Pattern[bytes] | None
    has_quotes: bool

    def fields(self, record: bytes) -> list[str]:
        try:
            text = record.decode(self.encoding).removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"not {self.encoding.upper()}: byte {error.start + 1} of the line") from error
        try:
            quoting = csv.QUOTE_MINIMAL if self.has_quotes else csv.QUOTE_NONE
            rows = csv.reader([text], delimiter=self.delimiter, quoting=quoting, skipinitialspace=True, strict=True)
            return next(rows, [])
        except csv.Error as error:
            name = {",": "comma", "\t": "TAB"}.get(self.delimiter, repr(self.delimiter))
            raise ValueError(f"not {name}-separated: {error}") from error


def csv_rows(
    path: Path,
    columns: tuple[str, ...],
    skipped: SkipList,
    encoding: str = "utf-8",
    has_header: bool = True,
    delimiter: str = ",",
    begins_row: str | None = None,
    rescue: Rescue | None = None,
    has_quotes: bool = True,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a list with separators row by row, so that a damaged row spoils no other.

    With `begins_row` a quoted field may go on over lines. Where lines joined like that make no row, only the first of
    them is bad, and the next is read as a row of its own.

    Args:
        path: the list.
        columns: names that must be in the header; without a header the names of all columns in order, and lines
            that begin with `#` are comments.
        skipped: takes rows with a wrong number of columns, open quotes or bytes that are not `encoding`.
        encoding: of the file.
        has_header: whether the first line names the columns.
        delimiter: what stands between fields.
        begins_row: regular expression of how every row begins, for a list with line breaks in its texts. A stray quote
            can then not swallow the next row; without it a row is a line.
        rescue: finds the clip of a damaged row; for lists with evaluated clips.
        has_quotes: whether fields may stand in quotes; without them a quote is a letter.

    Yields:
        `file:line` of the row's first line and the row by column name.

    Raises:
        UserError: no such file, a column that is not there, or, without a header, not one row with all columns.
    """
    dialect = _Dialect(encoding, delimiter, re.compile(begins_row.encode()) if begins_row else None, has_quotes)
    names: list[str] | None = None if has_header else list(columns)
    num_rows = num_bad = 0
    for number, line, fields in _records(_lines(path, skipped), dialect, names):
        where = f"{path.name}:{number}"
        with skipped.bad_row(where, partial(rescue, line) if rescue else None):
            if isinstance(fields, ValueError):
                raise fields
            if names is None:
                names = fields
                if absent := [name for name in columns if name not in names]:
                    shown = ",".join(names)[:MAX_CAUSE_CHARACTERS]
                    raise UserError(f"{where}: no column {', '.join(absent[:3])} in the header {shown}")
            elif fields and (has_header or not fields[0].startswith("#")):
                if len(fields) != len(names):
                    num_bad += 1
                    raise ValueError(f"{len(fields)} columns instead of {len(names)}")
                num_rows += 1
                yield where, dict(zip(names, fields, strict=True))
    if not has_header and num_bad and not num_rows:
        raise UserError(f"{path.name}: none of the rows has the {len(columns)} columns {','.join(columns)}")


def utf8_or_latin1(path: Path) -> str:
    """The encoding of a list that is published in ISO-8859-1 and often saved again in UTF-8.

    UTF-8 where the whole file is; texts in ISO-8859-1 are none as soon as they have a letter with an accent.
    """
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError:
        return "iso-8859-1"
    except OSError:
        pass  # who reads the list says what is wrong
    return "utf-8"


def _records(
    lines: Iterator[tuple[int, bytes]], dialect: _Dialect, names: list[str] | None
) -> Iterator[tuple[int, bytes, list[str] | ValueError]]:
    """Number of the first line of each record, the line, and the record's fields or what is wrong with that line."""
    waiting: deque[tuple[int, bytes]] = deque()
    width = len(names) if names else 0
    while (first := waiting.popleft() if waiting else next(lines, None)) is not None:
        number, record = first
        joined: list[tuple[int, bytes]] = []
        while dialect.begins_row and record.count(b'"') % 2 and len(joined) < MAX_ROW_LINES:
            line = waiting.popleft() if waiting else next(lines, None)
            if line is None:
                break
            if dialect.begins_row.match(line[1]):
                waiting.appendleft(line)
                break
            joined.append(line)
            record += line[1]
        try:
            fields = dialect.fields(record)
            width = width or len(fields)  # of the header
            if joined and len(fields) != width:
                raise ValueError
        except ValueError as error:
            waiting.extendleft(reversed(joined))
            yield number, first[1], ValueError("a quote is opened and not closed") if joined else error
        else:
            yield number, first[1], fields


# ---- JSON -----------------------------------------------------------------------------------------------------------


def jsonl_rows(path: Path, skipped: SkipList, rescue: Rescue | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read one JSON object per line; yields `file:line` and the object, other lines go to `skipped`."""
    for number, raw in _lines(path, skipped):
        where = f"{path.name}:{number}"
        with skipped.bad_row(where, partial(rescue, raw) if rescue else None):
            yield where, json_object(read_json(raw))


def json_rows(path: Path, skipped: SkipList, member: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file that is one JSON list, or an object with the list as its `member`; yields `file: [number]` and row.

    Raises:
        UserError: no such file, no such list in it, or not one item of it can be read.
    """
    for name, item in _json_items(path, path.name, skipped, lambda raw: list_items(raw, member)):
        where = f"{path.name}: {name}"
        with skipped.bad_row(where):
            yield where, json_object(item)


def json_members(path: Path, skipped: SkipList) -> Iterator[tuple[str, str, Any]]:
    """Read a file that is one JSON object, yielding `folder/file: name`, name and value of every member.

    A name that is there twice comes twice. Raises UserError as `json_rows`.
    """
    label = f"{path.parent.name}/{path.name}"
    for name, item in _json_items(path, label, skipped, object_items):
        yield f"{label}: {name}", name, item


def _json_items(
    path: Path, label: str, skipped: SkipList, read: Callable[[bytes], Iterator[Item]]
) -> Iterator[tuple[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; see the layout in --help")
    try:
        for name, item in read(path.read_bytes()):
            if not isinstance(item, ValueError):
                yield name, item
                continue
            where = f"{label}: {name}"
            if isinstance(item, CutShortError):
                skipped.cut_short(where, str(item))
            else:
                skipped.add("bad_row", str(item), where=where)
    except ValueError as error:
        raise UserError(f"{path}: {error}; download it again") from error


def read_json(raw: bytes) -> Any:
    """The value that the bytes hold. Raises ValueError when they hold none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON in UTF-8") from error


def json_object(value: Any) -> dict[str, Any]:
    """The value itself. Raises ValueError when it is no JSON object."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def text_field(row: dict[str, Any], name: str) -> str:
    """A text of a JSON row. Raises ValueError when it is absent, empty or something else."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {'absent' if value is None else repr(value)[:40]} instead of a text")
    return value


def duration_field(row: dict[str, Any], name: str = "duration") -> float | None:
    """Seconds that a JSON row gives; None without the field. Raises ValueError when they are no duration."""
    if row.get(name) is None:
        return None
    duration = seconds(row[name], name)
    if not duration:
        raise ValueError(f"{name} is 0")
    return duration
