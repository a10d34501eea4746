# SPDX-License-Identifier: Apache-2.0
"""Answering objective: cross-entropy of the answers' tokens, and of nothing else (paper, A.4).

Audio objective: frozen frames through the adaptor in front of a frozen language model. Text objective: the small
language model itself, which learns from the questions' text what the pretrained one of the paper knows already.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.models.audio_llm import IGNORED, AudioLLM, answer_logits, embed_text
from icefall_alp.models.language_model import LanguageModel
from icefall_alp.objectives.base import LossOutput, Objective

CLEAN_SHARE = 0.25  # of the descriptions that the small model learns from; see `blurred`
SILENT_SHARE = 0.3  # of the other questions without a description: nothing stands in the audio's place
POSITIONS = (4, 13)  # as many as a few seconds of audio have
LOUDNESS = (0.3, 1.5)


class AnsweringObjective(Objective):
    """Trains the adaptor.

    Args:
        audio_encoder: features to frames, frozen.
        audio_llm: adaptor and language model.
    """

    def __init__(self, audio_encoder: nn.Module, audio_llm: AudioLLM) -> None:
        super().__init__(audio_encoder)
        self.audio_llm = audio_llm

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a batch with `features`, `feature_lens`, `questions` and `answers`, counted in answer tokens."""
        audio = self.audio_llm.audio(*self.audio_encoder(batch.features, batch.feature_lens))
        return _answer_loss(*answer_logits(self.audio_llm.language_model, audio, batch.questions, batch.answers))


class TextAnsweringObjective(Objective):
    """Trains a language model on text: a description stands in the place of the audio, or nothing does.

    Args:
        language_model: what is trained; it has no audio encoder.
    """

    def __init__(self, language_model: LanguageModel) -> None:
        super().__init__(nn.Identity())
        self.network = language_model.network
        self._language_model = (language_model,)

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a batch with `descriptions`, `questions` and `answers`, counted in answer tokens."""
        (model,) = self._language_model
        words = embed_text(model, batch.descriptions)
        if self.training:
            scale = float(model.network.get_input_embeddings().weight.detach().std())
            words = [blurred(own, scale) for own in words]
        return _answer_loss(*answer_logits(model, words, batch.questions, batch.answers))


def blurred(words: Tensor, scale: float) -> Tensor:
    """Words as an adaptor that has hardly learnt anything may render them.

    A model that has read nothing but clean words can be hard to teach by embeddings that are none. So some descriptions
    are left as they are, others are said over and over, loudly or softly, in noise, and where there is none there may
    be noise alone.

    Args:
        words: (U, D) embeddings; U may be 0.
        scale: deviation of the model's embeddings.

    Returns:
        (U', D).
    """
    if torch.rand(()) < CLEAN_SHARE or (not len(words) and torch.rand(()) < SILENT_SHARE):
        return words
    least = int(torch.randint(*POSITIONS, ()))
    times = math.ceil(least / len(words)) if len(words) else 0
    loudness = torch.empty(()).uniform_(*LOUDNESS)
    noise = torch.randn(times * len(words) or least, words.size(1)) * (scale * torch.rand(()))
    said = loudness * words.repeat(times, 1) if times else 0.0
    return noise.to(words) + said


def _answer_loss(logits: Tensor, targets: Tensor) -> LossOutput:
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    of_answer = targets != IGNORED
    count = of_answer.sum().to(total)
    right = ((logits.argmax(dim=-1) == targets) & of_answer).sum().to(total)
    return LossOutput(total, count, {"token_accuracy": torch.stack([right, count]).detach()})
