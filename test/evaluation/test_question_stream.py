# SPDX-License-Identifier: Apache-2.0
"""What is put to the model and what it learns from, in batches of so many tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from icefall_alp.evaluation.adaptors import training_items
from icefall_alp.evaluation.encode import EncodedClips, encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics
from icefall_alp.evaluation.question_stream import asked, question_stream, target
from icefall_alp.evaluation.questions import read_items
from icefall_alp.models.audio_llm import Adaptor, AudioLLM, answer_logits
from test.evaluation.question_toys import KINDS, question_cut, questions, toy_config, write_question_shards
from test.models.question_toys import small_model


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptors")
    return write_question_shards(folder / "train", 12, "train"), write_question_shards(folder / "test", 6, "test")


def test_choices_are_asked_as_the_benchmark_does_and_answered_by_letter(sets):
    _, items, num_left_out = training_items(toy_config(*sets))
    choice, free = items[2 * 1], items[2 * 1 + 1]  # of clip 1, which is rain
    assert asked(choice).endswith("Which one is it?\nA. dog\nB. rain\nC. bell")
    assert (target(choice), asked(free), target(free)) == (
        "B",
        "What is to be heard?",
        "rain",
    )
    assert num_left_out == 0 and len(items) == 24


def stream_of(clips, config):
    model = small_model()
    model.chat.max_tokens = 500
    audio_llm = AudioLLM(Adaptor(clips.dim, model.width, config.adaptor), model)
    items, _ = read_items(clips.cuts, "majority")
    return question_stream(clips, items, audio_llm, config), items, audio_llm


def test_batches_hold_each_question_once_an_epoch_with_its_own_clip(sets):
    config = toy_config(*sets)
    clips = encode_clips(LogMelStatistics(), sets[0], 10.0)
    stream, items, _ = stream_of(clips, config)
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
    stream, items, audio_llm = stream_of(EncodedClips(frames, cuts, torch.zeros(8), torch.ones(8)), config)
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
