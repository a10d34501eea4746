# SPDX-License-Identifier: Apache-2.0
"""What stage 0 prepares again when a list has changed, and what it does where only the lists are there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.leaks import evaluated_keys
from test.recipes.preparation import CORPORA, LOCAL, ROOT, Workplace


@pytest.fixture
def place(tmp_path):
    (tmp_path / "local").symlink_to(LOCAL)
    return Workplace(tmp_path)


def prepare(place, *corpora, only=""):
    folder = place.corpora.parent
    path = f"{Path(sys.executable).parent}:{ROOT / 'tools'}:{os.environ['PATH']}"
    command = [sys.executable, LOCAL / "prepare.py", "--corpora", CORPORA, "--only", only, "--roots"]
    return subprocess.run(
        [*map(str, command), *(f"{name}={place.corpora / name}" for name in corpora)],
        cwd=folder, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


def segments(place, start):
    place.text("audioset/balanced_train_segments.csv", f'-GLk_G9U09A, {start}.000, {start + 10}.000, "/m/1"\n')


def test_a_corpus_is_prepared_again_when_the_lists_of_the_one_it_names_clips_of_change(place):
    row = {"id": "Y-GLk_G9U09A.wav", "caption": "Singing.", "duration": 10.0}
    place.text("wavcaps/json_files/AudioSet_SL/as_final.json", json.dumps({"data": [row]}))
    place.audio("wavcaps/AudioSet_SL/Y-GLk_G9U09A.wav")

    def keys():
        return [cut["id"] for cut in read_jsonl(place.corpora.parent / "data/manifests/wavcaps_train_cuts.jsonl.gz")]

    segments(place, 30)
    first = prepare(place, "wavcaps", "audioset", only="wavcaps")
    assert first.returncode == 0 and keys() == ["yt:-GLk_G9U09A:30000"], first.stderr
    place.audio("audioset/Y-GLk_G9U09A.wav")  # of AudioSet's audio WavCaps takes nothing
    assert "skip: prepare_wavcaps is done" in prepare(place, "wavcaps", "audioset", only="wavcaps").stdout
    segments(place, 70)
    again = prepare(place, "wavcaps", "audioset", only="wavcaps")
    assert "balanced_train_segments.csv changed" in again.stdout and keys() == ["yt:-GLk_G9U09A:70000"]


def test_a_benchmark_of_which_only_the_lists_are_there_filters_leaks_and_stops_nothing_unless_it_is_named(place):
    place.text("vggsound/vggsound.csv", "-GLk_G9U09A,30,people marching,test\n")
    done = prepare(place, "vggsound")
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stdout and "none of the 1 clips that vggsound lists" in done.stdout
    assert "vggsound test: 0 clips of 15,446 (0.0%)" in done.stdout
    manifests = place.corpora.parent / "data/manifests"
    assert evaluated_keys(CORPORA, manifests)["vggsound_test"] == ["yt:-GLk_G9U09A:30000"]
    named = prepare(place, "vggsound", only="vggsound")  # done before, and not enough when it is asked for
    assert named.returncode == 1
    assert named.stderr.startswith("error: vggsound: ") and "none of their audio" in named.stderr
