# SPDX-License-Identifier: Apache-2.0
"""Good rows of a list come through, every bad one is noted with file and line and spoils no other."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_alp.data.corpus_lists import (
    SkipList,
    csv_rows,
    duration_field,
    existing_lists,
    json_members,
    json_rows,
    jsonl_rows,
    text_field,
)
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
    assert "comma-separated" in causes[2] and causes[3] == "not UTF-8: byte 6 of the line"


def test_one_line_may_note_many_things():
    skipped = SkipList()
    skipped.add("other_task", "1,200 rows of the task 'qa'", 1200, where="list.jsonl")
    skipped.add("other_task", "one row of the task 'mcq'", where="list.jsonl")
    assert skipped.counts() == {"other_task": 1201} and len(skipped.entries) == 2


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


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "list").touch()
    for read_rows in (csv_rows(tmp_path / "list", COLUMNS, SkipList()), jsonl_rows(tmp_path / "list", SkipList())):
        with pytest.raises(UserError, match="list: empty file; download it again"):
            list(read_rows)


LINES = (
    b'id,text\n1,"one\n\ntwo, ""three"""\n2,"open\n3,three\n4,"four\nand\nmore"\n'
    b'5,"open\nand on\n6,six\n7,clo"sed\n8,"never closed\n'
)


def test_a_text_goes_on_over_lines_and_a_stray_quote_swallows_no_row(tmp_path):
    rows, bad = read(tmp_path / "list.csv", LINES, begins_row="[0-9],")
    assert [(where, row["text"]) for where, row in rows] == [
        ("list.csv:2", 'one\n\ntwo, "three"'), ("list.csv:6", "three"), ("list.csv:7", "four\nand\nmore"),
        ("list.csv:12", "six"), ("list.csv:13", 'clo"sed'),
    ]  # fmt: skip
    assert [where for where, _ in bad] == [f"list.csv:{line}" for line in (5, 10, 11, 14)]
    assert "a quote is opened and not closed" in dict(bad)["list.csv:10"]
    rows, _ = read(tmp_path / "list.csv", LINES)  # without being told how a row begins, a row is a line
    assert [row["text"] for _, row in rows] == ["three", "six", 'clo"sed']


def test_other_delimiters(tmp_path):
    rows, bad = read(tmp_path / "list.tsv", b'"id"\t"text"\n1\t"a, b"\n2,c\n', delimiter="\t")
    assert rows == [("list.tsv:2", {"id": "1", "text": "a, b"})] and bad == [("list.tsv:3", "1 columns instead of 2")]


def test_a_quote_is_a_letter_where_fields_have_no_quotes(tmp_path):
    content = b'id\ttext\n1\t"Quoted" and odd"\n2\t"open\n3\t\xff\n'
    rows, bad = read(tmp_path / "list.tsv", content, delimiter="\t", has_quotes=False)
    assert [row["text"] for _, row in rows] == ['"Quoted" and odd"', '"open']
    assert bad == [("list.tsv:4", "not UTF-8: byte 3 of the line")]


def test_the_first_row_about_something_is_kept_and_others_are_noted():
    skipped, known = SkipList(), {}
    rows = [("/m/1", "Bark"), ("/m/2", "Meow"), ("/m/1", "Bark"), ("/m/1", "Moo")]
    assert [skipped.keep_first(known, *row, where=f"a.csv:{n}") for n, row in enumerate(rows)] == [
        True,
        True,
        False,
        False,
    ]
    assert known == {"/m/1": "Bark", "/m/2": "Meow"}
    noted = [(entry["where"], entry["reason"]) for entry in skipped.entries]
    assert noted == [("a.csv:2", "duplicate"), ("a.csv:3", "contradiction")]


def test_a_truncated_gzip_file_gives_the_rows_before_its_end(tmp_path):
    whole = b"".join(b'{"id": "%d"}\n' % number for number in range(20_000))
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(whole)[:-5000])
    skipped = SkipList()
    ids = [row["id"] for _, row in jsonl_rows(path, skipped)]
    assert 1000 < len(ids) < 20_000 and ids == [str(number) for number in range(len(ids))]
    (entry,) = skipped.entries
    assert entry["where"] == f"rows.jsonl.gz:{len(ids) + 1}" and "ends too early" in entry["cause"]
    path.write_bytes(b"no gzip")
    assert not list(jsonl_rows(path, skipped)) and skipped.entries[1]["where"] == "rows.jsonl.gz:1"


