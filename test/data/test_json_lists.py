# SPDX-License-Identifier: Apache-2.0
"""Whatever is damaged in a JSON list, the items before and after it are read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data.json_lists import CutShortError, list_items, object_items

ROWS = [{"id": "a", "turns": [{"from": "human"}, {"from": "gpt"}]}, {"id": "\u00e9\u65e5", "n": 1.5}, {"id": "c"}]
values = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def split(items):
    """Good items by name and the names of others."""
    items = list(items)
    return (
        {name: item for name, item in items if not isinstance(item, ValueError)},
        [(name, isinstance(item, CutShortError)) for name, item in items if isinstance(item, ValueError)],
    )


@settings(deadline=None)
@given(st.lists(values), st.sampled_from([None, 2]), st.booleans())
def test_a_whole_list_is_read_as_json_reads_it(rows, indent, is_ascii):
    raw = json.dumps(rows, indent=indent, ensure_ascii=is_ascii).encode(errors="replace")
    assert [item for _, item in list_items(raw)] == json.loads(raw)
    raw = json.dumps({"n": {"data": [0]}, "data": rows}, indent=indent).encode()
    assert [item for _, item in list_items(raw, "data")] == json.loads(raw)["data"]


@settings(deadline=None)
@given(st.dictionaries(st.text(), values))
def test_a_whole_object_is_read_as_json_reads_it(content):
    raw = json.dumps(content).encode()
    assert [item for _, item in object_items(raw)] == list(json.loads(raw).values())


@pytest.mark.parametrize("damage", [b'{"id": ', b'{"id": \xff"b"}', b'"id": "b"}', b'{"id": 1' + b"0" * 5000 + b"}"])
def test_a_damaged_row_spoils_no_other(damage):
    whole = [json.dumps(row).encode() for row in ROWS]
    raw = b"[" + b", ".join([whole[0], damage, whole[1], whole[2]]) + b"]"
    good, bad = split(list_items(raw))
    assert [row for row in good.values() if "id" in row] == ROWS and bad == [("[1]", False)]


@pytest.mark.parametrize("byte", [b"", b"\xff", b'"', b"{", b"}", b"[", b"]", b":", b","])
@pytest.mark.parametrize("is_object", [False, True])
def test_one_damaged_byte_costs_one_row_although_rows_hold_others(byte, is_object):
    rows = [{"id": f"{number}", "turns": [{"from": "human", "value": "A?"}, {"from": "gpt"}]} for number in range(3)]
    whole = [(f'"{number}": ' * is_object + json.dumps(row)).encode() for number, row in enumerate(rows)]
    for damaged, text in enumerate(whole):
        for place in range(len(text)):
            texts = [*whole[:damaged], text[:place] + byte + text[place + 1 :], *whole[damaged + 1 :]]
            raw = b", ".join(texts)
            good, _ = split(object_items(b"{" + raw + b"}") if is_object else list_items(b"[" + raw + b"]"))
            assert all(row in good.values() for row in rows[:damaged] + rows[damaged + 1 :]), (damaged, place)


def test_a_row_without_its_end_swallows_no_other():
    rows = {f"{number}": {"id": f"{number}"} for number in range(4)}
    good, _ = split(object_items(json.dumps(rows).replace('"1"}', '"1"').encode()))
    assert {name: row for name, row in good.items() if name != "1"} == {name: rows[name] for name in "023"}


def test_a_byte_that_is_not_utf_8_makes_its_row_bad_alone():
    raw = json.dumps(ROWS, ensure_ascii=False).encode().replace(b'"c"', b'"caf\xe9"')
    assert split(list_items(raw)) == ({"[0]": ROWS[0], "[1]": ROWS[1]}, [("[2]", False)])


@settings(deadline=None)
@given(st.data())
def test_a_list_that_ends_too_early_gives_the_rows_before_its_end(data):
    raw = json.dumps(ROWS * 3).encode()
    end = data.draw(st.integers(json.dumps(ROWS[:1]).rindex("]") + 1, len(raw) - 1))
    items, bad = split(list_items(raw[:end]))
    good = [row for row in items.values() if "id" in row]  # within a row's own lists there may be what looks like one
    assert good == (ROWS * 3)[: len(good)]
    assert sum(len(json.dumps(row)) for row in good) >= end - 100
    assert (1 <= len(bad) <= 2 and bad[-1][1]) or raw[:end].endswith((b"]", b"}"))


def test_damage_to_the_last_row_is_no_early_end_and_more_text_is_told():
    assert split(list_items(b'[{"id": 1}, {"id": }]')) == ({"[0]": {"id": 1}}, [("[1]", False)])
    assert split(list_items(b'[{"id": 1}] [{"id": 2}]')) == ({"[0]": {"id": 1}}, [("[1]", False)])


def test_a_name_that_is_there_twice_comes_twice():
    assert list(object_items(b'{"a": 1, "b": 2, "a": 3}')) == [("a", 1), ("b", 2), ("a", 3)]


@pytest.mark.parametrize(
    ("raw", "member", "words"),
    [
        (b"[{", None, "not JSON in UTF-8"),
        (b"\xff", None, "not JSON in UTF-8"),
        (b"", None, "not JSON in UTF-8"),
        (b"[" * 100_000, None, "not JSON in UTF-8"),
        (b'{"data": 3}', "data", "not a JSON list data"),
        (b"[3]", "data", "not a JSON list data"),
        (b'{"dat": [', "data", "not JSON in UTF-8"),
        (b"{}", None, "not a JSON list"),
    ],
)
def test_what_holds_no_row_is_refused(raw, member, words):
    with pytest.raises(ValueError, match=words):
        list(list_items(raw, member))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_end_in_another_error(tail):
    for read in (list_items, object_items):
        for raw in (tail, b"[" + tail, b'{"a": {"b": 1}, ' + tail, b'[{"a": 1}, ' + tail):
            try:
                list(read(raw))
            except ValueError:
                continue
