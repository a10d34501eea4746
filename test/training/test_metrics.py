# SPDX-License-Identifier: Apache-2.0
"""Sums and counts, and the loss log after an interruption."""

import json

import torch

from icefall_alp.training.metrics import MetricSums, RunLog


def test_means_weigh_every_item_alike():
    sums = MetricSums()
    sums.add({"loss": torch.tensor([10.0, 1.0]), "seen": torch.tensor([3, 4])})
    sums.add({"loss": torch.tensor([2.0, 3.0])})
    sums.add_ratio("empty", 0.0, 0.0)
    assert sums.reduce() == {"loss": 3.0, "seen": 0.75}
    assert sums.reduce() == {}, "reduce starts again"


def test_sums_survive_json_to_the_bit():
    sums, copy = MetricSums(), MetricSums()
    sums.add({"loss": torch.tensor([1 / 3, 7.0])})
    copy.add_state(json.loads(json.dumps(sums.state())))
    for each in (sums, copy):
        each.add({"loss": torch.tensor([0.1, 1.0])})
    assert sums.reduce() == copy.reduce()


def test_lines_after_the_resumed_step_and_a_torn_one_are_forgotten(tmp_path):
    with RunLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write(step, "train", {"loss": 1.0 / step}, {"audio-s/s": 5.0})
    path = tmp_path / "losses.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 4, "tra')
    with RunLog(tmp_path, 2) as log:
        log.write(3, "train", {"loss": 1.0 / 3})
        log.sync()
    assert path.read_text() == whole
    assert json.loads(whole.splitlines()[1]) == {"step": 2, "train": {"loss": 0.5}}


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunLog(None, 0) as log:
        log.write(1, "train", {"loss": 1.0})
        log.sync()
    assert list(tmp_path.iterdir()) == []
