# SPDX-License-Identifier: Apache-2.0
"""The id of a damaged row is found wherever it can still be read."""

import pytest

from icefall_alp.data.audio_keys import SCHEMES
from icefall_alp.data.corpus_lists import SkipList, csv_rows, jsonl_rows
from icefall_alp.data.damaged_rows import rescue

COLUMNS = ("ytid", "start", "label", "split")
LOST = {"key": "yt:-GLk_G9U09A:as", "split": "test"}


@pytest.mark.parametrize(
    "line",
    [
        b"-GLk_G9U09A,30,people marching",
        b'"-GLk_G9U09A,30,people marching,test',
        b'-GLk_G9U09A,30,"people marching,test',
        b"-GLk_G9U09A,30,caf\xe9 noise,test",
        b"-GLk_G9U09A;30;people marching;test",
        b"-GLk_G9U09A\t30\tpeople marching\ttest",
        b"-GLk_G9U09A_000030," + b"x" * (1 << 20),
    ],
)
def test_the_id_of_a_line_that_is_no_row_is_noted_as_evaluated(tmp_path, line):
    assert rescue(SCHEMES["youtube"])(line) == LOST
    (tmp_path / "list.csv").write_bytes(b"__p-iA312kg,70,waterfall,train\n" + line + b"\n")
    skipped = SkipList()
    rows = csv_rows(tmp_path / "list.csv", COLUMNS, skipped, has_header=False, rescue=rescue(SCHEMES["youtube"]))
    assert [row["ytid"] for _, row in rows] == ["__p-iA312kg"]
    (entry,) = skipped.entries
    assert {name: entry[name] for name in ("where", "key", "split")} == {"where": "list.csv:2", **LOST}


@pytest.mark.parametrize("line", [b"", b"-GLk_G9U09\xff,30,a sound,test", b"short,40", b"\x00" * 20])
def test_a_line_without_a_readable_id_names_no_clip(line):
    assert rescue(SCHEMES["youtube"])(line) == {}


def test_a_row_whose_content_is_bad_is_rescued_too_and_what_its_reader_knows_counts(tmp_path):
    (tmp_path / "list.csv").write_text("-GLk_G9U09A,soon,a,b\n__p-iA312kg,later,a,train\n")
    skipped = SkipList()
    for where, row in csv_rows(tmp_path / "list.csv", COLUMNS, skipped, has_header=False,
                               rescue=rescue(SCHEMES["youtube"])):  # fmt: skip
        details = {"split": "train"} if row["split"] == "train" else {}
        with skipped.bad_row(where, **details):
            float(row["start"])
    with skipped.bad_row("audio/x.wav"):  # of no row
        raise ValueError("no name")
    keys = [(entry.get("key"), entry.get("split")) for entry in skipped.entries]
    assert keys == [("yt:-GLk_G9U09A:as", "test"), ("yt:__p-iA312kg:as", "train"), (None, None)]


def test_a_line_that_is_no_json_is_rescued(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"path": "a/id00012/21Uxsk56VDQ/00002_voicefixer.wav", "text\n')
    skipped = SkipList()
    assert not list(jsonl_rows(path, skipped, rescue=rescue(SCHEMES["voxceleb"], "valid")))
    assert skipped.entries[0]["key"] == "vox:id00012/21Uxsk56VDQ/00002" and skipped.entries[0]["split"] == "valid"
