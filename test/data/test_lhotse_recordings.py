# SPDX-License-Identifier: Apache-2.0
"""What Lhotse's manifests say is believed where it can be; a row of no use is named and its file opened.

Manifests are written by Lhotse's own classes; bad rows are its rows with one thing changed.
"""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet

from icefall_alp.data import audio_scan
from icefall_alp.data.audio_scan import AudioScan, read_header, scan_file, walk_audio
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.lhotse_recordings import LhotseRecordings, file_and_header
from icefall_alp.utils.errors import UserError


class Place:
    """A corpus of four files of different lengths; `opened` are those whose headers were read."""

    names = ("a.wav", "b/c.wav", "b/d.flac", "e.wav")

    def __init__(self, folder):
        self.root, self.manifest, self.opened = folder / "corpus", folder / "x_recordings_all.jsonl.gz", []
        (self.root / "b").mkdir(parents=True)
        for number, name in enumerate(self.names, start=1):
            soundfile.write(self.root / name, np.zeros((100 * number, 2)), 1000)

    def row(self, name):
        return Recording.from_file(self.root / name).to_dict()

    def write(self, *rows, manifest=None):
        with gzip.open(manifest or self.manifest, "wt") as stream:
            stream.writelines(f"{json.dumps(row)}\n" for row in rows)

    def touch_manifest_after(self, name):
        """Date the manifest as if it was written after the file was last touched."""
        changed_at = (self.root / name).stat().st_ctime_ns
        os.utime(self.manifest, ns=(changed_at, changed_at))

    def scan(self, *manifests, root=None):
        """The scan's rows without stamps, the notes, and how many lengths came from Lhotse."""
        skipped, self.opened[:] = SkipList(), []
        root = root or self.root
        recordings = LhotseRecordings(root, manifests or [self.manifest], skipped)
        rows = [scan_file(root, name, recordings) for name in walk_audio(root)]
        return {row[0]: row[3:] for row in rows}, recordings.finish(), skipped.entries

    @property
    def lengths(self):
        return {name: [1000, 2, 100 * number] for number, name in enumerate(self.names, start=1)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    made = Place(tmp_path)
    monkeypatch.setattr(
        audio_scan,
        "read_header",
        lambda path: made.opened.append(os.path.relpath(path, made.root)) or read_header(path),
    )
    return made


def test_files_that_recordings_or_cuts_name_are_not_opened_and_others_are(place):
    recordings = [Recording.from_file(place.root / name) for name in place.names[:3]]
    RecordingSet.from_recordings(recordings[:1]).to_file(place.manifest)
    cuts = [MonoCut(f"{one.id}-{n}", 0.05 * n, 0.05, 0, recording=one) for one in recordings[1:] for n in (0, 1)]
    cut_manifest = place.manifest.with_name("x_cuts.jsonl")
    CutSet.from_cuts(cuts).to_file(cut_manifest)
    assert place.scan(place.manifest, cut_manifest) == (place.lengths, 3, [])
    assert place.opened == ["e.wav"]


def test_an_earlier_scan_counts_before_what_lhotse_measured_which_counts_before_the_file(place):
    rows = [scan_file(place.root, name) for name in place.names[:2]]
    rows[0][5], rows[1][5] = 7, 7  # samples
    place.write(*rows, manifest=place.root / "audio_scan.gz")
    place.write(place.row("a.wav"), place.row("b/d.flac"))
    recordings = LhotseRecordings(place.root, [place.manifest], SkipList())
    place.opened.clear()
    known = (AudioScan(place.root / "audio_scan.gz", True), recordings)
    assert [scan_file(place.root, name, *known)[5] for name in place.names] == [7, 7, 300, 400]
    assert place.opened == ["e.wav"] and recordings.finish() == 2


@pytest.mark.parametrize("through", ["corpus", "link", "link inside", "here", "relative to the corpus", "dots"])
def test_a_file_is_found_however_the_manifest_names_its_folder(place, tmp_path, monkeypatch, through):
    monkeypatch.chdir(tmp_path)
    row = place.row("b/d.flac")
    root, name = place.root, "b/d.flac"
    if through == "link":
        (tmp_path / "link").symlink_to(place.root)
        root = tmp_path / "link"
    elif through == "link inside":
        (tmp_path / "own").mkdir()
        (tmp_path / "own/b").symlink_to(place.root / "b")
        root = Path("own")
    source = {"here": "corpus/b/d.flac", "relative to the corpus": "b/d.flac", "dots": f"{root}/b/../b//d.flac"}
    row["sources"][0]["source"] = source.get(through, row["sources"][0]["source"])
    place.write(row)
    lengths, num_used, notes = place.scan(root=root)
    assert (lengths[name], num_used, notes) == ([1000, 2, 300], 1, [])
    assert not [path for path in place.opened if path.endswith("d.flac")]


def changed(row, **values):
    """A row in which `source_x` stands for `x` of its first source."""
    row = json.loads(json.dumps(row))
    for name, value in values.items():
        where = row["sources"][0] if name.startswith("source_") else row
        where[name.removeprefix("source_")] = value
    return row


BAD = {
    "two sources": ({"sources": [{}, {}]}, "2 sources"),
    "no sources": ({"sources": None}, "no sources"),
    "a source that is none": ({"sources": ["b/c.wav"]}, "not a JSON object"),
    "a link on the web": ({"source_type": "url", "source_source": "https://example.org/c.wav"}, "'url'"),
    "a command": ({"source_type": "command", "source_source": "cat c.wav"}, "'command'"),
    "in memory": ({"source_type": "memory"}, "'memory'"),
    "a file without a name": ({"source_source": None}, "instead of a file"),
    "a folder with a zero byte": ({"source_source": "b\0/c.wav"}, "can be named 'b\\x00/c.wav'"),
    "a name with a zero byte": ({"source_source": "b/c\0.wav"}, "can be named 'b/c\\x00.wav'"),
    "half a surrogate pair": ({"source_source": "b/c\ud800.wav"}, "can be named"),
    "resampled": ({"transforms": [{"name": "Resample"}]}, "transformed"),
    "a video": ({"source_video": {"fps": 25}}, "video"),
    "no samples": ({"num_samples": 0}, "0 samples"),
    "fewer than none": ({"num_samples": -200}, "-200 samples"),
    "half a sample": ({"num_samples": 200.5}, "200.5 samples"),
    "samples as text": ({"num_samples": "200"}, "200 samples"),
    "true samples": ({"num_samples": True}, "True samples"),
    "no rate": ({"sampling_rate": 0}, "at 0 Hz"),
    "too many": ({"num_samples": 1 << 70}, "Hz"),
    "another duration": ({"duration": 2.0}, "a duration of 2.0 s for 200 samples at 1,000 Hz"),
    "no number": ({"duration": float("nan")}, "a duration of nan s"),
    "no channels": ({"source_channels": []}, "channels are []"),
    "the second channel": ({"source_channels": [1]}, "channels are [1]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_of_no_use_is_named_and_its_file_opened(place, name):
    values, cause = BAD[name]
    place.write(place.row("a.wav"), changed(place.row("b/c.wav"), **values), place.row("e.wav"))
    lengths, num_used, (note,) = place.scan()
    assert (lengths, num_used, place.opened) == (place.lengths, 2, ["b/c.wav", "b/d.flac"])
    assert (note["reason"], note["where"]) == ("bad_row", "x_recordings_all.jsonl.gz:2") and cause in note["cause"]


def test_damaged_lines_and_the_end_of_a_damaged_archive_are_named(place):
    lines = [json.dumps(place.row(name)) for name in place.names]
    plain = place.manifest.with_name("x.jsonl")
    plain.write_bytes(f"{lines[0]}\n{lines[1][:40]}\n[1]\n".encode() + b"\xff\n" + lines[3].encode())
    lengths, num_used, notes = place.scan(plain)
    assert (lengths, num_used, place.opened) == (place.lengths, 2, ["b/c.wav", "b/d.flac"])
    assert [note["where"] for note in notes] == ["x.jsonl:2", "x.jsonl:3", "x.jsonl:4"]
    place.write(*[place.row(name) for name in place.names] * 2000)
    place.manifest.write_bytes(place.manifest.read_bytes()[:-2000])
    lengths, num_used, (note,) = place.scan()
    assert (lengths, num_used) == (place.lengths, 4) and "the file ends too early" in note["cause"]


def test_gone_and_outside_are_told_apart(place, tmp_path):
    soundfile.write(tmp_path / "other.wav", np.zeros(10), 1000)
    rows = [
        changed(place.row("a.wav"), source_source=str(place.root / name)) for name in ("b/gone.wav", "../other.wav")
    ]
    rows.append(changed(rows[0], source_source="/no/such/folder/a.wav"))
    place.write(place.row("a.wav"), *rows)
    lengths, num_used, (gone, outside) = place.scan()
    assert (lengths, num_used) == (place.lengths, 1)
    where = "x_recordings_all.jsonl.gz"
    assert gone == {"reason": "missing", "cause": "no such file", "where": f"{where}:2", "path": "b/gone.wav"}
    assert outside["where"] == where and outside["cause"] == f"2 recordings lie outside {place.root}"


def test_rows_that_contradict_each_other_leave_the_file_to_be_opened_and_equal_ones_do_not(place):
    other = place.manifest.with_name("other.jsonl.gz")
    place.write(place.row("a.wav"), place.row("b/c.wav"), place.row("e.wav"))
    longer = changed(place.row("b/c.wav"), num_samples=201, duration=0.201)
    place.write(place.row("a.wav"), longer, place.row("b/c.wav"), manifest=other)
    lengths, num_used, notes = place.scan(place.manifest, other)
    assert (lengths, num_used, place.opened) == (place.lengths, 2, ["b/c.wav", "b/d.flac"])
    (note,) = notes
    assert (note["reason"], note["where"]) == ("contradiction", "other.jsonl.gz:2")
    assert note["cause"] == "x_recordings_all.jsonl.gz:2 says otherwise of this file"


def test_a_file_newer_than_the_manifest_or_empty_is_opened(place):
    place.write(*map(place.row, place.names))
    later = place.manifest.stat().st_mtime_ns + 10**9
    soundfile.write(place.root / "a.wav", np.zeros((50, 2)), 1000)
    os.utime(place.root / "a.wav", ns=(later, later))
    (place.root / "e.wav").write_bytes(b"")
    place.touch_manifest_after("e.wav")
    lengths, num_used, (note,) = place.scan()
    assert lengths == place.lengths | {"a.wav": [1000, 2, 50], "e.wav": ["empty file"]}
    assert (num_used, place.opened) == (2, ["a.wav", "e.wav"])
    assert (note["reason"], note["where"]) == ("changed", "x_recordings_all.jsonl.gz")
    assert note["cause"] == "2 files are newer than the manifest or empty"


def test_a_file_replaced_by_one_with_old_times_is_opened(place):
    place.write(*map(place.row, place.names))
    before = (place.root / "a.wav").stat().st_mtime_ns
    soundfile.write(place.root / "a.wav", np.zeros((50, 2)), 1000)
    os.utime(place.root / "a.wav", ns=(before, before))
    lengths, num_used, (note,) = place.scan()
    assert lengths == place.lengths | {"a.wav": [1000, 2, 50]}
    assert (num_used, place.opened, note["reason"]) == (3, ["a.wav"], "changed")


def test_a_bare_name_is_a_file_of_the_corpus_where_there_is_none_here(place, monkeypatch):
    place.write(changed(place.row("a.wav"), source_source="a.wav"))
    monkeypatch.chdir(place.root.parent)
    assert place.scan()[1:] == (1, [])


def test_formats_that_lhotse_may_decode_otherwise_are_opened(place):
    rows = []
    for name in ("f.m4a", "g.opus", "h.M4A"):
        (place.root / name).write_bytes(b"\0\0\0\x18ftypM4A ")
        rows.append(changed(place.row("a.wav"), source_source=str(place.root / name)))
    place.write(*rows)
    lengths, num_used, notes = place.scan()
    assert num_used == 0 and all(len(lengths[name]) == 1 for name in ("f.m4a", "g.opus", "h.M4A"))
    assert [note["cause"].partition(",")[0] for note in notes] == ["2 recordings .m4a", "1 recordings .opus"]


def test_a_manifest_that_is_not_there_or_of_another_kind_is_refused(place):
    with pytest.raises(UserError, match="lhotse prepare"):
        place.scan(place.manifest)
    RecordingSet.from_recordings([Recording.from_file(place.root / "a.wav")]).to_file(place.root / "set.json")
    with pytest.raises(UserError, match="lhotse copy"):
        place.scan(place.root / "set.json")


def test_file_and_header_is_what_lhotse_wrote(place):
    recording = Recording.from_file(place.root / "b/d.flac")
    source, header = file_and_header(recording.to_dict())
    assert (source, header) == (str(place.root / "b/d.flac"), read_header(place.root / "b/d.flac"))
    with pytest.raises(ValueError, match="no sources"):
        file_and_header({"id": "a supervision", "recording_id": "d", "start": 0, "duration": 1})
