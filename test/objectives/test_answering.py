# SPDX-License-Identifier: Apache-2.0
"""The loss is that of the answers' tokens, and only what is to be trained moves."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.config import AdaptorConfig
from icefall_alp.data.datasets import QuestionBatch
from icefall_alp.models.audio_llm import Adaptor, AudioLLM, answer_logits
from icefall_alp.objectives.answering import AnsweringObjective, TextAnsweringObjective, blurred
from icefall_alp.utils.errors import UserError
from test.models.question_toys import small_model


class Frames(torch.nn.Module):
    def forward(self, features, feature_lens):
        return features, feature_lens


def batch_of(*answers):
    torch.manual_seed(3)
    questions = ["what is it?", "rain?"][: len(answers)]
    features, lens = torch.randn(len(answers), 5, 4), torch.tensor([5, 3])[: len(answers)]
    return QuestionBatch(features, lens, questions, list(answers), ["a", "b"][: len(answers)], ["a dog", ""])


@pytest.fixture
def objective():
    torch.manual_seed(4)
    return AnsweringObjective(Frames(), AudioLLM(Adaptor(4, 16, AdaptorConfig(stack=2)), small_model()))


def test_loss_is_the_sum_over_answer_tokens(objective):
    batch = batch_of("a dog", "yes it is raining")
    output = objective(batch)
    model = objective.audio_llm.language_model
    audio = objective.audio_llm.audio(batch.features, batch.feature_lens)
    total = count = 0.0
    for i in range(2):
        logits, targets = answer_logits(model, audio[i : i + 1], batch.questions[i : i + 1], batch.answers[i : i + 1])
        for row, wanted in zip(logits[0], targets[0].tolist(), strict=True):
            total -= float(torch.log_softmax(row, dim=-1)[wanted])
            count += 1
    assert float(output.count) == count == sum(len(model.chat.answer("?", answer)) for answer in batch.answers)
    assert float(output.total) == pytest.approx(total, rel=1e-5)


def test_only_the_adaptor_gets_a_gradient(objective):
    objective(batch_of("a dog", "no")).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.parameters())
    network = objective.audio_llm.language_model.network
    assert all(p.grad is None for p in network.parameters())
    assert {id(p) for p in network.parameters()}.isdisjoint(id(p) for p in objective.parameters())
    objective.train()
    assert not network.training


def test_a_sample_without_answer_tokens_is_an_error(objective):
    with pytest.raises(UserError, match="an empty answer"):
        objective(batch_of("a dog", ""))


def test_the_text_objective_trains_the_language_model_on_descriptions():
    model = small_model()
    model.network.requires_grad_(True)
    objective = TextAnsweringObjective(model)
    with_description = objective(batch_of("a dog", "no"))
    with_description.total.backward()
    assert all(parameter.grad is not None for parameter in model.network.parameters())
    batch = batch_of("a dog", "no")
    batch.descriptions = ["", ""]
    assert float(objective(batch).total.detach()) != float(with_description.total.detach())


def test_blurred_words_are_said_over_and_over_in_noise_no_louder_than_words():
    torch.manual_seed(0)
    words, clean = torch.eye(3, 8), 0
    for _ in range(400):
        out = blurred(words, 0.01)
        if torch.equal(out, words):
            clean += 1
            continue
        assert 4 <= len(out) <= 15 and len(out) % 3 == 0
        loudness = out.reshape(-1, 3, 8).diagonal(dim1=1, dim2=2)
        assert ((loudness > 0.25) & (loudness < 1.55)).all()
        assert float((out - words.repeat(len(out) // 3, 1) * loudness.mean()).abs().max()) < 0.1
    assert 60 < clean < 140


def test_without_a_description_there_is_nothing_or_noise_alone():
    torch.manual_seed(0)
    drawn = [blurred(torch.empty(0, 8), 0.5) for _ in range(400)]
    assert 150 < sum(len(out) == 0 for out in drawn) < 230
    assert all(4 <= len(out) <= 12 and out.abs().max() < 3 for out in drawn if len(out))


def test_words_are_blurred_in_training_only():
    model = small_model()
    objective, batch = TextAnsweringObjective(model), batch_of("a dog", "yes")
    torch.manual_seed(0)
    losses = {float(objective(batch).total) for _ in range(6)}
    assert len(losses) > 1
    objective.eval()
    assert len({float(objective(batch).total) for _ in range(3)}) == 1
