# SPDX-License-Identifier: Apache-2.0
"""What is put to the model and what it learns from; adaptors and small models are made once, and known by digest."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from icefall_alp.config import AdaptorConfig
from icefall_alp.evaluation import adaptors
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.encoders import FrozenEncoder, LogMelStatistics
from icefall_alp.utils.errors import UserError
from test.evaluation.question_toys import toy_config, write_question_shards
from test.models.question_toys import small_model


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptors")
    return write_question_shards(folder / "train", 12, "train"), write_question_shards(folder / "test", 6, "test")


@pytest.fixture
def encoder():
    return FrozenEncoder("log_mel", LogMelStatistics().eval(), "encoder digest")


def test_several_training_sets_are_one(sets):
    config = dataclasses.replace(toy_config(*sets), train_sets=tuple(map(str, sets)))
    cuts, items, _ = adaptors.training_items(config)
    assert len(cuts) == 18 and len(items) == 36 and cuts[items[-1].clip].id == items[-1].cut_id
    with pytest.raises(UserError, match="name at least one folder"):
        adaptors.training_items(dataclasses.replace(config, train_sets=()))


def test_an_adaptor_is_trained_once_and_kept_alone(sets, encoder, tmp_path, capsys):
    model = small_model()
    model.chat.max_tokens = 500
    config = dataclasses.replace(toy_config(*sets), num_steps=3)
    first = adaptors.trained_adaptor(encoder, model, config, tmp_path, 160)
    (folder,) = (tmp_path / "adaptor").glob("[!.]*")
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["adaptor.safetensors", "training.json"]
    counts = json.loads((folder / "training.json").read_text())
    assert (counts["questions"], counts["clips"], counts["left_out_answers_differ"]) == (24, 12, 0)
    frames = encode_clips(LogMelStatistics(), sets[0], 10.0)
    torch.testing.assert_close(first.adaptor.mean, frames.statistics()[0])
    capsys.readouterr()
    again = adaptors.trained_adaptor(encoder, model, config, tmp_path, 160)
    assert "questions on" not in capsys.readouterr().out
    torch.testing.assert_close(again.state_dict(), first.state_dict(), atol=0, rtol=0)


def test_the_questions_left_out_are_counted(sets, encoder, tmp_path, capsys):
    model = small_model()
    model.chat.max_tokens = 500
    config = dataclasses.replace(toy_config(*sets), num_steps=1, answers="unanimous")
    adaptors.trained_adaptor(encoder, model, config, tmp_path, 160)
    assert "12 questions on 12 clips, 12 left out because their answers differ" in capsys.readouterr().out


def test_the_digest_changes_with_encoder_model_sets_and_settings(sets, encoder):
    config, model = toy_config(*sets), small_model()
    changed = [
        (dataclasses.replace(encoder, digest="other"), model, config),
        (encoder, model, dataclasses.replace(config, num_steps=7)),
        (encoder, model, dataclasses.replace(config, train_sets=tuple(map(str, sets)))),
        (encoder, model, dataclasses.replace(config, adaptor=AdaptorConfig(stack=2))),
        (encoder, model, dataclasses.replace(config, answers="unanimous")),
    ]
    digests = {adaptors.adaptor_digest(*case) for case in [(encoder, model, config), *changed]}
    model.digest = "other"
    assert len(digests | {adaptors.adaptor_digest(encoder, model, config)}) == 7
    benchmark = dataclasses.replace(config, test_cuts="elsewhere", kind="chat")
    assert adaptors.adaptor_digest(encoder, model, benchmark) == adaptors.adaptor_digest(encoder, model, config)


def test_the_small_model_is_trained_once_and_is_a_folder_that_loads(sets, tmp_path):
    config = toy_config(*sets)
    config = dataclasses.replace(config, language_model=dataclasses.replace(config.language_model, num_steps=2))
    model = adaptors.language_model(config, tmp_path)
    (folder,) = tmp_path.glob("[!.]*")
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in folder.glob("[!.]*")
    }
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert adaptors.language_model(config, tmp_path).digest == model.digest
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    named = dataclasses.replace(config.language_model, pretrained=str(folder))
    again = adaptors.language_model(dataclasses.replace(config, language_model=named), tmp_path / "unused")
    assert again.digest == model.digest and not (tmp_path / "unused").exists()
