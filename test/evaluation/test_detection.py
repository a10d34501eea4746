# SPDX-License-Identifier: Apache-2.0
"""Detection finds events that a linear layer can find, scores both alphas, and is above chance and never by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from icefall_alp.config import DetectionConfig
from icefall_alp.evaluation import detection
from icefall_alp.evaluation.encoders import LogMelFrames
from icefall_alp.utils.errors import UserError


@pytest.fixture
def config(toy_task, event_folders):
    return DetectionConfig(
        **event_folders, class_list=toy_task["class_list"], learning_rates=(1e-6, 0.05), num_seeds=2, valid_share=0.3,
        batch_size=20, num_steps=60, median_seconds=0.12, max_duration=9.0,
    )  # fmt: skip


def test_separable_events_are_found(config, log_mel, tmp_path):
    mean, strict = detection.score(log_mel, config, tmp_path, [""])
    assert (mean.metric, strict.metric) == ("PSDS1 alpha_st 0", "PSDS1 alpha_st 1")
    assert mean.value > 0.8 and mean.value >= strict.value > strict.chance
    assert mean.chance < 0.2 and mean.num_scored == 20
    assert mean.details["learning_rate"] == 0.05 and mean.details["scored classes"] == 4
    assert len(mean.seed_values) == 2 and mean.half_interval is not None


def test_baseline_frames_are_means_of_four_and_ignore_padding():
    features = torch.arange(12.0).view(1, 6, 2)
    padded = torch.cat([features, torch.full((1, 5, 2), -23.0)], dim=1)
    frames, lens = LogMelFrames(2)(padded, torch.tensor([6]))
    assert lens.tolist() == [2]
    assert frames[0, :2].tolist() == [[3.0, 4.0], [9.0, 10.0]]


def test_median_filter_removes_what_is_short():
    scores = np.array([[0.0, 1], [9, 1], [0, 1], [0, 1], [5, 1], [5, 1]])
    smooth = detection._smoothed(scores, duration=0.6, median_seconds=0.3)
    assert smooth[:, 0].tolist() == [0, 0, 0, 0, 5, 5]
    assert smooth[:, 1].tolist() == [1] * 6
    assert detection._smoothed(scores, 0.6, 0.0) is scores
    assert detection._smoothed(scores[:1], 0.1, 0.36).tolist() == [[0, 1]]  # a clip shorter than the filter


def test_classes_without_events_are_named_and_not_scored(config, log_mel, tmp_path, capsys):
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\nthunder\nrain\nbell\nengine\n", encoding="utf-8")
    config = replace(config, class_list=str(classes), num_steps=3)
    strict, _ = detection.score(log_mel, config, tmp_path, [""])
    assert strict.details["scored classes"] == 4
    assert strict.details["classes without train clip"] == ["thunder"]
    assert "1 of 5 classes have no test clip: thunder" in capsys.readouterr().out


def test_cuts_without_events_are_refused(config, log_mel, tmp_path, monkeypatch):
    monkeypatch.setattr(detection, "clip_events", lambda cuts, names: [[] for _ in cuts])
    with pytest.raises(UserError, match="no class has events in training and test"):
        list(detection.score(log_mel, config, tmp_path, [""]))


def test_validation_without_events_is_refused(config, log_mel, tmp_path, monkeypatch):
    real = detection.clip_events

    def none_in_validation(cuts, names):
        return [[] for _ in cuts] if 20 < len(cuts) < 40 else real(cuts, names)

    monkeypatch.setattr(detection, "clip_events", none_in_validation)
    with pytest.raises(UserError, match=r"none of the \d+ validation clips has an event"):
        list(detection.score(log_mel, config, tmp_path, [""]))
