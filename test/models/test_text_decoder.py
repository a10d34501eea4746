# SPDX-License-Identifier: Apache-2.0
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BartConfig, BartForConditionalGeneration, BartModel

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.text_decoder import TextDecoder, decoder_sizes
from icefall_alp.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("same_random_numbers")

FRAME_LENS = torch.tensor([9, 4, 7, 9, 1])


def frames(dim, num_clips=5):
    return torch.randn(num_clips, 9, dim), FRAME_LENS[:num_clips]


def bart_config(**changes):
    sizes = {
        "vocab_size": 60, "max_position_embeddings": 40, "d_model": 16, "decoder_layers": 3, "encoder_layers": 1,
        "decoder_attention_heads": 4, "encoder_attention_heads": 2, "decoder_ffn_dim": 24, "encoder_ffn_dim": 8,
    }  # fmt: skip
    return BartConfig(**{**sizes, **changes})


def write_bart(folder, tokenizer_folder, config, model_class=BartForConditionalGeneration):
    bart = model_class(config).eval()
    for name, parameter in bart.named_parameters():
        is_gain = "norm" in name and name.endswith("weight")  # with small ones no input would matter
        nn.init.normal_(parameter, mean=float(is_gain), std=0.3)
    if model_class is BartForConditionalGeneration:
        bart.final_logits_bias.normal_()
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
    bart.save_pretrained(folder)
    return bart


@pytest.fixture
def decoder(sentencepiece_path):
    """Random weights large enough that every input matters visibly."""
    config = TextTowerConfig(
        tokenizer=str(sentencepiece_path), hidden_size=16, num_layers=2, num_heads=4, feedforward_dim=32,
        max_text_tokens=24,
    )  # fmt: skip
    decoder = TextDecoder.build(config, encoder_dim=12).eval()
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.4)
    return decoder


@pytest.fixture
def spoken(decoder, captions):
    ids, lens, _ = decoder.tokenize(captions)
    return ids, lens, decoder.memory(*frames(12))


def masked_inputs(decoder, rows=5):
    return torch.full((rows, decoder.sizes.max_tokens), decoder.tokenizer.mask_id)


@pytest.mark.parametrize("changes", [{}, {"scale_embedding": True, "decoder_start_token_id": 0}])
def test_logits_equal_those_of_transformers(changes, tmp_path, bart_tokenizer_folder, captions):
    bart = write_bart(tmp_path, bart_tokenizer_folder, bart_config(**changes))
    decoder = TextDecoder.build(TextTowerConfig(pretrained=str(tmp_path), max_text_tokens=40), 16).eval()
    ids, _, _ = decoder.tokenize(captions)
    encoder_out, encoder_out_lens = frames(16)
    start = torch.full((len(ids), 1), changes.get("decoder_start_token_id", 2))
    theirs = bart(
        encoder_outputs=(encoder_out,),
        attention_mask=(torch.arange(9) < encoder_out_lens[:, None]).long(),
        decoder_input_ids=torch.cat([start, ids[:, :-1]], dim=1),
    ).logits
    ours = decoder.project(decoder(ids, decoder.memory(encoder_out, encoder_out_lens)))
    assert (ours - theirs).abs().max() < 1e-5
    assert theirs.std() > 0.5
    at_once = decoder.project(decoder.at_once(decoder.memory(encoder_out, encoder_out_lens), ids.size(1)))
    theirs = bart(
        encoder_outputs=(encoder_out,),
        attention_mask=(torch.arange(9) < encoder_out_lens[:, None]).long(),
        decoder_input_ids=masked_inputs(decoder),
        decoder_attention_mask=torch.zeros(5, 1, 40, 40),
    ).logits[:, : ids.size(1)]
    assert (at_once - theirs).abs().max() < 1e-5
    assert (at_once - ours).abs().max() > 0.5


def test_a_folder_without_language_model_head_loads_too(tmp_path, bart_tokenizer_folder):
    bart = write_bart(tmp_path, bart_tokenizer_folder, bart_config(), BartModel)
    decoder = TextDecoder.build(TextTowerConfig(pretrained=str(tmp_path), max_text_tokens=40), 16)
    assert decoder.embed_tokens.weight.equal(bart.shared.weight)
    assert not decoder.final_logits_bias.any()


