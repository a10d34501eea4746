# SPDX-License-Identifier: Apache-2.0
"""Attention is PyTorch's; a layer asked for some positions gives those of all."""

import pytest
import torch
from torch import nn

from icefall_alp.models.decoder_layer import Attention, DecoderLayer


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return DecoderLayer(12, num_heads=3, feedforward_dim=20, dropout=0.1).eval()


def sounds(layer, lens=(4, 7)):
    memory = layer.encoder_attn.keys_values(torch.randn(len(lens), max(lens), 12))
    return memory, (torch.arange(max(lens)) < torch.tensor(lens)[:, None])[:, None, None]


def run(layer, hidden, sound, past=None, is_causal=True, num_wanted=None):
    return layer(hidden, *sound, past, is_causal, num_wanted)


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_equals_that_of_pytorch(is_causal):
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]).data
    theirs.in_proj_bias.data = torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias]).data
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    hidden = torch.randn(2, 6, 12)
    later = torch.ones(6, 6, dtype=torch.bool).triu(1) if is_causal else None
    wanted = theirs(hidden, hidden, hidden, attn_mask=later)[0]
    torch.testing.assert_close(ours(hidden, ours.keys_values(hidden), is_causal=is_causal), wanted)


def test_wanted_positions_are_those_of_all(layer):
    hidden, sound = torch.randn(2, 5, 12), sounds(layer)
    for is_causal in (False, True):
        whole, seen = run(layer, hidden, sound, is_causal=is_causal)
        part, also_seen = run(layer, hidden, sound, is_causal=is_causal, num_wanted=2)
        torch.testing.assert_close(part, whole[:, :2])
        torch.testing.assert_close(also_seen, seen)


def test_a_position_after_a_past_equals_that_of_one_pass(layer):
    hidden, sound = torch.randn(2, 5, 12), sounds(layer)
    whole, _ = run(layer, hidden, sound)
    _, past = run(layer, hidden[:, :4], sound)
    torch.testing.assert_close(run(layer, hidden[:, 4:], sound, past, is_causal=False)[0], whole[:, 4:])


def test_captions_of_one_clip_hear_that_clip(layer):
    hidden, (memory, mask) = torch.randn(4, 5, 12), sounds(layer)
    together, _ = run(layer, hidden, (memory, mask))
    each = [tensor.repeat_interleave(2, 0) for tensor in memory], mask.repeat_interleave(2, 0)
    torch.testing.assert_close(together, run(layer, hidden, each)[0])


def test_frames_of_padding_are_not_heard(layer):
    hidden, (memory, mask) = torch.randn(2, 5, 12), sounds(layer)
    spoilt = [tensor.masked_fill(~mask[:, 0, 0, :, None][:, None], 1e4) for tensor in memory]
    torch.testing.assert_close(run(layer, hidden, (spoilt, mask))[0], run(layer, hidden, (memory, mask))[0])
