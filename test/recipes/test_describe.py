# SPDX-License-Identifier: Apache-2.0
"""The report of stage 3 on a corpus made here: counts by hand, the paper beside them, figures that are pictures."""

import json
import re

import matplotlib.image
import pytest

from icefall_alp.data.captions import AudioHeader, CaptionedAudio, captions_of, jsonl_writer, make_cut
from test.recipes.preparation import PAPER, run

SOURCES = {"clotho": ("wind", "rain", "thunder"), "jamendomaxcaps": ("harp", "drum", "choir")}


def cut_of(number, seconds, captions):
    cut = make_cut(
        CaptionedAudio(f"fs:{number:03d}", "a.wav", "train", ()),
        AudioHeader(100, 1, int(seconds * 100)),
        "clotho",
        "sound",
    )
    captions_of(cut)[:] = [{"text": text, "source": source} for source, text in captions]
    return cut


@pytest.fixture
def folder(tmp_path):
    """Forty cuts: of every two one is described by both sources."""
    cuts = []
    for number in range(40):
        texts = [(s, f"{w[number % 3]} and {w[number % 2]} number {number}") for s, w in SOURCES.items()]
        cuts.append(cut_of(number, 1 + number % 5, texts if number % 2 else texts[:1]))
    for split, part in (("train", cuts[:36]), ("valid", cuts[36:])):
        with jsonl_writer(tmp_path / f"captionstew_{split}_cuts.jsonl.gz") as write:
            for cut in part:
                write(cut)
    counts = {"audio_in": 40, "too_long": 0, "leak": 0, "merged": 0, "audio_out": 40, "duplicate_caption": 0}
    summary = {
        "sources": dict.fromkeys(SOURCES, counts),
        "max_seconds": 60.0,
        "evaluated": {"clotho_test": 3},
        "absent": [],
    }
    summary |= {"train": {"audio": 36}, "valid": {"audio": 4}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    report = {
        "corpus": "clothoaqa", "root": "x", "missing": 0, "unreadable": 0, "bad_row": 0,
        "expected": {"audio": {"train": 10}},
        "found": {"train": {"audio": 5, "captions": 0, "questions": 30, "hours": 1.0}},
    }  # fmt: skip
    (tmp_path / "clothoaqa_report.json").write_text(json.dumps(report))
    subsets = {"small": {"wanted": 20, "captions": 19, "audio": 17, "hours": 0.5}}
    (tmp_path / "subsets.json").write_text(json.dumps(subsets))
    return tmp_path


def describe(folder, *options):
    return run("describe_cuts.py", "--manifests-dir", folder, "--captionstew-dir", folder, "--paper", PAPER, *options)


def cells(report, first):
    """The cells of the lines that begin with `first`."""
    lines = re.findall(rf"^\| ({first} \|.*) \|$", report, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_ours_stands_beside_the_papers(folder):
    result = describe(folder)
    assert result.returncode == 0, result.stderr
    report = (folder / "report.md").read_text()
    size, words, matched, *_ = cells(report, "clotho")
    # five words a caption, "number" and "and" among them; 40 numbers, 3 words of its own
    assert size == ["clotho", "40", "5,000", "40", "25,000", "5,000", "0.03", ""]
    assert words[:6] == ["clotho", "45", "", "4,366", "5.00", ""] and words[6] == f"{45 / 200:.3f}"
    assert matched[1] == "100"  # words of the smaller source
    jamendo = cells(report, "jamendomaxcaps")
    assert jamendo[0][:5] == ["jamendomaxcaps", "20", "360,000", "20", "1,800,000"]
    assert jamendo[1][-2:] == [f"{23 / 40:.3f}", "0.153"]  # 20 end with their number, 3 of the others differ
    total = cells(report, "CaptionStew")
    assert total[0] == ["CaptionStew", "40", "9,300,000", "60", "10,700,000", "10,700,000", "0.03", "37,290"]
    assert total[1][:3] == ["CaptionStew", "48", "56,586"]
    assert cells(report, "clothoaqa train") == [["clothoaqa train", "5", "10", "50.0%", "", "30", "1.00"]]
    assert cells(report, "small") == [["small", "20", "19", "17", "0.50"]]
    assert "0 problems" in report


def test_every_reason_for_which_stage_0_left_something_out_is_in_the_report(folder):
    path = folder / "clothoaqa_report.json"
    first = json.loads(path.read_text())
    path.write_text(json.dumps(first | {"missing": 1200, "contradiction": 4, "no_list": 1}))
    other = first | {"corpus": "fusionaudio", "duplicate": 2, "other_task": 3}
    (folder / "fusionaudio_report.json").write_text(json.dumps(other))
    assert describe(folder).returncode == 0
    report = (folder / "report.md").read_text()
    names = "corpus | missing | unreadable | bad row | duplicate | contradiction | no list | other task"
    assert f"| {names} |" in report
    assert cells(report, "clothoaqa") == [["clothoaqa", "1,200", "0", "0", "0", "4", "1", "0"]]
    assert cells(report, "fusionaudio") == [["fusionaudio", "0", "0", "0", "2", "0", "0", "3"]]


def test_the_map_is_a_picture_with_its_purity(folder):
    result = describe(folder, "--map-captions", 15)
    assert result.returncode == 0, result.stderr
    report = (folder / "report.md").read_text()
    assert "30 captions, equally many of each source" in report and "TF-IDF" in report
    (chance,) = cells(report, "chance")
    assert float(chance[2]) == pytest.approx(14 / 29, abs=1e-3)
    (apart,) = re.findall(r"^\| all, in \d+ dimensions \| \S+ \| (\S+) \|$", report, re.MULTILINE)
    assert float(apart) > 0.6  # the sources share "and" and "number" only
    for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", report):
        picture = matplotlib.image.imread(folder / link)
        assert picture.shape[0] > 200 and len({tuple(pixel) for pixel in picture[::4, ::4].reshape(-1, 4)}) > 4
    first = report
    describe(folder, "--map-captions", 15)
    assert (folder / "report.md").read_text() == first


def test_one_source_alone_has_no_map_and_a_missing_encoder_is_one_line(folder):
    absent = describe(folder, "--sentence-encoder", folder / "absent")
    assert absent.returncode == 1 and len(absent.stderr.splitlines()) == 1 and "no sentence encoder" in absent.stderr
    with jsonl_writer(folder / "captionstew_train_cuts.jsonl.gz") as write:
        for number in range(36):
            write(cut_of(number, 1, [("clotho", "wind")]))
    (folder / "captionstew_valid_cuts.jsonl.gz").unlink()
    with jsonl_writer(folder / "captionstew_valid_cuts.jsonl.gz") as write:
        for number in range(36, 40):
            write(cut_of(number, 1, [("clotho", "wind")]))
    result = describe(folder)
    assert result.returncode == 0 and "there is nothing to tell apart" in result.stdout
