# SPDX-License-Identifier: Apache-2.0
"""Audio is found and measured alike on the disk and in a scan; the compact tables equal plain lists and dicts."""

import os

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data import audio_scan
from icefall_alp.data.audio_scan import (
    SCAN_NAME,
    AudioIndex,
    AudioScan,
    PathTable,
    find_audio,
    index_audio,
    read_header,
    scan_file,
    walk_audio,
)
from icefall_alp.data.captions import jsonl_writer
from icefall_alp.utils.errors import UserError


def write_scan(root, rows):
    with jsonl_writer(root / SCAN_NAME) as write:
        for row in rows:
            write(row)


def test_audio_is_found_once_in_order_and_through_links(tmp_path):
    for name in ("b/-x.wav", "b/-x.flac", "b/-x-1.wav", "b/-x.m4a", "a/_y.FLAC", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    elsewhere = tmp_path.parent / f"{tmp_path.name}_elsewhere"
    elsewhere.mkdir()
    (elsewhere / "z.ogg").touch()
    (tmp_path / "c").symlink_to(elsewhere)
    assert list(find_audio(tmp_path)) == ["a/_y.FLAC", "b/-x.flac", "b/-x-1.wav", "c/z.ogg"]
    assert list(find_audio(tmp_path, "b")) == ["b/-x.flac", "b/-x-1.wav"]
    assert list(find_audio(tmp_path, "absent")) == []
    write_scan(tmp_path, [[name, 0, 0, "empty file"] for name in walk_audio(tmp_path)])
    assert list(find_audio(tmp_path)) == ["a/_y.FLAC", "b/-x.flac", "b/-x-1.wav", "c/z.ogg"]
    assert list(find_audio(tmp_path, "b")) == ["b/-x.flac", "b/-x-1.wav"]


def test_the_index_passes_over_what_is_something_else():
    index = index_audio(["a/1.wav", "b/x.wav", "c/1.wav"], lambda stem: str(int(stem)))
    assert index == {"1": "a/1.wav"} and "x" not in index and len(index) == 1


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), max_size=30), st.integers(1, 3))
def test_the_index_equals_a_dict_also_where_hashes_are_equal(names, spread):
    plain = {}
    for place, name in enumerate(names):
        plain.setdefault(name, f"{place}/{name}")
    table = PathTable(f"{place}/{name}" for place, name in enumerate(names))
    assert list(table) == [f"{place}/{name}" for place, name in enumerate(names)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio_scan, "hash", lambda name: len(name) % spread, raising=False)
        index = AudioIndex(table, lambda path: path.partition("/")[2])
        assert index == plain
        assert all(index.every(name) == [path for path in table if path.partition("/")[2] == name] for name in names)
        assert index.get("no such name") is None


def test_a_scan_says_what_the_headers_say_and_opens_only_what_changed(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a b;$(x).wav", np.zeros((800, 2)), 8000)
    (tmp_path / "zero.wav").touch()
    rows = [scan_file(tmp_path, name) for name in walk_audio(tmp_path)]
    assert [row[3:] for row in rows] == [[8000, 2, 800], ["empty file"]]
    assert scan_file(tmp_path, "absent.wav") is None
    write_scan(tmp_path, rows)
    scan = AudioScan(tmp_path / SCAN_NAME, stamps=True)
    assert scan.header("a b;$(x).wav") == read_header(tmp_path / "a b;$(x).wav")
    with pytest.raises(ValueError, match="empty file"):
        scan.header("zero.wav")
    with pytest.raises(FileNotFoundError):
        scan.header("absent.wav")

    opened = []
    monkeypatch.setattr(audio_scan, "read_header", lambda path: opened.append(path.name) or read_header(path))
    assert [scan_file(tmp_path, row[0], scan) for row in rows] == rows and not opened
    soundfile.write(tmp_path / "zero.wav", np.zeros(80), 8000)
    assert scan_file(tmp_path, "zero.wav", scan)[3:] == [8000, 1, 80] and opened == ["zero.wav"]


def test_a_file_whose_name_is_not_utf8_is_scanned_like_others(tmp_path):
    name = os.fsdecode(b"x\xff.wav")
    soundfile.write(os.fsencode(tmp_path / name), np.zeros(80), 8000, format="WAV")
    write_scan(tmp_path, [scan_file(tmp_path, found) for found in walk_audio(tmp_path)])
    scan = AudioScan(tmp_path / SCAN_NAME)
    assert list(scan.paths) == [name] and scan.header(name).num_samples == 80


@pytest.mark.parametrize(
    "row", [["a.wav", 1, 2], ["a.wav", 1, 2, 3], [1, 1, 1, "x"], {"path": 1}, ["a", 1, 2, 8000, 1, 0.5]]
)
def test_a_damaged_line_of_a_scan_is_named(tmp_path, row):
    write_scan(tmp_path, [["ok.wav", 1, 1, 8000, 1, 80], row])
    with pytest.raises(UserError, match="line 2 is none of a scan"):
        AudioScan(tmp_path / SCAN_NAME)


def test_headers_of_what_is_no_audio(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.wav")
    soundfile.write(tmp_path / "short.wav", np.zeros(0), 8000)
    with pytest.raises(ValueError, match="no samples"):
        read_header(tmp_path / "short.wav")
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x18ftypM4A ")
    with pytest.raises(ValueError, match="convert it to flac or wav"):
        read_header(tmp_path / "a.m4a")