def test_other_folders_are_refused(tmp_path, bart_tokenizer_folder):
    config = TextTowerConfig(pretrained=str(tmp_path), max_text_tokens=41)
    with pytest.raises(UserError, match="no Hugging Face tokenizer"):
        TextDecoder.build(config, 16)
    write_bart(tmp_path, bart_tokenizer_folder, bart_config())
    with pytest.raises(UserError, match="max_text_tokens 41 is more than its 40 positions"):
        TextDecoder.build(config, 16)
    write_bart(tmp_path, bart_tokenizer_folder, bart_config(activation_function="relu"))
    with pytest.raises(UserError, match="its activation is relu"):
        TextDecoder.build(config, 16)


def test_autoregressive_rows_do_not_see_the_future(decoder, spoken):
    ids, _, memory = spoken
    before = decoder(ids, memory)
    for position in range(1, ids.size(1)):
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 7) % 100
        moved = (decoder(changed, memory) - before).abs().amax(dim=2) > 1e-5
        assert not moved[:, : position + 1].any()
        assert moved[:, position + 1 :].all()


def test_parallel_rows_hear_the_audio_and_see_no_length(decoder, spoken):
    ids, _, memory = spoken
    before = decoder.at_once(memory, ids.size(1))
    for num_tokens in (1, 4, decoder.sizes.max_tokens):
        other = decoder.at_once(memory, num_tokens)[:, : ids.size(1)]
        torch.testing.assert_close(other, before[:, : other.size(1)], atol=1e-5, rtol=1e-5)
    other = decoder.at_once(decoder.memory(*frames(12)), ids.size(1))
    assert ((other - before).abs().amax(dim=2) > 1e-3).all()


def test_every_parallel_position_sees_every_other(decoder, spoken):
    _, _, memory = spoken
    before = decoder.at_once(memory, 7)
    # the row of the last mask's position: nothing else changes
    decoder.embed_positions.weight.data[2 + decoder.sizes.max_tokens - 1] += torch.randn(16)
    moved = (decoder.at_once(memory, 7) - before).abs().amax(dim=2)
    assert (moved > 1e-4).all()


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_clip_does_not_depend_on_padding_or_batch_mates(decoder, captions, is_parallel):
    def predict(ids, *audio):
        memory = decoder.memory(*audio)
        return decoder.at_once(memory, ids.size(1)) if is_parallel else decoder(ids, memory)

    ids, lens, _ = decoder.tokenize(captions)
    encoder_out, encoder_out_lens = frames(12)
    together = predict(ids, encoder_out, encoder_out_lens)
    for n, (length, num_frames) in enumerate(zip(lens, encoder_out_lens, strict=True)):
        alone = predict(ids[n : n + 1, :length], encoder_out[n : n + 1, :num_frames], encoder_out_lens[n : n + 1])
        torch.testing.assert_close(together[n, :length], alone[0], atol=1e-5, rtol=1e-5)


class SquareSizes(TorchDispatchMode):
    """Notes operations that make a tensor of as many elements as some number of matrices U x U."""

    def __init__(self, *lengths):
        super().__init__()
        self.lengths, self.found = lengths, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.numel() and any(x.numel() % u**2 == 0 for u in self.lengths):
                self.found.append((str(operation), tuple(x.shape)))
        return result


def test_no_matrix_over_pairs_of_tokens_is_made(decoder):
    longest, length = 37, 29  # primes that divide no other size here
    decoder.sizes = replace(decoder.sizes, max_tokens=longest)
    ids = torch.randint(5, 100, (11, length))
    with SquareSizes(longest, length) as squares:
        memory = decoder.train().memory(torch.randn(11, 9, 12), torch.full((11,), 9))
        (decoder(ids, memory).sum() + decoder.at_once(memory, length).sum()).backward()
    assert squares.found == []
    with squares:
        decoder.embed_tokens.weight.new_zeros(11, 1, longest, longest)
    assert [shape for _, shape in squares.found] == [(11, 1, longest, longest)]


