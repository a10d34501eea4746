# SPDX-License-Identifier: Apache-2.0
"""Batches of questions about clips, with the answers that an adaptor learns to give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icefall_alp.config import QuestionAnsweringConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import QuestionBatch
from icefall_alp.evaluation.air_bench import choice_prompt, right_letter
from icefall_alp.evaluation.encode import EncodedClips
from icefall_alp.evaluation.heads import HeadDataset
from icefall_alp.evaluation.questions import Item
from icefall_alp.models.audio_llm import AudioLLM

NUM_BUCKETS = 8  # questions of similar length share a batch


def asked(item: Item) -> str:
    """The question as it is put to a model."""
    return choice_prompt(item.text, item.choices) if item.choices else item.text


def target(item: Item) -> str:
    """What a model learns to answer: the letter of a choice, otherwise the answer itself."""
    return right_letter(item) if item.choices else item.answer


def question_stream(
    clips: EncodedClips, items: Sequence[Item], audio_llm: AudioLLM, config: QuestionAnsweringConfig
) -> TrainStream:
    """Endless batches of about `config.batch_size` questions; each question once an epoch, with its clip.

    Batches are measured in tokens, which the language model's step costs: in seconds, hundreds of questions about short
    clips would share one.
    """

    def make_batch(indices: np.ndarray, epoch: int) -> QuestionBatch:
        chosen = [items[i] for i in indices]
        frames, lens = clips.batch(np.array([item.clip for item in chosen]))
        questions, answers = [asked(item) for item in chosen], [target(item) for item in chosen]
        return QuestionBatch(frames, lens, questions, answers, [item.cut_id for item in chosen])

    lengths = np.array([_num_tokens(clips, item, audio_llm) for item in items], dtype=np.float64)
    plan = BatchPlan(lengths, config.batch_size * lengths.mean(), NUM_BUCKETS, config.seed)
    return TrainStream(HeadDataset(make_batch), plan)


def _num_tokens(clips: EncodedClips, item: Item, audio_llm: AudioLLM) -> int:
    """Length of a question's sequence: template, audio, question, answer; see `audio_llm`."""
    chat, question = audio_llm.language_model.chat, asked(item)
    text = *chat.prompt(question), chat.answer(question, target(item))
    return -(-len(clips.frames[item.clip]) // audio_llm.adaptor.stack) + sum(map(len, text))
