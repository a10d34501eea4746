# SPDX-License-Identifier: Apache-2.0
"""The generated lists of all eight sources through the real driver, at a thousandth of the paper's size, no audio."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icefall_alp.data.captions import read_jsonl
from test.recipes.preparation import CORPORA, LOCAL, ROOT

SOURCES = (
    "audiocaps",
    "clotho",
    "wavcaps",
    "paraspeechcaps",
    "musiccaps",
    "audiosetcaps",
    "fusionaudio",
    "jamendomaxcaps",
)


def call(folder, *command):
    path = f"{Path(sys.executable).parent}:{ROOT / 'tools'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The benchmark at 1/1000, its files kept."""
    folder = tmp_path_factory.mktemp("large")
    command = (ROOT / "tools/benchmark.py", "prepare", "--scale", "0.001", "--work-dir", folder)
    result = call(folder, *command)
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_time_and_memory_of_each_stage_are_printed(work):
    _, output = work
    for stage in ("stage 0 (prepare)", "stage 1 (merge)", "stage 1 (subsets)", "together"):
        (line,) = re.findall(rf"^{re.escape(stage)} +([\d.]+) s +([\d.]+) CPU s +([\d.]+) GiB$", output, re.MULTILINE)
        seconds, cpu_seconds, gib = map(float, line)
        assert seconds > 0 and cpu_seconds > 0 and 0.01 < gib < 6


def test_all_sources_are_merged_and_planted_clips_leave(work):
    folder, _ = work
    summary = json.loads((folder / "data/captionstew/summary.json").read_text())
    assert tuple(summary["sources"]) == SOURCES
    sources = summary["sources"]
    assert sum(counts["captions_in"] for counts in sources.values()) == pytest.approx(10_630, rel=0.02)
    removed = list(read_jsonl(folder / "data/captionstew/removed.jsonl.gz"))
    leaks = {(row["corpus"], row["benchmark"]) for row in removed if row["reason"] == "leak"}
    assert {("wavcaps", "audioset_test"), ("audiosetcaps", "vggsound_test"), ("wavcaps", "clotho_test")} <= leaks
    assert any(corpus == "paraspeechcaps" and benchmark == "voxceleb2_test" for corpus, benchmark in leaks)
    assert sources["fusionaudio"]["merged"] > 1000 and sources["wavcaps"]["too_long"] > 100
    for report in (folder / "data/manifests").glob("*_report.json"):
        counts = json.loads(report.read_text())
        assert (counts["bad_row"], counts["missing"], counts["unreadable"]) == (0, 0, 0), report.name


def prepare(folder, *options):
    return call(folder, LOCAL / "prepare.py", "--corpora", CORPORA, *options)


def test_corpora_and_parts_of_their_audio_are_jobs(work, tmp_path):
    root = tmp_path / "corpora/audiocaps"
    (root / "audio").mkdir(parents=True)
    (tmp_path / "local").symlink_to(LOCAL)
    for name, number in (("train", 1), ("val", 2), ("test", 3)):
        row = f"{number},vide-_{number:05d},10,A bell rings\n"
        (root / f"{name}.csv").write_text("audiocap_id,youtube_id,start_time,caption\n" + row)
        soundfile.write(root / f"audio/vide-_{number:05d}.wav", np.zeros(number * 800), 8000)
    (tmp_path / "corpora/clotho").mkdir()
    roots = ("--roots", f"audiocaps={root}", "--scan-parts", 2)
    result = prepare(tmp_path, *roots)
    assert result.returncode == 0, result.stderr
    assert "audio_scan.1-of-2.gz: 2 audio files" in result.stdout
    assert "audio_scan.gz: 3 audio files" in result.stdout and len(list(root.glob("audio_scan*"))) == 1
    assert [row[0] for row in read_jsonl(root / "audio_scan.gz")] == [f"audio/vide-_{n:05d}.wav" for n in (1, 2, 3)]
    (cut,) = read_jsonl(tmp_path / "data/manifests/audiocaps_test_cuts.jsonl.gz")
    assert cut["duration"] == pytest.approx(0.3)

    for sound in root.glob("audio/*.wav"):  # what is scanned is not opened again
        sound.write_bytes(b"no audio")
    assert "skip: prepare_audiocaps is done" in prepare(tmp_path, "--roots", f"audiocaps={root}").stdout
    (root / "val.csv").write_text((root / "val.csv").read_text().replace("bell", "horn"))
    again = prepare(tmp_path, "--roots", f"audiocaps={root}")
    assert "val.csv changed" in again.stdout and again.returncode == 0
    scanned = prepare(tmp_path, *roots)
    assert "3 audio files, 3 of which cannot be read" in scanned.stdout
    assert scanned.returncode == 1 and "none of the 3 clips that audiocaps lists" in scanned.stdout


def test_one_corpus_that_fails_does_not_stop_the_others(tmp_path, work):
    (tmp_path / "local").symlink_to(LOCAL)
    (tmp_path / "clotho").mkdir()
    vggsound = work[0] / "lists/vggsound"
    result = prepare(tmp_path, "--roots", f"clotho={tmp_path / 'clotho'}", f"vggsound={vggsound}")
    assert result.returncode == 1 and "error: clotho ended with status 1" in result.stderr
    assert (tmp_path / "data/manifests/vggsound_report.json").is_file()
