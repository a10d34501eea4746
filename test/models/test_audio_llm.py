# SPDX-License-Identifier: Apache-2.0
"""The adaptor against its formula, the language model's input against sequences put together by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from icefall_alp.config import AdaptorConfig
from icefall_alp.models.audio_llm import IGNORED, Adaptor, AudioLLM, answer_logits, embed_text, generate_answers
from icefall_alp.utils.errors import UserError
from test.models.question_toys import small_model

QUESTIONS, ANSWERS = ["what is it?", "is there rain in what is to be heard?"], ["a dog", "no, there is none at all"]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def adaptor():
    torch.manual_seed(1)
    return Adaptor(6, 16, AdaptorConfig(stack=3, hidden_size=8))


def audio_of(model, *lens):
    torch.manual_seed(2)
    return [torch.randn(length, model.width) * 0.1 for length in lens]


def test_adaptor_stacks_standardises_and_maps(adaptor):
    frames = torch.randn(1, 7, 6)
    mean, deviation = torch.randn(6), torch.rand(6) + 0.5
    adaptor.standardize(mean, deviation)
    out, lens = adaptor(frames, torch.tensor([7]))
    rows = F.pad((frames[0] - mean) / deviation, (0, 0, 0, 2)).reshape(3, 18)
    first, _, last = adaptor.layers
    expected = F.gelu(rows @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(out[0], expected)
    assert lens.tolist() == [3] and out.shape == (1, 3, 16)


def test_adaptor_does_not_see_padding(adaptor):
    adaptor.standardize(torch.ones(6), torch.ones(6))
    frames = torch.randn(1, 4, 6)
    padded = torch.cat([frames, torch.full((1, 5, 6), 9.0)], dim=1)
    alone, lens = adaptor(frames, torch.tensor([4]))
    batched, same = adaptor(padded, torch.tensor([4]))
    assert lens.tolist() == same.tolist() == [2]
    torch.testing.assert_close(batched[:, :2], alone)


def test_the_checkpoint_is_the_adaptor_alone(adaptor, model, tmp_path):
    audio_llm = AudioLLM(adaptor, model)
    assert {name.split(".")[0] for name in audio_llm.state_dict()} == {"adaptor"}
    assert sum(p.numel() for p in audio_llm.parameters()) == 18 * 8 + 8 + 8 * 16 + 16
    adaptor.save(tmp_path / "kept")
    other = Adaptor(6, 16, AdaptorConfig(stack=3, hidden_size=8))
    other.load(tmp_path / "kept")
    torch.testing.assert_close(other.state_dict(), adaptor.state_dict(), atol=0, rtol=0)
    with pytest.raises(UserError, match="not the weights of this adaptor"):
        Adaptor(5, 16, AdaptorConfig(stack=3, hidden_size=8)).load(tmp_path / "kept")


def test_audio_stands_in_the_users_turn_and_only_the_answer_is_predicted(model):
    audio = audio_of(model, 5, 0)
    logits, targets = answer_logits(model, audio, QUESTIONS, ANSWERS)
    embed = model.network.get_input_embeddings()
    for i, (clip, question, answer) in enumerate(zip(audio, QUESTIONS, ANSWERS, strict=True)):
        tokenizer = model.chat.tokenizer
        text = f"<|im_start|>user\n@@\n{question}<|im_end|>\n<|im_start|>assistant\n"
        before, after = (tokenizer(part, add_special_tokens=False).input_ids for part in text.split("@@"))
        ids = tokenizer(f"{answer}<|im_end|>", add_special_tokens=False).input_ids
        whole = torch.cat([embed(torch.tensor(before)), clip, embed(torch.tensor([*after, *ids]))])
        alone = model.network(inputs_embeds=whole[None]).logits[0, -len(ids) - 1 : -1]
        torch.testing.assert_close(logits[i, -len(ids) :], alone, atol=1e-5, rtol=1e-4)
        assert targets[i, -len(ids) :].tolist() == ids
        assert (targets[i, : -len(ids)] == IGNORED).all()


def test_an_answer_does_not_depend_on_its_batch(model):
    audio = audio_of(model, 9, 2)
    together = generate_answers(model, audio, QUESTIONS, 8)
    alone = [generate_answers(model, [clip], [question], 8)[0] for clip, question in zip(audio, QUESTIONS, strict=True)]
    assert together == alone


def test_answers_are_greedy_and_end_with_the_turn(model):
    (clip,) = audio_of(model, 3)
    before, after = model.chat.prompt(QUESTIONS[0])
    embed = model.network.get_input_embeddings()
    ids: list[int] = []
    for _ in range(8):
        tokens = embed(torch.tensor([*before, *after, *ids]))
        whole = torch.cat([tokens[: len(before)], clip, tokens[len(before) :]])
        ids.append(int(model.network(inputs_embeds=whole[None]).logits[0, -1].argmax()))
        if ids[-1] == model.chat.end_id:
            break
    assert generate_answers(model, [clip], QUESTIONS[:1], 8) == [model.chat.decode(ids)]


def test_what_the_audio_is_changes_the_answers_probabilities(model):
    logits = [answer_logits(model, audio_of(model, n), QUESTIONS[:1], ANSWERS[:1])[0] for n in (0, 4)]
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_words_in_the_audios_place_are_their_own_embeddings(model):
    described, nothing = embed_text(model, ["a dog", ""])
    ids = model.chat.tokenizer("a dog", add_special_tokens=False).input_ids
    torch.testing.assert_close(described, model.network.get_input_embeddings().weight[ids])
    assert nothing.shape == (0, model.width)


def test_an_answer_without_tokens_is_an_error(model):
    with pytest.raises(UserError, match="an empty answer"):
        answer_logits(model, audio_of(model, 2, 2), QUESTIONS, ["a dog", " "])