def test_json_lists(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"data": [{"id": "a"}, 3, {"id": "b"}]}')
    skipped = SkipList()
    rows = list(json_rows(path, skipped, member="data"))
    assert rows == [("rows.json: data[0]", {"id": "a"}), ("rows.json: data[2]", {"id": "b"})]
    assert skipped.entries[0]["where"] == "rows.json: data[1]"
    for content, member in (("[{", None), ('{"data": 3}', "data"), ("{}", None), ("[" * 100_000, None)):
        path.write_text(content)
        with pytest.raises(UserError, match=r"rows\.json: not .*; download it again"):
            list(json_rows(path, skipped, member))


def test_a_name_that_an_object_has_twice_comes_twice(tmp_path):
    path = tmp_path / "notes/examples.json"
    path.parent.mkdir()
    path.write_text('{"a": {}, "b": {"x": }, "a": {"y": 1}, ')
    skipped = SkipList()
    found = list(json_members(path, skipped))
    assert found == [("notes/examples.json: a", "a", {}), ("notes/examples.json: a", "a", {"y": 1})]
    assert [entry["where"] for entry in skipped.entries] == [f"notes/examples.json: [{number}]" for number in (1, 3)]
    with pytest.raises(UserError, match="no such file"):
        list(json_members(tmp_path / "absent.json", skipped))


def read_two(first, second, splits=("train", "train")):
    """Read two lists of a corpus, each of which may be given up, and return what was noted."""
    with SkipList() as skipped:
        for name, split, error in zip(("a.csv", "b.csv"), splits, (first, second), strict=True):
            with skipped.reading(name, split):
                if error:
                    raise error
        if first and second:
            raise UserError("nothing is left")
    return [(entry["reason"], entry["where"]) for entry in skipped.entries]


def test_a_list_of_training_clips_may_be_lost():
    assert read_two(UserError("no header"), None) == [("bad_list", "a.csv")]
    assert read_two(None, None, ("test", "valid")) == []


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_lost_list_of_evaluated_clips_is_an_error_at_the_end(split):
    with pytest.raises(UserError, match=r"^no header; the list has evaluated clips.* All else is written$"):
        read_two(None, UserError("no header"), ("train", split))


def test_where_all_lists_are_lost_the_first_is_named():
    with pytest.raises(UserError, match=r"^nothing is left; no header$"):
        read_two(UserError("no header"), UserError("no file"))


def test_a_lost_list_is_an_error_at_once_where_nobody_would_raise_it_later():
    with pytest.raises(UserError, match="no header"), SkipList().reading("a.csv", "train"):
        raise UserError("no header")


def test_a_list_of_evaluated_clips_that_ends_too_early_is_an_error_at_the_end(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "a"}\n' * 1000)[:-9])

    def read_as(split):
        with SkipList() as skipped, skipped.reading(path.name, split):
            list(jsonl_rows(path, skipped))
        return skipped.counts()

    assert read_as("train") == {"bad_row": 1}
    with pytest.raises(UserError, match="ends too early"):
        read_as("test")


def test_a_list_without_header_none_of_whose_rows_has_all_columns_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"list\.csv: none of the rows has the 2 columns id,text"):
        read(tmp_path / "list.csv", b"# made\n1;a\n2;b\n", has_header=False)


def test_a_note_quotes_no_megabyte():
    skipped = SkipList()
    skipped.add("bad_row", "x" * (1 << 20))
    assert len(skipped.entries[0]["cause"]) < 400


@pytest.mark.parametrize("value", [-1, 0, float("nan"), float("inf"), "soon", [], True, 10**400])
def test_a_duration_is_a_positive_number(value):
    assert duration_field({"duration": "9.5"}) == 9.5 and duration_field({}) is None
    with pytest.raises(ValueError, match="duration is"):
        duration_field({"duration": value})


@given(st.binary(max_size=300), st.sampled_from([None, "[0-9a-f]"]))
def test_no_bytes_end_in_a_traceback(tmp_path_factory, content, begins_row):
    path = tmp_path_factory.mktemp("list") / "list.csv"
    rows, bad = read(path, b"id,text\n" + content, begins_row=begins_row)
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