def test_steps_with_a_cache_equal_one_pass(decoder, spoken):
    ids, _, memory = spoken
    inputs = torch.cat([torch.full((5, 1), decoder.sizes.start_id), ids[:, :-1]], dim=1)
    states, past = decoder.step(inputs[:, :2], memory, None)
    pieces = [states]
    for position in range(2, inputs.size(1)):
        states, past = decoder.step(inputs[:, position : position + 1], memory, past)
        pieces.append(states)
    torch.testing.assert_close(torch.cat(pieces, dim=1), decoder(ids, memory), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="2 tokens after a past: give one at a time"):
        decoder.step(inputs[:, :2], memory, past)


def test_every_parameter_gets_a_gradient_in_either_mode(decoder, captions):
    ids, _, _ = decoder.tokenize(captions)
    for predict in (lambda memory: decoder(ids, memory), lambda memory: decoder.at_once(memory, 7)):
        decoder.train().zero_grad()
        decoder.project(predict(decoder.memory(*frames(12)))).square().sum().backward()
        assert [name for name, p in decoder.named_parameters() if p.grad is None] == []


def test_a_saved_decoder_is_the_same(decoder, spoken, tmp_path):
    decoder.save(tmp_path / "decoder")
    again = TextDecoder.load(tmp_path / "decoder").eval()
    assert again.sizes == decoder.sizes
    assert again.project(again(spoken[0], spoken[2])).equal(decoder.project(decoder(spoken[0], spoken[2])))


def test_frames_of_the_decoder_width_need_no_bridge(sentencepiece_path):
    config = TextTowerConfig(tokenizer=str(sentencepiece_path), hidden_size=16, num_layers=1, num_heads=2)
    assert list(TextDecoder.build(config, 16).bridge.parameters()) == []
    assert TextDecoder.build(config, 24).bridge.weight.shape == (16, 24)


def test_the_default_is_the_decoder_of_bart_base():
    bart_base = BartConfig(
        d_model=768, encoder_layers=6, decoder_layers=6, encoder_attention_heads=12, decoder_attention_heads=12,
        encoder_ffn_dim=3072, decoder_ffn_dim=3072,
    )  # fmt: skip
    tokenizer = SimpleNamespace(vocab_size=50265, eos_id=2)
    with torch.device("meta"):
        ours = TextDecoder(decoder_sizes(TextTowerConfig(num_layers=6), tokenizer, 768), tokenizer)
        theirs = BartModel(bart_base).decoder
    shapes = {name: p.shape for name, p in ours.named_parameters()}
    assert shapes == {name: p.shape for name, p in theirs.named_parameters()}
    assert sum(p.numel() for p in ours.parameters()) == 96_103_680


def test_a_saved_decoder_serves_frames_of_another_width(decoder, captions, tmp_path):
    decoder.save(tmp_path / "decoder")
    config = TextTowerConfig(pretrained=str(tmp_path / "decoder"), dropout=0.3, max_text_tokens=30)
    other = TextDecoder.build(config, encoder_dim=7)
    assert (other.sizes.encoder_dim, other.sizes.dropout, other.sizes.max_tokens) == (7, 0.3, 30)
    theirs, ours = decoder.state_dict(), other.state_dict()
    assert ours["bridge.weight"].shape == (16, 7)
    for name in set(theirs) - {"bridge.weight", "bridge.bias"}:
        assert ours[name].equal(theirs[name]), name
    assert isinstance(TextDecoder.build(config, encoder_dim=16).bridge, nn.Identity)
    with pytest.raises(UserError, match="max_text_tokens 2000 is more than its 1024 positions"):
        TextDecoder.build(TextTowerConfig(pretrained=str(tmp_path / "decoder"), max_text_tokens=2000), 7)


def test_captions_of_one_clip_share_its_memory(decoder, captions):
    encoder_out, lens = frames(12)
    memory = decoder.memory(encoder_out, lens)
    ids, _, _ = decoder.tokenize(captions * 2)
    ids = ids.unflatten(0, (2, 5)).transpose(0, 1).flatten(0, 1)[:, :4]  # two captions for each clip, in a row
    together, _ = decoder.step(ids, memory, None)
    repeated = decoder.memory(encoder_out.repeat_interleave(2, 0), lens.repeat_interleave(2, 0))
    alone, _ = decoder.step(ids, repeated, None)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
