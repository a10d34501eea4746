# SPDX-License-Identifier: Apache-2.0
"""What is put to the model and what it learns from; adaptors and small models are made once, and known by digest."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from icefall_alp.config import AdaptorConfig
from icefall_alp.evaluation import adaptors
from icefall_alp.evaluation.encode import EncodedClips, encode_clips
from icefall_alp.evaluation.encoders import FrozenEncoder, LogMelStatistics
from icefall_alp.evaluation.questions import read_items
from icefall_alp.models.audio_llm import Adaptor, AudioLLM, answer_logits
from icefall_alp.utils.errors import UserError
from test.evaluation.question_toys import KINDS, question_cut, questions, toy_config, write_question_shards
from test.models.question_toys import small_model


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptors")
    return write_question_shards(folder / "train", 12, "train"), write_question_shards(folder / "test", 6, "test")


@pytest.fixture
def encoder():
    return FrozenEncoder("log_mel", LogMelStatistics().eval(), "encoder digest")


def test_choices_are_asked_as_the_benchmark_does_and_answered_by_letter(sets):
    _, items, num_left_out = adaptors.training_items(toy_config(*sets))
    choice, free = items[2 * 1], items[2 * 1 + 1]  # of clip 1, which is rain
    assert adaptors.asked(choice).endswith("Which one is it?\nA. dog\nB. rain\nC. bell")
    assert (adaptors.target(choice), adaptors.asked(free), adaptors.target(free)) == (
        "B",
        "What is to be heard?",
        "rain",
    )
    assert num_left_out == 0 and len(items) == 24


def test_several_training_sets_are_one(sets):
    config = dataclasses.replace(toy_config(*sets), train_sets=tuple(map(str, sets)))
    cuts, items, _ = adaptors.training_items(config)
    assert len(cuts) == 18 and len(items) == 36 and cuts[items[-1].clip].id == items[-1].cut_id
    with pytest.raises(UserError, match="name at least one folder"):
        adaptors.training_items(dataclasses.replace(config, train_sets=()))


def question_stream(clips, config):
    model = small_model()
    model.chat.max_tokens = 500
    audio_llm = AudioLLM(Adaptor(clips.dim, model.width, config.adaptor), model)
    items, _ = read_items(clips.cuts, "majority")
    return adaptors.question_stream(clips, items, audio_llm, config), items, audio_llm


def test_batches_hold_each_question_once_an_epoch_with_its_own_clip(sets):
    config = toy_config(*sets)
    clips = encode_clips(LogMelStatistics(), sets[0], 10.0)
    stream, items, _ = question_stream(clips, config)
    batches = [batch for batch, _ in zip(stream.iterate(), range(len(stream.plan)), strict=False)]
    assert sum(len(batch.questions) for batch in batches) == len(items)
    place = {cut.id: i for i, cut in enumerate(clips.cuts)}
    for batch in batches:
        for row, (cut_id, answer) in enumerate(zip(batch.cut_ids, batch.answers, strict=True)):
            torch.testing.assert_close(batch.features[row, 0], clips.frames[place[cut_id]][0].float())
            assert answer in (KINDS[place[cut_id] % 3], "ABC"[place[cut_id] % 3])


def test_no_batch_of_short_and_long_clips_exceeds_the_budget_of_tokens(sets):
    num_frames = [3000, *[12] * 9] * 4
    cuts = [question_cut(f"train:{i}", questions(i), count) for i, count in enumerate(num_frames)]
    frames = [torch.randn(count // 4, 8).half() for count in num_frames]
    config = toy_config(*sets)
    stream, items, audio_llm = question_stream(EncodedClips(frames, cuts, torch.zeros(8), torch.ones(8)), config)
    padded = []
    audio_llm.language_model.network.register_forward_pre_hook(
        lambda _, given, named: padded.append(named["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )

    def hear(indices):
        batch = stream.dataset[0, indices]
        audio = audio_llm.audio(batch.features, batch.feature_lens)
        answer_logits(audio_llm.language_model, audio, batch.questions, batch.answers)

    for i in range(len(items)):
        hear(np.array([i]))
    budget = config.batch_size * np.mean(padded)
    padded.clear()
    for indices in stream.plan.epoch(0):
        hear(indices)
    assert 0.5 * budget < max(padded) <= budget


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
