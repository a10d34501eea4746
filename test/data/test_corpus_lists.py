# SPDX-License-Identifier: Apache-2.0
"""Good rows of a list come through, every bad one is noted with file and line and spoils no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists, jsonl_rows, text_field
from icefall_alp.utils.errors import UserError

COLUMNS = ("id", "text")


def read(path, content, **options):
    path.write_bytes(content)
    skipped = SkipList()
    rows = list(csv_rows(path, COLUMNS, skipped, **options))
    return rows, [(entry["where"], entry["cause"]) for entry in skipped.entries]


def test_bad_lines_are_listed_and_their_neighbours_kept(tmp_path):
    rows, bad = read(
        tmp_path / "list.csv",
        b'\xef\xbb\xbfid,text\r\n1,"one, with comma"\r\n2,two,three\n\n3\n4,"open quote\n5,caf\xe9\n6,"say ""hi"""\n',
    )
    assert rows == [
        ("list.csv:2", {"id": "1", "text": "one, with comma"}),
        ("list.csv:8", {"id": "6", "text": 'say "hi"'}),
    ]
    assert [where for where, _ in bad] == ["list.csv:3", "list.csv:5", "list.csv:6", "list.csv:7"]
    causes = [cause for _, cause in bad]
    assert causes[0] == "3 columns instead of 2" and causes[1] == "1 columns instead of 2"
    assert causes[2] == "a quote is opened and not closed" and causes[3] == "not UTF-8: byte 6 of the line"


def test_latin_1_and_lists_without_header(tmp_path):
    rows, bad = read(tmp_path / "latin.csv", b"id,text\n1,caf\xe9\n", encoding="iso-8859-1")
    assert rows[0][1]["text"] == "café" and not bad
    rows, bad = read(tmp_path / "segments.csv", b'# made\n-a, "x,y"\n', has_header=False)
    assert rows == [("segments.csv:2", {"id": "-a", "text": "x,y"})] and not bad


def test_a_wrong_header_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"list\.csv:1: no column id, text in the header id;words"):
        read(tmp_path / "list.csv", b"id;words\n1;a\n")
    with pytest.raises(UserError, match="no such file"):
        list(csv_rows(tmp_path / "absent.csv", COLUMNS, SkipList()))


@given(st.binary(max_size=300))
def test_no_bytes_end_in_a_traceback(tmp_path_factory, content):
    rows, bad = read(tmp_path_factory.mktemp("list") / "list.csv", b"id,text\n" + content)
    num_lines = sum(1 for line in content.split(b"\n") if line.strip(b"\r"))
    assert len(rows) + len(bad) <= num_lines


def test_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": "a"}\n{"id":\n[1]\n\xff\n{"id": "b"}\n')
    skipped = SkipList()
    assert [row["id"] for _, row in jsonl_rows(path, skipped)] == ["a", "b"]
    assert [entry["where"] for entry in skipped.entries] == [f"rows.jsonl:{line}" for line in (2, 3, 4)]


@pytest.mark.parametrize("value", [None, "", "  ", 3, ["text"]])
def test_a_text_field_is_a_text(value):
    with pytest.raises(ValueError, match="caption is"):
        text_field({"caption": value}, "caption")


def test_absent_lists_are_noted_unless_all_are_absent(tmp_path):
    (tmp_path / "a.csv").touch()
    skipped = SkipList()
    assert existing_lists([tmp_path / "a.csv", tmp_path / "b.csv"], skipped) == [tmp_path / "a.csv"]
    assert skipped.counts() == {"no_list": 1} and skipped.entries[0]["where"] == "b.csv"
    with pytest.raises(UserError, match=r"none of .*c\.csv is there"):
        existing_lists([tmp_path / "c.csv"], SkipList())
