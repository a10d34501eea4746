# SPDX-License-Identifier: Apache-2.0
"""Attention, convolution, feed-forward and ConvNeXt modules against golden outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from icefall_alp.models.zipformer.activations import SwooshL
from icefall_alp.models.zipformer.attention import (
    AttentionWeights,
    NonlinAttention,
    SelfAttention,
    relative_to_absolute,
)
from icefall_alp.models.zipformer.convolution import ChunkCausalConv, ConvModule
from icefall_alp.models.zipformer.feedforward import FeedForward
from icefall_alp.models.zipformer.frontend import ConvNeXt
from icefall_alp.models.zipformer.positions import RelativePositions, positional_table


def swap(x):
    """(T, N, C) of the fixtures and (N, T, C) of ours."""
    return x.transpose(0, 1)


def to_inner(x):
    return x.permute(0, 2, 3, 1)


def check(module, case, close, call, layout=swap, back=swap):
    module.load_state_dict({k.removeprefix("param/"): v for k, v in case.items() if k.startswith("param/")})
    module.eval()
    x = case["x"].clone().requires_grad_(True)
    y = call(module, layout(x))
    y.backward(layout(case["gy"]))
    close(back(y), case["y"])
    close(x.grad, case["dx"], rtol=1e-5, atol=2e-6)
    grads = {k: p.grad for k, p in module.named_parameters()}
    for name, grad in grads.items():
        close(grad, case[f"grad/{name}"], rtol=2e-5, atol=2e-5)
    assert len(grads) == sum(k.startswith("grad/") for k in case)


def test_attention_weights(units, close):
    case = units("attnw")
    module = AttentionWeights(12, 16, num_heads=3, query_head_dim=4, pos_head_dim=2)
    hidden = case["attn_mask"].bool() | case["key_padding_mask"].bool().unsqueeze(1)
    case = {**case, "y": case["w"], "gy": case["gw"]}
    check(
        module, case, close, lambda m, x: m(x, case["pos_emb"][0], hidden),
        layout=lambda x: swap(x) if x.dim() == 3 else x, back=lambda w: w,
    )  # fmt: skip
    weights = module(swap(case["x"]), case["pos_emb"][0], hidden)
    assert (weights.masked_select(hidden.expand_as(weights)) == 0).all()


def test_relative_shift(units):
    case = units("relshift")
    inp, out = case["inp"], case["out"]
    assert torch.equal(relative_to_absolute(inp.flatten(0, 1)).view_as(out), out)


def test_scores_differentiate_like_plain_autograd():
    torch.manual_seed(0)
    module = AttentionWeights(12, 16, num_heads=3, query_head_dim=4, pos_head_dim=2).double().eval()
    x = torch.randn(2, 5, 12, dtype=torch.double, requires_grad=True)
    table = positional_table(5, 16).double()

    def plain(x):
        q, k, p = module.in_proj(x).split((12, 12, 6), dim=-1)
        q, k, p = (t.unflatten(-1, (3, -1)).permute(2, 0, 1, 3) for t in (q, k, p))
        pos = module.linear_pos(table).unflatten(1, (3, 2))
        source_minus_target = torch.arange(5)[None, :] - torch.arange(5)[:, None]
        relative = torch.einsum("hntd,tshd->hnts", p, pos[source_minus_target + 4])
        return (q @ k.transpose(-1, -2) + relative).softmax(-1)

    ours = module._scores(*_heads(module, x), table).softmax(-1)
    g = torch.randn_like(ours)
    params = [x, *module.parameters()]
    torch.testing.assert_close(ours, plain(x))
    for a, b in zip(torch.autograd.grad(ours, params, g), torch.autograd.grad(plain(x), params, g), strict=True):
        torch.testing.assert_close(a, b)


def _heads(module, x):
    q, k, p = module.in_proj(x).split((12, 12, 6), dim=-1)
    return module._by_head(q), module._by_head(k), p


def test_positions_are_left_out_now_and_then(draw):
    module = AttentionWeights(12, 16, num_heads=3, query_head_dim=4, pos_head_dim=2).train()
    module.clock.batch_count = 0.0
    x, table = torch.randn(2, 5, 12), positional_table(5, 16)
    draw(0.0)
    without = module(x, table, None)
    assert torch.equal(without, module(x, torch.zeros_like(table), None))
    draw(0.999)
    assert not torch.allclose(without, module(x, 10 * table, None))


def test_self_attention(units, close):
    case = units("selfattn")
    check(SelfAttention(8, 3, 4), case, close, lambda m, x: m(x, case["attn_weights"]))


def test_nonlin_attention(units, close):
    case = units("nonlinattn")
    check(NonlinAttention(8, 6), case, close, lambda m, x: m(x, case["attn_weights"][0]))


def test_conv_module(units, close):
    case = units("convmodule")
    padding = case["key_padding_mask"].bool().unsqueeze(-1)
    check(ConvModule(6, 5, causal=False), case, close, lambda m, x: m(x, padding, -1))


def test_feed_forward(units, close):
    check(FeedForward(6, 10), units("feedforward"), close, lambda m, x: m(x))


def test_convnext(units, close):
    case = units("convnext")
    check(ConvNeXt(4), case, close, lambda m, x: m(x), layout=to_inner, back=lambda y: y.permute(0, 3, 1, 2))


def test_convnext_equals_plain_convolutions():
    torch.manual_seed(0)
    module, x = ConvNeXt(4).eval(), torch.randn(2, 4, 9, 11)
    y = module.pointwise_conv2(SwooshL()(module.pointwise_conv1(module.depthwise_conv(x))))
    torch.testing.assert_close(module(to_inner(x)), to_inner(x + y))


@pytest.mark.parametrize("chunk", [-1, 4, 16])
def test_chunk_causal_convolution(units, close, chunk):
    case = units(f"chunkconv/chunk{chunk}")
    time_inner = lambda x: x.transpose(1, 2)  # noqa: E731
    check(ChunkCausalConv(5, 7), case, close, lambda m, x: m(x, chunk), layout=time_inner, back=time_inner)


def test_softmax(units, close):
    case = units("softmax")
    x = case["x"].clone().requires_grad_(True)
    y = F.softmax(x, -1)
    y.backward(case["gy"])
    close(y, case["y"])
    close(x.grad, case["dx"])


@pytest.mark.parametrize("frames", [1, 2, 7, 60])
def test_positional_table(units, close, frames):
    close(positional_table(frames, 48), units("relpos")[f"dim48_T{frames}"][0], rtol=0, atol=1e-5)


def test_positional_table_far_away_and_with_left_context(units, close):
    case = units("relpos")
    table = positional_table(2000, 48)
    assert torch.equal(case["T2000_rows_index"], case["T2000_rows_offset"] + 1999)
    close(table[case["T2000_rows_index"]], case["T2000_rows"], rtol=0, atol=1e-5)
    close(positional_table(9, 16, left_context=4), case["dim16_T9_left_context4"][0], rtol=0, atol=1e-5)


def test_table_is_cut_out_of_the_longest(close):
    module = RelativePositions(16).eval()
    for frames in (3, 9, 4, 1):
        assert torch.equal(module(torch.zeros(2, frames, 5)), positional_table(frames, 16))
    assert not module.state_dict()
    dropped = module.train()(torch.zeros(1, 50, 5))
    assert 0.1 < (dropped == 0).float().mean() < 0.2
