# SPDX-License-Identifier: Apache-2.0
"""Retrieval finds clips by what their captions say, and counts every caption; tuned, and as it was pretrained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icefall_alp.config import RetrievalConfig
from icefall_alp.evaluation import retrieval
from icefall_alp.evaluation.encode import captions_of_clips, encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics, PrecomputedFrames
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective


@pytest.fixture
def config(toy_task, toy_tower):
    return RetrievalConfig(
        train_cuts=toy_task["train_cuts"],
        test_cuts=toy_task["test_cuts"],
        text_encoder=toy_tower,
        embedding_dim=16,
        batch_size=20,
        num_steps=80,
        base_lr=0.03,
    )


def test_clips_of_the_right_kind_come_first(config, log_mel):
    scores = {s.metric: s for s in retrieval.score(log_mel, config, Path(), [""])}
    assert list(scores) == [metric for _, metric in retrieval.numbers(config)]
    # five of the 20 clips are of each kind, and nothing but the kind can be told
    assert scores["T2A R@5"].value > 70.0
    assert scores["T2A R@5"].chance == pytest.approx(25.0)
    assert scores["T2A median rank"].value <= 5.0 and scores["T2A median rank"].chance == 10.0
    assert scores["A2T R@10"].value > 60.0
    assert scores["A2T R@1"].chance == pytest.approx(5.0)
    assert scores["A2T mAP@10"].value > 2 * scores["A2T mAP@10"].chance
    assert scores["A2T R@1"].num_scored == 20 and scores["captions cut"].value == 0.0


def test_one_caption_per_clip_is_n_by_n(config, log_mel):
    config = replace(config, captions_per_clip=1, num_steps=1)
    scores = {s.metric: s for s in retrieval.score(log_mel, config, Path(), [""])}
    for k in (1, 5, 10):
        assert scores[f"T2A R@{k}"].chance == scores[f"A2T R@{k}"].chance == pytest.approx(5.0 * k)


def test_untuned_is_what_the_towers_beside_the_encoder_say(config, with_text_tower):
    scores = {s.metric: s.value for s in retrieval.score_untuned(with_text_tower, config, Path(), [""])}
    objective = ContrastiveObjective.load_text_side(with_text_tower.text_tower, PrecomputedFrames(160)).eval()
    clips = encode_clips(LogMelStatistics(), Path(config.test_cuts), 10.0)
    objective.requires_grad_(False)
    audio = [objective.embed_audio(*clips.batch(np.array([i])))[0] for i in range(20)]
    within_5 = []
    for clip, own in enumerate(captions_of_clips(clips)):
        for text in own:
            similarity = [float(objective.embed_text([text])[0] @ vector) for vector in audio]
            within_5.append(sum(value >= similarity[clip] for value in similarity) <= 5)
    assert scores["T2A R@5"] == pytest.approx(100 * np.mean(within_5), abs=2.0)  # two of 100 may tie but for rounding


def test_embeddings_are_those_of_the_objective_and_equal_texts_tie(toy_task, toy_tower):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    objective = ContrastiveObjective(PrecomputedFrames(160), TextEncoder.build(toy_tower), 8, 0.07).eval()
    texts = ["a dog", "some rain that is heard", "a bell", "a dog"]
    vectors = retrieval.embed_texts(objective, texts)
    assert vectors.shape == (4, 8) and vectors[0].equal(vectors[3])
    np.testing.assert_allclose(vectors[2:3], objective.embed_text(["a bell"]).detach(), atol=1e-5)
    frames, lens = clips.batch(np.array([7]))
    np.testing.assert_allclose(
        retrieval.embed_clips(objective, clips)[7:8], objective.embed_audio(frames, lens).detach(), atol=1e-5
    )
