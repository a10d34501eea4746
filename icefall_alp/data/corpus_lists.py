# SPDX-License-Identifier: Apache-2.0
"""Reading the lists that corpora publish (CSV, JSON lines): good rows come through, bad ones are noted by file:line."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icefall_alp.utils.errors import UserError

_IN_MEMORY = 1 << 24  # bytes; more goes to a file


class SkipList:
    """What was left out and why."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        # millions of clips may be missing
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8")  # noqa: SIM115

    def add(self, reason: str, cause: str, **details: str) -> None:
        """Note one thing that was left out."""
        self._counts[reason] += 1
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps({"reason": reason, "cause": cause, **details}, ensure_ascii=False) + "\n")

    def lines(self) -> Iterator[str]:
        """Every entry as a line of JSON, in the order in which they came."""
        self._file.seek(0)
        yield from self._file

    @property
    def entries(self) -> list[dict[str, str]]:
        """Every entry: reason, cause and details."""
        return [json.loads(line) for line in self.lines()]

    @contextmanager
    def bad_row(self, where: str, **details: str) -> Iterator[None]:
        """Note the row at `where` (file:line) if the block raises ValueError, and go on.

        Give `key` and `split` in `details` as soon as they are known: a benchmark's clip is kept out of the sources
        even if the rest of its row is useless.
        """
        try:
            yield
        except ValueError as error:
            self.add("bad_row", str(error), where=where, **details)

    def counts(self) -> dict[str, int]:
        """How many entries each reason has."""
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


def csv_rows(
    path: Path,
    columns: tuple[str, ...],
    skipped: SkipList,
    encoding: str = "utf-8",
    has_header: bool = True,
    delimiter: str = ",",
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a comma- or TAB-separated list one line at a time, so that a damaged line spoils no other.

    Args:
        path: the list.
        columns: names that must be in the header; without a header the names of all columns in order, and lines
            that begin with `#` are comments.
        skipped: takes lines with a wrong number of columns, open quotes or bytes that are not `encoding`.
        encoding: of the file.
        has_header: whether the first line names the columns.
        delimiter: between columns.

    Yields:
        `file:line` and the row by column name.

    Raises:
        UserError: no such file, or a column that is not there.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; see the layout in --help")
    names: list[str] | None = None if has_header else list(columns)
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            where = f"{path.name}:{number}"
            with skipped.bad_row(where):
                fields = _split_line(raw, encoding, delimiter)
                if names is None:
                    names = fields
                    if absent := [name for name in columns if name not in names]:
                        raise UserError(f"{where}: no column {', '.join(absent)} in the header {','.join(names)}")
                elif fields and (has_header or not fields[0].startswith("#")):
                    if len(fields) != len(names):
                        raise ValueError(f"{len(fields)} columns instead of {len(names)}")
                    yield where, dict(zip(names, fields, strict=True))


def _split_line(raw: bytes, encoding: str, delimiter: str) -> list[str]:
    try:
        line = raw.decode(encoding).removeprefix("\ufeff").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"not {encoding.upper()}: byte {error.start + 1} of the line") from error
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        name = {"\t": "TAB"}.get(delimiter, "comma")
        raise ValueError(f"not {name}-separated: {error}") from error


def jsonl_rows(path: Path, skipped: SkipList) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read one JSON object per line; yields `file:line` and the object, other lines go to `skipped`."""
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            where = f"{path.name}:{number}"
            with skipped.bad_row(where):
                try:
                    row = json.loads(raw)
                except ValueError as error:
                    raise ValueError("not JSON in UTF-8") from error
                if not isinstance(row, dict):
                    raise ValueError("not a JSON object")
                yield where, row


def text_field(row: dict[str, Any], name: str) -> str:
    """A text of a JSON row. Raises ValueError when it is absent, empty or something else."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {'absent' if value is None else repr(value)[:40]} instead of a text")
    return value
