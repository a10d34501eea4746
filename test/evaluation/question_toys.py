# SPDX-License-Identifier: Apache-2.0
"""Clips whose spectrum tells what they are, with questions about it: multiple choice, free, yes or no."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lhotse import Features, MonoCut, SupervisionSegment

from icefall_alp.config import AdaptorConfig, LanguageModelConfig, QuestionAnsweringConfig, QuestionPart
from icefall_alp.data.captions import Question, question_dict
from icefall_alp.data.shards import ShardWriter, finish_shards

KINDS = ("dog", "rain", "bell")
SMALL_MODEL = LanguageModelConfig(
    dtype="float32", vocab_size=600, hidden_size=32, num_layers=2, num_heads=4, feedforward_dim=64, num_steps=200,
    batch_size=16, base_lr=0.1, max_text_tokens=200,
)  # fmt: skip


def write_question_shards(folder: Path, num_clips: int, prefix: str) -> Path:
    """A stage 2 folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(prefix))
    with ShardWriter(folder, 0) as writer:
        for i in range(num_clips):
            kind, num_frames = i % len(KINDS), int(rng.integers(20, 60))
            values = rng.normal(size=(num_frames, 80)).astype(np.float32)
            values[:, kind * 20 : kind * 20 + 20] += 3.0
            writer.add(question_cut(f"{prefix}:choice/{i}.wav", questions(i), num_frames), values)
        writer.finish("digest", [])
    finish_shards(folder, [])
    return folder


def questions(number: int) -> list[Question]:
    """The questions about clip `number`."""
    kind = KINDS[number % len(KINDS)]
    reference = f"There is a {kind}."
    return [
        Question("Which one is it?", (kind,), KINDS, "choice", f"c{number}"),
        Question("What is to be heard?", (kind, "noise", kind), (), "free", f"f{number}", reference),
    ]


def question_cut(cut_id: str, asked: list[Question], num_frames: int = 50) -> MonoCut:
    duration = num_frames / 100
    features = Features(
        type="kaldi-fbank", num_frames=num_frames, num_features=80, frame_shift=0.01, sampling_rate=16000, start=0,
        duration=duration, storage_type="shar", storage_path="", storage_key="",
    )  # fmt: skip
    custom = {"questions": [question_dict(question, "toy") for question in asked]}
    supervision = SupervisionSegment(cut_id, cut_id, 0, duration, custom=custom)
    return MonoCut(cut_id, 0, duration, 0, supervisions=[supervision], features=features, custom={"corpus": "toy"})


def toy_config(train: Path, test: Path, **changes) -> QuestionAnsweringConfig:
    settings = {
        "train_sets": (str(train),), "test_cuts": str(test), "language_model": SMALL_MODEL,
        "adaptor": AdaptorConfig(stack=4, hidden_size=64), "num_steps": 150, "base_lr": 0.1, "batch_size": 8,
        "max_answer_tokens": 6, "parts": (QuestionPart("which", "choice"),), "kind": "choice",
    }  # fmt: skip
    return QuestionAnsweringConfig(**{**settings, **changes})
