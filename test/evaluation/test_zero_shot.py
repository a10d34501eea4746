# SPDX-License-Identifier: Apache-2.0
"""Classes are found by their names, by every prompt; a perfect model scores full marks, a constant one chance."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from icefall_alp.config import ZeroShotConfig
from icefall_alp.evaluation import zero_shot
from icefall_alp.utils.errors import UserError
from test.evaluation.conftest import KINDS


@pytest.fixture
def config(toy_task):
    return ZeroShotConfig(test_cuts=toy_task["test_cuts"], class_list=toy_task["class_list"])


class Knowing:
    """Towers that hear which band is loud and read which kind is named, or always say the same."""

    text_encoder = SimpleNamespace(
        tokenizer=SimpleNamespace(lengths=lambda texts: list(map(len, texts))), max_tokens=99
    )

    def __init__(self, constant=False):
        self.constant = constant

    def embed_audio(self, frames, lens):
        bands = frames[:, 0, :80].unflatten(1, (4, 20)).mean(dim=2)
        return torch.ones(len(frames), 4) / 2 if self.constant else torch.nn.functional.normalize(bands, dim=1)

    def embed_text(self, texts):
        return torch.stack([torch.tensor([float(kind in text) for kind in KINDS]) for text in texts])


@pytest.mark.parametrize(
    ("multi_label", "metric", "best", "chance"), [(False, "accuracy", 100, 25), (True, "mAP", 1, 0.25)]
)
def test_a_perfect_model_scores_full_marks_and_a_constant_one_chance(
    config, log_mel, monkeypatch, tmp_path, multi_label, metric, best, chance
):
    config = replace(config, multi_label=multi_label)
    for constant, expected in ((False, best), (True, chance)):
        monkeypatch.setattr(zero_shot, "pretrained_towers", lambda encoder, dim, c=constant: Knowing(c))
        (score,) = zero_shot.score(log_mel, config, tmp_path, [""])
        assert (score.metric, score.value, score.chance) == (metric, pytest.approx(expected), chance)
    assert zero_shot.numbers(config) == [("", metric)]


def test_the_towers_beside_the_encoder_are_used(config, with_text_tower, tmp_path):
    (score,) = zero_shot.score(with_text_tower, config, tmp_path, [""])
    assert 0.0 <= score.value <= 100.0 and score.num_scored == 20


def test_prompts_that_the_tower_cuts_are_counted(config, with_text_tower, tmp_path):
    config = replace(config, prompts=("a {}", "this is a recording " * 20 + "of a {}"))
    (score,) = zero_shot.score(with_text_tower, config, tmp_path, [""])
    assert score.details == {"prompts cut": len(KINDS)}


def test_a_class_is_the_mean_of_its_prompts_and_its_name_has_spaces():
    seen = []
    towers = SimpleNamespace(embed_text=lambda texts: seen.extend(texts) or torch.eye(4)[[len(t) % 4 for t in texts]])
    vectors = zero_shot.embed_classes(towers, ["a_b", "cde"], ["{}", "the {}x"])
    assert set(seen) == {"a b", "cde", "the a bx", "the cdex"}
    expected = torch.nn.functional.normalize(torch.eye(4)[3] + torch.eye(4)[0], dim=0)
    torch.testing.assert_close(vectors, expected.expand(2, -1))


@pytest.mark.parametrize("prompts", [(), ("no place",), ("{} and {}",)])
def test_prompts_without_the_place_of_the_name_are_refused(prompts):
    with pytest.raises(UserError, match=r"prompts: .*must hold"):
        zero_shot.embed_classes(SimpleNamespace(), ["a"], prompts)
