# SPDX-License-Identifier: Apache-2.0
import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModel, BertConfig, BertForMaskedLM, GPT2Config, GPT2Model, RobertaConfig, RobertaModel

from icefall_alp.config import TextTowerConfig
from icefall_alp.models import text_passes
from icefall_alp.models.text_encoder import TextEncoder, bert_config
from icefall_alp.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("same_random_numbers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def encoder(sentencepiece_path):
    config = TextTowerConfig(
        tokenizer=str(sentencepiece_path), hidden_size=16, num_layers=2, num_heads=2, feedforward_dim=32
    )
    return TextEncoder.build(config)


@pytest.fixture(params=["bert", "roberta"])
def pretrained(request, tmp_path, bert_tokenizer_folder):
    """A folder with weights and tokenizer, and the model it was written from."""
    shutil.copytree(bert_tokenizer_folder, tmp_path, dirs_exist_ok=True)
    if request.param == "bert":
        whole = BertForMaskedLM(BertConfig(vocab_size=60, max_position_embeddings=40, **SMALL))
        model = whole.bert
    else:
        whole = model = RobertaModel(RobertaConfig(vocab_size=60, max_position_embeddings=41, pad_token_id=0, **SMALL))
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    whole.save_pretrained(tmp_path)
    return tmp_path, model.eval()


def test_a_pretrained_tower_is_the_mean_of_the_same_transformer(pretrained, captions):
    folder, model = pretrained
    encoder = TextEncoder.build(TextTowerConfig(pretrained=str(folder), max_text_tokens=40, dropout=0.2)).eval()
    assert encoder.transformer.config.hidden_dropout_prob == 0.2
    vectors = encoder(captions)
    assert vectors.shape == (len(captions), encoder.output_dim)
    for caption, vector in zip(captions, vectors, strict=True):
        ids, _, _ = encoder.tokenizer.encode([caption], 40)
        torch.testing.assert_close(vector, model(ids).last_hidden_state[0].mean(dim=0), atol=1e-5, rtol=1e-5)


def test_more_tokens_than_positions_are_refused(pretrained):
    with pytest.raises(UserError, match="max_text_tokens 41 is more than its 40 positions"):
        TextEncoder.build(TextTowerConfig(pretrained=str(pretrained[0]), max_text_tokens=41))


def test_a_tokenizer_with_more_pieces_than_weights_is_refused(pretrained, sentencepiece_path):
    config = TextTowerConfig(pretrained=str(pretrained[0]), tokenizer=str(sentencepiece_path), max_text_tokens=40)
    with pytest.raises(UserError, match="the weights 60; use the folder's own"):
        TextEncoder.build(config)


def test_another_architecture_is_refused(tmp_path, bert_tokenizer_folder):
    GPT2Model(GPT2Config(vocab_size=60, n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="a gpt2 model; this tower takes bert, roberta"):
        TextEncoder.build(TextTowerConfig(pretrained=str(tmp_path), tokenizer=str(bert_tokenizer_folder)))


def test_a_caption_does_not_depend_on_its_batch(encoder, captions):
    encoder.eval()
    alone = torch.cat([encoder([caption]) for caption in captions])
    torch.testing.assert_close(encoder(captions), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("together", [1, 2, 3, 1 << 30])
def test_a_caption_does_not_depend_on_how_many_go_together(encoder, captions, monkeypatch, together):
    encoder.eval()
    alone = torch.cat([encoder([caption]) for caption in captions])
    monkeypatch.setattr(text_passes, "TOGETHER", together)
    torch.testing.assert_close(encoder(captions), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("device", "passes"), [("cpu", 16), ("meta", 4)])
def test_a_gpu_launches_few_large_passes_and_a_cpu_stays_in_its_cache(encoder, monkeypatch, device, passes):
    sizes = []

    def tokens(ids, lens):
        sizes.append(len(ids))
        return ids.new_zeros(*ids.shape, 16)

    monkeypatch.setattr(encoder, "encode_tokens", tokens)
    lens = 6 + torch.arange(512) % 35
    vectors = encoder.encode(torch.zeros(512, 40, dtype=torch.long, device=device), lens)
    assert vectors.shape == (512, 16) and sum(sizes) == 512 and len(sizes) == passes


def test_every_parameter_gets_a_gradient(encoder, captions):
    encoder(captions).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_cut_captions_are_counted(encoder, captions):
    encoder.max_tokens = 6
    ids, _, num_cut = encoder.tokenize(captions)
    assert ids.shape == (len(captions), 6) and num_cut == 4


def assert_saved_is_the_same(encoder, folder, captions):
    encoder.save(folder)
    again = TextEncoder.load(folder).eval()
    assert again(captions).equal(encoder.eval()(captions))
    assert again.max_tokens == encoder.max_tokens


def test_a_saved_tower_is_the_same(encoder, captions, tmp_path):
    assert_saved_is_the_same(encoder, tmp_path / "text", captions)


def test_a_saved_pretrained_tower_is_the_same(pretrained, captions, tmp_path):
    encoder = TextEncoder.build(TextTowerConfig(pretrained=str(pretrained[0]), max_text_tokens=40))
    assert_saved_is_the_same(encoder, tmp_path / "text", captions)


def test_the_default_is_bert_base_without_pooler():
    with torch.device("meta"):
        ours = AutoModel.from_config(
            bert_config(TextTowerConfig(), SimpleNamespace(vocab_size=30522, pad_id=0)), add_pooling_layer=False
        )
        theirs = AutoModel.from_config(BertConfig(), add_pooling_layer=False)
    shapes = {name: p.shape for name, p in ours.named_parameters()}
    assert shapes == {name: p.shape for name, p in theirs.named_parameters()}
    assert sum(p.numel() for p in ours.parameters()) == 108_891_648
