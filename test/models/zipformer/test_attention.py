# SPDX-License-Identifier: Apache-2.0
"""Attention modules against golden outputs and gradients, and against plain autograd."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import closed, plain
from icefall_alp.models.zipformer.attention import AttentionWeights, NonlinAttention, SelfAttention
from icefall_alp.models.zipformer.masks import MASKED_SCORE
from icefall_alp.models.zipformer.positions import positional_table


def test_attention_weights(units, check_module):
    case = units("attnw")
    module = AttentionWeights(12, 16, num_heads=3, query_head_dim=4, pos_head_dim=2)
    hidden = case["attn_mask"].bool() | case["key_padding_mask"].bool().unsqueeze(1)
    bias = hidden * MASKED_SCORE
    case = {**case, "y": case["w"], "gy": case["gw"]}
    check_module(
        module, case, lambda m, x: m(x, case["pos_emb"][0], bias)[0],
        layout=lambda x: x.transpose(0, 1) if x.dim() == 3 else x, back=lambda w: w,
    )  # fmt: skip
    weights, first = module(case["x"].transpose(0, 1), case["pos_emb"][0], bias)
    assert torch.equal(first, weights[0])
    assert (weights.masked_select(hidden.expand_as(weights)) == 0).all()


def test_relative_shift(units):
    case = units("relshift")
    inp, out = case["inp"], case["out"]
    for form in (plain, closed):
        assert torch.equal(form.relative_to_absolute(inp.flatten(0, 1)).view_as(out), out)


@pytest.mark.parametrize("cached_scores", [1, 100, 2**19])
def test_scores_differentiate_like_plain_autograd(monkeypatch, cached_scores):
    """However many matrices are worked on at a time: one, two, all."""
    monkeypatch.setattr(closed, "CACHED_SCORES", cached_scores)
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
        weights = (q @ k.transpose(-1, -2) + relative).softmax(-1)
        return torch.cat((weights, weights[:1]))

    ours, first = module(x, table, None)
    ours = torch.cat((ours, first.unsqueeze(0)))
    g = torch.randn_like(ours)
    params = [x, *module.parameters()]
    torch.testing.assert_close(ours, plain(x), rtol=1e-5, atol=1e-6)
    for a, b in zip(torch.autograd.grad(ours, params, g), torch.autograd.grad(plain(x), params, g), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # the softmax is in float32


def test_positions_are_left_out_now_and_then(draw):
    module = AttentionWeights(12, 16, num_heads=3, query_head_dim=4, pos_head_dim=2).train()
    module.clock.batch_count = 0.0
    x, table = torch.randn(2, 5, 12), positional_table(5, 16)
    draw(0.0)
    without, _ = module(x, table, None)
    assert torch.equal(without, module(x, torch.zeros_like(table), None)[0])
    draw(0.999)
    assert not torch.allclose(without, module(x, 10 * table, None)[0])


def test_self_attention(units, check_module):
    case = units("selfattn")
    check_module(SelfAttention(8, 3, 4), case, lambda m, x: m(x, case["attn_weights"]))


def test_nonlin_attention(units, check_module):
    case = units("nonlinattn")
    check_module(NonlinAttention(8, 6), case, lambda m, x: m(x, case["attn_weights"][0]))


def test_softmax(units, close):
    case = units("softmax")
    x = case["x"].unsqueeze(0).requires_grad_(True)
    for form in (plain, closed):
        x.grad = None
        y, _ = form.attention_softmax(x, None)
        y.backward(case["gy"].unsqueeze(0))
        close(y[0], case["y"])
        close(x.grad[0], case["dx"])
