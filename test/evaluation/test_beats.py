# SPDX-License-Identifier: Apache-2.0
"""BEATs of WavLM's layers equals BEATs written out from its description, with alpha in the residuals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchaudio.compliance.kaldi import fbank

from icefall_alp.evaluation.beats import BeatsEncoder
from icefall_alp.utils.errors import UserError

WIDTH, HIDDEN, HEADS, LAYERS, BUCKETS = 12, 16, 2, 3, 32


@pytest.fixture
def state():
    """Random parameters under the published names."""
    torch.manual_seed(0)
    shapes = {
        "patch_embedding.weight": (WIDTH, 1, 16, 16), "layer_norm.weight": (WIDTH,), "layer_norm.bias": (WIDTH,),
        "post_extract_proj.weight": (HIDDEN, WIDTH), "post_extract_proj.bias": (HIDDEN,),
        "encoder.pos_conv.0.bias": (HIDDEN,), "encoder.pos_conv.0.weight_g": (1, 1, 8),
        "encoder.pos_conv.0.weight_v": (HIDDEN, 4, 8),
        "encoder.layer_norm.weight": (HIDDEN,), "encoder.layer_norm.bias": (HIDDEN,),
        "predictor.weight": (5, HIDDEN), "predictor.bias": (5,),
    }  # fmt: skip
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}."
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= {f"{layer}self_attn.{name}.weight": (HIDDEN, HIDDEN), f"{layer}self_attn.{name}.bias": (HIDDEN,)}
        shapes |= {f"{layer}self_attn.grep_a": (1, HEADS, 1, 1), f"{layer}self_attn.grep_linear.bias": (8,)}
        shapes |= {f"{layer}self_attn.grep_linear.weight": (8, HIDDEN // HEADS)}
        shapes |= {f"{layer}self_attn.relative_attention_bias.weight": (BUCKETS, HEADS)}
        shapes |= {f"{layer}fc1.weight": (24, HIDDEN), f"{layer}fc1.bias": (24,)}
        shapes |= {f"{layer}fc2.weight": (HIDDEN, 24), f"{layer}fc2.bias": (HIDDEN,)}
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{layer}{name}.weight": (HIDDEN,), f"{layer}{name}.bias": (HIDDEN,)}
    state = {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}
    for i in range(1, LAYERS):  # one table for all layers
        name = "self_attn.relative_attention_bias.weight"
        state[f"encoder.layers.{i}.{name}"] = state[f"encoder.layers.0.{name}"]
    return state


def written_out(state, waveform):
    """One clip, in loops and plain formulas."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    mel = (fbank(waveform[None] * 2**15, num_mel_bins=128, sample_frequency=16000) - 15.41663) / (2 * 6.55582)
    tokens = [
        torch.einsum("of,f->o", state["patch_embedding.weight"].flatten(1), mel[t : t + 16, f : f + 16].flatten())
        for t in range(0, len(mel) - 15, 16)
        for f in range(0, 128, 16)
    ]
    x = linear("post_extract_proj", norm("layer_norm", torch.stack(tokens)))
    v, g = state["encoder.pos_conv.0.weight_v"], state["encoder.pos_conv.0.weight_g"]
    weight = g * v / v.norm(dim=(0, 1), keepdim=True)
    position = F.conv1d(x.T[None], weight, state["encoder.pos_conv.0.bias"], padding=4, groups=HIDDEN // 4)
    x = norm("encoder.layer_norm", x + F.gelu(position[0, :, :-1].T))
    alpha = (2 * LAYERS) ** 0.25
    table = state["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    bias = torch.stack([torch.stack([table[bucket(j - i)] for j in range(len(x))]) for i in range(len(x))])  # (T, T, H)
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        x = norm(f"{layer}.self_attn_layer_norm", alpha * x + attend(state, f"{layer}.self_attn", x, bias, linear))
        x = norm(f"{layer}.final_layer_norm", alpha * x + linear(f"{layer}.fc2", F.gelu(linear(f"{layer}.fc1", x))))
    return x.view(-1, 8, HIDDEN).mean(1)


def bucket(distance):
    """T5's buckets: half for each direction, exact up to a quarter of all, then logarithmic to distance 800."""
    half, exact = BUCKETS // 2, BUCKETS // 4
    size = abs(distance)
    if size >= exact:
        size = min(half - 1, exact + int(math.log(size / exact) / math.log(800 / exact) * (half - exact)))
    return size + (half if distance > 0 else 0)


def attend(state, name, x, bias, linear):
    heads = []
    size = HIDDEN // HEADS
    query, key, value = (linear(f"{name}.{part}_proj", x) for part in "qkv")
    for h in range(HEADS):
        own = slice(h * size, (h + 1) * size)
        gates = linear(f"{name}.grep_linear", x[:, own]).view(-1, 2, 4).sum(-1).sigmoid()
        gate = gates[:, 0] * (gates[:, 1] * state[f"{name}.grep_a"][0, h, 0, 0] - 1.0) + 2.0
        scores = query[:, own] @ key[:, own].T / math.sqrt(size) + gate[:, None] * bias[:, :, h]
        heads.append(scores.softmax(-1) @ value[:, own])
    return linear(f"{name}.out_proj", torch.cat(heads, dim=1))


def test_equals_the_description_and_ignores_padding(state, tmp_path):
    torch.save({"cfg": {"deep_norm": True}, "model": state}, tmp_path / "BEATs.pt")
    encoder = BeatsEncoder.load(tmp_path / "BEATs.pt").eval()
    short, long = torch.randn(9000) * 0.1, torch.randn(16000) * 0.1
    padded = torch.zeros(2, 16000)
    padded[0, :9000], padded[1] = short, long
    frames, lens = encoder(padded, torch.tensor([9000, 16000]))
    assert encoder.output_dim == HIDDEN
    for row, own in enumerate((short, long)):
        expected = written_out(state, own)
        assert int(lens[row]) == len(expected)
        torch.testing.assert_close(frames[row, : len(expected)], expected, atol=2e-4, rtol=1e-3)


def test_shortest_waveform_gives_a_frame(state):
    encoder = BeatsEncoder(state).eval()
    shortest = BeatsEncoder.min_frames
    assert encoder(torch.randn(1, shortest), torch.tensor([shortest]))[1].tolist() == [1]


def test_other_files_are_refused(state, tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt: no parameter .* not a BEATs checkpoint"):
        BeatsEncoder.load(tmp_path / "other.pt")
    state.pop("layer_norm.bias")
    with pytest.raises(UserError, match=r"1 parameters missing or unknown, layer_norm\.bias"):
        BeatsEncoder(state)


def test_layer_norm_folding_needs_the_scaled_epsilon():
    """The identity that the module relies on: LN(a x + f) = LN(x + f / a) with the epsilon divided by a squared."""
    x, f, a = torch.randn(4, 6) * 1e-3, torch.randn(4, 6) * 1e-3, 1.7
    folded = nn.LayerNorm(6, eps=1e-5 / a**2)(x + f / a)
    torch.testing.assert_close(folded, nn.LayerNorm(6, eps=1e-5)(a * x + f))
