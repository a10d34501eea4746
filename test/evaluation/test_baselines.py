# SPDX-License-Identifier: Apache-2.0
"""Encoders of other projects load from a folder, equal the library's own, and do not hear their padding."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from icefall_alp.evaluation.baselines import load_baseline
from icefall_alp.utils.errors import UserError

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3,
}  # fmt: skip
KINDS = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, {"feat_extract_norm": "group"}),
    "wav2vec2-large": (Wav2Vec2Config, Wav2Vec2Model, {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": (HubertConfig, HubertModel, {"feat_extract_norm": "group"}),
    "wavlm": (WavLMConfig, WavLMModel, {"feat_extract_norm": "layer"}),
}


@pytest.fixture(params=KINDS)
def saved(request, tmp_path):
    """Folder and model of each kind, with random weights."""
    config_class, model_class, extra = KINDS[request.param]
    torch.manual_seed(0)
    model = model_class(config_class(**SIZES, **extra)).eval()
    model.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder", model


def test_frames_equal_the_librarys_and_ignore_padding(saved):
    folder, model = saved
    encoder = load_baseline(folder)
    assert not any(p.requires_grad for p in encoder.parameters()) and not encoder.training
    short, long = torch.randn(3000), torch.randn(5000)
    padded = torch.zeros(2, 5000)
    padded[0, :3000], padded[1] = short, long
    frames, lens = encoder(padded, torch.tensor([3000, 5000]))
    assert frames.shape[2] == encoder.output_dim == 32
    for row, own in enumerate((short, long)):
        normal = (own - own.mean()) / (own.var(correction=0) + 1e-7).sqrt()
        with torch.no_grad():
            expected = model(normal[None]).last_hidden_state[0]
        assert int(lens[row]) == len(expected)
        torch.testing.assert_close(frames[row, : len(expected)], expected, atol=1e-4, rtol=1e-3)


def test_shortest_waveform_gives_a_frame(saved):
    encoder = load_baseline(saved[0])
    _, lens = encoder(torch.randn(1, encoder.min_frames), torch.tensor([encoder.min_frames]))
    assert int(lens) >= 1


def test_mert_is_hubert_at_its_own_rate(tmp_path):
    torch.manual_seed(0)
    model = HubertModel(HubertConfig(**SIZES)).eval()
    model.save_pretrained(tmp_path)
    declared = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "mert_model", "sample_rate": 24000}
    (tmp_path / "config.json").write_text(json.dumps(declared))
    encoder = load_baseline(tmp_path)
    assert encoder.sampling_rate == 24000
    _, lens = encoder(torch.randn(1, 16000), torch.tensor([16000]))
    _, at_its_own_rate = load_baseline(tmp_path).model, model._get_feat_extract_output_lengths(torch.tensor([24000]))
    assert lens.tolist() == at_its_own_rate.tolist()
    (tmp_path / "config.json").write_text(json.dumps(declared | {"feature_extractor_cqt": True}))
    with pytest.raises(UserError, match="constant-Q"):
        load_baseline(tmp_path)


def test_what_cannot_be_read_is_named(saved, tmp_path):
    folder, model = saved
    state = {name: value for name, value in model.state_dict().items() if "layers.1" not in name}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(UserError, match=r"parameters are missing, encoder\.layers\.1"):
        load_baseline(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="model_type 'bert' is none of wav2vec2, hubert"):
        load_baseline(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        load_baseline(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"nor config\.json, nor one \.pt file"):
        load_baseline(tmp_path / "empty")
