# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.models.text_tower import initial_std, read_pretrained, read_tower, restore, save_tower, tower_tokenizer
from icefall_alp.models.tokenizer import load_tokenizer
from icefall_alp.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("same_random_numbers")


@pytest.fixture
def saved(tmp_path, sentencepiece_path):
    module = nn.Linear(3, 2)
    save_tower(tmp_path / "tower", module, load_tokenizer(sentencepiece_path), {"width": 3})
    return tmp_path / "tower", module


def test_a_folder_holds_sizes_weights_and_tokenizer(saved):
    folder, module = saved
    sizes, tokenizer, weights = read_tower(folder)
    assert sizes == {"width": 3}
    assert tokenizer.encode(["rain"], 8)[0][0, 0] == tokenizer.bos_id
    again = nn.Linear(3, 2)
    restore(again, weights, folder)
    assert again.weight.equal(module.weight)


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "tokenizer.model"])
def test_a_missing_or_damaged_file_is_one_clear_line(saved, name):
    folder, _ = saved
    (folder / name).write_bytes((folder / name).read_bytes()[:9])
    with pytest.raises(UserError, match="tower"):
        read_tower(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match="tower"):
        read_tower(folder)


def test_weights_of_other_shapes_are_refused(saved):
    folder, _ = saved
    with pytest.raises(UserError, match="do not fit the sizes"):
        restore(nn.Linear(4, 2), read_tower(folder)[2], folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TextTowerConfig(), "no tokenizer; set `tokenizer`"),
        (TextTowerConfig(tokenizer="x", max_text_tokens=2), "give at least 3"),
        (TextTowerConfig(tokenizer="x", hidden_size=10, num_heads=4), "does not divide"),
        (TextTowerConfig(tokenizer="x"), "no tokenizer at 'x'"),
    ],
)
def test_contradicting_configurations_are_explained(config, message):
    with pytest.raises(UserError, match=message):
        tower_tokenizer(config)


def test_a_pretrained_folder_must_be_complete(tmp_path):
    with pytest.raises(UserError, match="no pretrained model at"):
        read_pretrained(BertModel, str(tmp_path / "absent"), ("bert",))
    bert = BertModel(
        BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    bert.save_pretrained(tmp_path, state_dict={k: v for k, v in bert.state_dict().items() if "query" not in k})
    with pytest.raises(UserError, match=r"2 weights are missing for BertModel, encoder.*query.bias among"):
        read_pretrained(BertModel, str(tmp_path), ("bert",))
    with pytest.raises(UserError, match="a bert model; this tower takes bart, roberta"):
        read_pretrained(BertModel, str(tmp_path), ("bart", "roberta"))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded as BertModel"):
        read_pretrained(BertModel, str(tmp_path), ("bert",))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        read_pretrained(BertModel, str(tmp_path), ("bert",))


def test_random_weights_are_those_of_bert_at_its_width():
    assert initial_std(768) == pytest.approx(0.02)
    inputs = torch.randn(4000, 192)
    narrow = (inputs @ torch.randn(192, 50) * initial_std(192)).std()
    wide = (inputs.repeat(1, 4) @ torch.randn(768, 50) * initial_std(768)).std()
    assert float(narrow) == pytest.approx(float(wide), rel=0.1)


def test_every_residual_branch_of_a_deep_random_tower_begins_quiet(sentencepiece_path):
    """All branches together add what one of plain weights would: each is smaller by the root of their number."""
    sizes = TextTowerConfig(str(sentencepiece_path), "", hidden_size=64, num_layers=8, num_heads=4, feedforward_dim=256)
    plain = initial_std(64)
    encoder, decoder = TextEncoder.build(sizes), TextDecoder.build(sizes, 48)
    ends = {encoder: (("attention.output.dense", "output.dense"), 2 * 8), decoder: (("out_proj", "fc2"), 3 * 8)}
    for tower, (names, num_branches) in ends.items():
        matrices = {n.removesuffix(".weight"): p for n, p in tower.named_parameters() if p.ndim == 2 and "layer" in n}
        quiet = {name: matrix for name, matrix in matrices.items() if name.endswith(names)}
        assert len(quiet) == num_branches
        for name, matrix in matrices.items():
            expected = plain / num_branches**0.5 if name in quiet else plain
            assert float(matrix.detach().std()) == pytest.approx(expected, rel=0.1), name
