# SPDX-License-Identifier: Apache-2.0
"""Retrieval finds clips by what their captions say, and counts every caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icefall_alp.config import RetrievalConfig
from icefall_alp.evaluation import retrieval
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics, PrecomputedFrames
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective


def test_clips_of_the_right_kind_come_first(toy_task, toy_tower, log_mel):
    config = RetrievalConfig(
        train_cuts=toy_task["train_cuts"],
        test_cuts=toy_task["test_cuts"],
        text_encoder=toy_tower,
        embedding_dim=16,
        max_duration=8.0,
        num_steps=80,
        base_lr=0.03,
    )
    scores = {s.metric: s for s in retrieval.score(log_mel, config, Path(), [""])}
    assert set(scores) == {metric for _, metric in retrieval.numbers(config)}
    # five of the 20 clips are of each kind, and nothing but the kind can be told
    assert scores["T2A R@5"].value > 70.0
    assert scores["T2A R@5"].chance == pytest.approx(25.0)
    assert scores["A2T R@10"].value > 60.0
    assert scores["A2T R@1"].chance == pytest.approx(5.0)
    assert scores["A2T R@1"].num_scored == 20


def test_similarity_is_caption_by_clip(toy_task, toy_tower):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    objective = ContrastiveObjective(PrecomputedFrames(160), TextEncoder.build(toy_tower), 8, 0.07).eval()
    texts = ["a dog", "some rain", "a bell"]
    similarity = retrieval.caption_similarity(objective, clips, texts)
    assert similarity.shape == (3, 20)
    frames, lens = clips.batch(np.array([7]))
    expected = (objective.embed_text(["a bell"]) @ objective.embed_audio(frames, lens).T).item()
    assert similarity[2, 7] == pytest.approx(expected, abs=1e-5)
