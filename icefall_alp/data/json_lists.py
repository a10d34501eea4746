# SPDX-License-Identifier: Apache-2.0
"""The items of a JSON list or object one by one, so that damage to one does not cost the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_decode = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as `surrogateescape` decodes it
_OPENING = re.compile(r'(?:"[^"\n]*"[ \t\n\r]*:)?[ \t\n\r]*\{[ \t\n\r]*("[^"\n]*")')  # of a row: its first name
_CLOSING = {"[": "]", "{": "}"}
Item = tuple[str, Any | ValueError]


class CutShortError(ValueError):
    """The text ends, or makes no sense any more, before the list does."""


def list_items(raw: bytes, member: str | None = None) -> Iterator[Item]:
    """The items of a list, or of the list that is the `member` of an object; by `<member>[<number>]`.

    An item that is none, or holds bytes that are not UTF-8, is a ValueError, and after it the next item that can be
    read is taken; items in between have no numbers. What is lost at the end is one last `CutShortError`.

    Raises:
        ValueError: there is no such list, or not one item of it can be read.
    """
    text = _text(raw)
    start = _skip_space(text, 0)
    if member is not None:
        start = _member_start(text, start, member)
    if text[start : start + 1] != "[":
        _refuse(raw, f"not a JSON list{f' {member}' if member else ''} of rows")
    numbered = enumerate(_items(text, start))
    yield from _some(((f"{member or ''}[{number}]", item) for number, (_, item) in numbered))


def object_items(raw: bytes) -> Iterator[Item]:
    """Names and values of an object, those with a name that was there before too; else as `list_items`."""
    text = _text(raw)
    start = _skip_space(text, 0)
    if text[start : start + 1] != "{":
        _refuse(raw, "not a JSON object")
    yield from _some((name or f"[{number}]", item) for number, (name, item) in enumerate(_items(text, start)))


def _text(raw: bytes) -> str:
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return raw.decode(errors="surrogateescape").removeprefix("\ufeff")


def _refuse(raw: bytes, cause: str) -> None:
    """Say that the text is other JSON, or none."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON in UTF-8") from error
    raise ValueError(cause)


def _skip_space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]  # it matches nothing too


def _member_start(text: str, start: int, member: str) -> int:
    """Where the value of a member begins; where none does, the end of the text."""
    position = start + 1
    try:
        while text[start : start + 1] == "{":
            name, position = _name(text, _skip_space(text, position))
            if name == member:
                return position
            _, position = _decode(text, position)
            position = _skip_space(text, position) + 1  # behind the comma
    except (ValueError, RecursionError):
        pass
    return len(text)


def _name(text: str, position: int) -> tuple[str, int]:
    """A member's name, and where its value begins."""
    name, position = _decode(text, position)
    position = _skip_space(text, position)
    if not isinstance(name, str) or text[position : position + 1] != ":":
        raise ValueError
    return name, _skip_space(text, position + 1)


def _items(text: str, start: int) -> Iterator[tuple[str, Any | ValueError]]:
    """Name, empty in a list, and value of what is between the bracket at `start` and the one that closes it."""
    closing, is_damaged = _CLOSING[text[start]], False
    is_whole, is_utf8 = text.rstrip()[-1] in _CLOSING.values(), not _NOT_UTF8.search(text)
    position, is_member = _skip_space(text, start + 1), start != _skip_space(text, 0)
    if text[position : position + 1] == closing and (is_member or not text[position + 1 :].strip()):
        return
    opening, had_damage = _opening(text, position), False
    while True:
        begin, name = position, ""
        try:
            if closing == "}":
                name, position = _name(text, position)
            value, position = _decode(text, position)
            position = _skip_space(text, position)
            if text[position : position + 1] not in (",", closing, "" if not is_damaged else ","):
                raise ValueError
            if position == len(text) and opening and _row_like(text, begin, closing, opening):
                raise ValueError  # without its own end it has swallowed the rows that follow
        except (ValueError, RecursionError):
            following, had_damage = _next_row(text, begin, closing, opening), True
            if following is None and not is_whole:
                break
            if not is_damaged:  # one line for a damage that goes on
                yield "", ValueError(f"not JSON at character {begin + 1:,} of the file")
            if following is None:
                return
            position, is_damaged = following.end(), True
            continue
        is_damaged = False
        yield name, value if is_utf8 or not _NOT_UTF8.search(text, begin, position) else ValueError("not UTF-8")
        if text[position : position + 1] == closing:
            goes_on = not is_member and bool(text[position + 1 :].strip())
            if goes_on and not had_damage:
                yield "", ValueError("more text after the end of the list")
            following = _next_row(text, position, closing, opening) if goes_on or had_damage else None
            if following is None:
                return
            position, is_damaged, had_damage = following.end(), True, True  # it was the end of a row's own list
            continue
        if position == len(text):
            break
        position = _skip_space(text, position + 1)
    yield "", CutShortError("the list ends too early or is damaged from here on; download it again")


def _opening(text: str, begin: int) -> str:
    """The first name in the row, with its quotes; empty where there is none."""
    found = _OPENING.match(text, begin)
    return found[1] if found else ""


def _next_row(text: str, begin: int, closing: str, opening: str) -> re.Match[str] | None:
    """The comma before the row that follows the damaged one at `begin`.

    A row may hold what looks like rows, as a conversation does. All rows begin with the same name, so one that begins
    like the first is looked for, and only where there is none any other.
    """
    return _row_like(text, begin, closing, opening) or _row_like(text, begin, closing, "")


def _row_like(text: str, begin: int, closing: str, opening: str) -> re.Match[str] | None:
    """The comma before the first row behind `begin` that begins with a name."""
    label = r'"[^"\n]*"[ \t\n\r]*:[ \t\n\r]*' if closing == "}" else ""
    return re.compile(rf",[ \t\n\r]*(?={label}\{{[ \t\n\r]*{re.escape(opening)})").search(text, begin + 1)


def _some(items: Iterator[Item]) -> Iterator[Item]:
    """The items; ValueError instead when none of them can be read."""
    first: list[Item] = []
    for name, item in items:
        first.append((name, item))
        if not isinstance(item, ValueError):
            break
    else:
        if first:
            raise ValueError("not JSON in UTF-8")
    yield from first
    yield from items
