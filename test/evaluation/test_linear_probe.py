# SPDX-License-Identifier: Apache-2.0
"""The probe solves what is linearly solvable, stays near chance on nothing, and names bad labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from icefall_alp.config import LinearProbeConfig
from icefall_alp.evaluation import linear_probe
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.encoders import FrozenEncoder, LogMelStatistics
from icefall_alp.utils.errors import UserError


class Noise(LogMelStatistics):
    """Statistics that know nothing of the clip."""

    def forward(self, features, feature_lens):
        frames, lens = super().forward(features, feature_lens)
        return torch.randn_like(frames), lens


@pytest.fixture
def config(toy_task):
    paths = {key: toy_task[key] for key in ("train_cuts", "test_cuts", "class_list")}
    return LinearProbeConfig(**paths, batch_size=40, num_steps=60, max_duration=10.0)


@pytest.mark.parametrize(("metric", "multi_label", "best"), [("mAP", True, 1.0), ("accuracy", False, 100.0)])
def test_separable_classes_are_separated(config, log_mel, metric, multi_label, best):
    config = replace(config, metric=metric, multi_label=multi_label)
    scores = list(linear_probe.score(log_mel, config, Path(), config.poolings))
    assert [(s.pooling, s.metric, s.num_scored) for s in scores] == [("mean", metric, 20), ("attention", metric, 20)]
    assert scores[0].value == pytest.approx(best)
    assert scores[1].value > 0.7 * best
    assert scores[0].chance == pytest.approx(best / 4)


def test_noise_is_near_chance(config):
    config = replace(config, metric="accuracy", multi_label=False)
    torch.manual_seed(0)
    (score,) = linear_probe.score(FrozenEncoder("noise", Noise(), "d"), config, Path(), ["mean"])
    assert score.value <= 60.0


def test_same_seed_same_number(config, log_mel):
    config = replace(config, num_steps=5)
    values = [next(linear_probe.score(log_mel, config, Path(), ["mean"])).value for _ in range(2)]
    assert values[0] == values[1]


def test_bad_labels_are_named(toy_task):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    targets = linear_probe.label_targets(clips, ["engine", "bell", "rain", "dog"], multi_label=False)
    assert targets[0].tolist() == [0, 0, 0, 1]
    with pytest.raises(UserError, match="label 'rain' is not in the class list of 1 names"):
        linear_probe.label_targets(clips, ["dog"], multi_label=True)
    clips.cuts[0].supervisions[0].custom["labels"] = ["dog", "rain"]
    with pytest.raises(UserError, match="test:0: 2 labels"):
        linear_probe.label_targets(clips, ["engine", "bell", "rain", "dog"], multi_label=False)


def test_unknown_metric_is_named(config):
    with pytest.raises(UserError, match="metric: 'map' is unknown"):
        linear_probe.numbers(replace(config, metric="map"))
