# SPDX-License-Identifier: Apache-2.0
"""The probe solves what is linearly solvable, stays near chance on nothing, and chooses on validation clips only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from icefall_alp.config import LinearProbeConfig
from icefall_alp.evaluation import linear_probe
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
    return LinearProbeConfig(
        **paths,
        learning_rates=(0.001, 0.02),
        num_seeds=3,
        valid_share=0.2,
        batch_size=40,
        num_steps=40,
        max_duration=9.0,
    )


@pytest.mark.parametrize(("metric", "multi_label", "best"), [("mAP", True, 1.0), ("accuracy", False, 100.0)])
def test_separable_classes_are_separated(config, log_mel, tmp_path, metric, multi_label, best):
    config = replace(config, metric=metric, multi_label=multi_label)
    found = list(linear_probe.score(log_mel, config, tmp_path, config.poolings))
    assert [(s.pooling, s.metric, s.num_scored) for s in found] == [("mean", metric, 20), ("attention", metric, 20)]
    assert found[0].value == pytest.approx(best)
    assert found[1].value > 0.7 * best
    for own in found:
        assert own.chance == pytest.approx(best / 4)
        assert len(own.seed_values) == 3 and own.value == pytest.approx(np.mean(own.seed_values))
        assert own.half_interval is not None
        assert own.details["learning_rate"] in config.learning_rates
        assert own.details["valid_scores"].keys() == {"0.001", "0.02"}


def test_noise_is_near_chance(config, tmp_path):
    config = replace(config, metric="accuracy", multi_label=False)
    torch.manual_seed(0)
    (found,) = linear_probe.score(FrozenEncoder("noise", Noise(), "d"), config, tmp_path, ["mean"])
    assert found.value <= 60.0


def test_same_seeds_same_numbers_and_seeds_differ(config, log_mel, tmp_path):
    config = replace(config, num_steps=3, learning_rates=(0.01,), num_seeds=4)
    first, again = (next(linear_probe.score(log_mel, config, tmp_path, ["mean"])).seed_values for _ in range(2))
    assert first == again
    assert len(set(first)) > 1


def test_rate_is_chosen_by_validation_and_test_is_scored_by_it_alone(config, log_mel, tmp_path, monkeypatch):
    """A rate of nothing is never chosen, whatever it would score on the test clips."""
    scored = []
    real = linear_probe.score_heads

    def recorded(bank, clips, config):
        scored.append((len(bank), len(clips.part.positions)))
        return real(bank, clips, config)

    monkeypatch.setattr(linear_probe, "score_heads", recorded)
    config = replace(config, learning_rates=(1e-9, 0.02))
    (found,) = linear_probe.score(log_mel, config, tmp_path, ["mean"])
    assert found.details["learning_rate"] == 0.02
    assert found.value == pytest.approx(1.0)
    valid, test = scored
    assert valid[0] == 6 and test == (3, 20)  # all heads on validation, the chosen rate's seeds on test
    assert 0 < valid[1] < 40


def test_attention_streams_what_does_not_fit_the_memory(config, log_mel, tmp_path):
    config = replace(config, num_steps=8, max_duration=100.0)
    (kept,) = linear_probe.score(log_mel, config, tmp_path, ["attention"])
    (streamed,) = linear_probe.score(log_mel, replace(config, frames_gb=1e-9), tmp_path, ["attention"])
    assert streamed.value == pytest.approx(kept.value, abs=0.05)  # frames in memory are rounded to float16


def test_classes_without_clips_are_reported(config, log_mel, tmp_path, capsys):
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\nrain\nbell\nengine\nthunder\n", encoding="utf-8")
    config = replace(config, class_list=str(classes), num_steps=2)
    (found,) = linear_probe.score(log_mel, config, tmp_path, ["mean"])
    assert found.details["classes without test clip"] == found.details["classes without train clip"] == ["thunder"]
    assert "test: 1 of 5 classes have no train clip: thunder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "map"}, "metric: 'map' is unknown"),
        ({"metric": "accuracy"}, "metric: accuracy does not go with multi_label: true"),
        ({"multi_label": False}, "metric: mAP does not go with multi_label: false"),
        ({"poolings": ("max",)}, "poolings: 'max' is unknown"),
    ],
)
def test_settings_that_do_not_fit_are_named(config, change, message):
    with pytest.raises(UserError, match=message):
        linear_probe.numbers(replace(config, **change))


def test_bad_labels_are_named(config, log_mel, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"label '(rain|bell|engine)' is not in the class list of 1 names"):
        list(linear_probe.score(log_mel, replace(config, class_list=str(classes)), Path(tmp_path), ["mean"]))
