# SPDX-License-Identifier: Apache-2.0
"""Stage 2 stores several cutsets, small ones side by side, and gives the bytes that each alone gives."""

import json

import numpy as np
import pytest
import soundfile

from icefall_alp.data.captions import AudioHeader, LabelledAudio, jsonl_writer, make_cut
from icefall_alp.data.feature_storage import store_features
from test.recipes.preparation import run


@pytest.fixture
def sets(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one_train", "one_test", "one_valid"):
        with jsonl_writer(tmp_path / f"{name}_cuts.jsonl.gz") as write:
            for number in range(4):
                path = f"{name}_{number}.wav"
                soundfile.write(tmp_path / path, rng.uniform(-0.1, 0.1, 4000), 16000)
                item = LabelledAudio(f"musan:{name}{number}", path, "train", ("noise",))
                write(make_cut(item, AudioHeader(16000, 1, 4000), "one", "sound"))
    (tmp_path / "one_report.json").write_text(json.dumps({"corpus": "one", "root": str(tmp_path)}))
    return sorted(tmp_path.glob("*_cuts.jsonl.gz"))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_sets_at_once_are_what_each_is_alone(sets, tmp_path):
    for cuts in sets:
        name = cuts.name.removesuffix("_cuts.jsonl.gz")
        store_features(cuts, tmp_path / "alone" / name, {"one": tmp_path}, 1000, 1)
    options = ("--manifests-dir", tmp_path, "--output-dir", tmp_path / "together", "--num-jobs", 2)
    result = run("compute_fbank.py", "--cuts", *sets, *options)
    assert result.returncode == 0, result.stderr
    assert [line.split(": ")[1][:6] for line in result.stdout.splitlines()] == ["4 cuts"] * 3
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert run("compute_fbank.py", "--cuts", *sets, *options).stdout.count("(0 computed now)") == 3


def test_a_set_that_is_not_there_is_one_line(sets, tmp_path):
    options = ("--manifests-dir", tmp_path, "--output-dir", tmp_path / "out", "--num-jobs", 2)
    result = run("compute_fbank.py", "--cuts", sets[0], tmp_path / "two_test_cuts.jsonl.gz", *options)
    assert result.returncode == 1 and "two_test_cuts.jsonl.gz: no such manifest" in result.stderr.splitlines()[-1]
    assert (tmp_path / "out/one_test").is_dir()
