# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from icefall_alp.models.pooling import AttentionPooling, MeanPooling
from icefall_alp.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("same_random_numbers")

LENS = torch.tensor([5, 2, 7])


@pytest.fixture
def frames():
    return torch.randn(3, 7, 16)


def test_mean_is_that_of_the_valid_frames(frames):
    pooled = MeanPooling()(frames, LENS)
    for clip, length, row in zip(frames, LENS, pooled, strict=True):
        torch.testing.assert_close(row, clip[:length].mean(dim=0))


def test_mean_of_half_precision_is_taken_in_single(frames):
    pooled = MeanPooling()(frames.bfloat16(), LENS)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled[0], frames[0, :5].bfloat16().float().mean(dim=0))


def test_attention_equals_its_formula_head_by_head(frames):
    pooling = AttentionPooling(16)
    attention = pooling.attention
    wq, wk, wv = attention.in_proj_weight.chunk(3)
    clip, seed = frames[1, :2], pooling.seed[0, 0]
    heads = []
    for h in range(8):
        part = slice(2 * h, 2 * h + 2)
        weights = torch.softmax((clip @ wk[part].T) @ (wq[part] @ seed) / 2**0.5, dim=0)
        heads.append(weights @ (clip @ wv[part].T))
    hidden = pooling.attention_norm(seed + attention.out_proj(torch.cat(heads)))
    expected = pooling.output_norm(hidden + torch.relu(pooling.feedforward(hidden)))
    torch.testing.assert_close(pooling(frames, LENS)[1], expected)


@pytest.mark.parametrize(("pooling_class", "padding"), [(MeanPooling, float("nan")), (AttentionPooling, 1e4)])
def test_padding_never_counts(pooling_class, padding, frames):
    pooling = pooling_class() if pooling_class is MeanPooling else pooling_class(16)
    spoilt = frames.clone()
    spoilt[1, 2:] = padding
    torch.testing.assert_close(pooling(spoilt, LENS), pooling(frames, LENS))
    torch.testing.assert_close(pooling(frames[1:2, :2], LENS[1:2])[0], pooling(frames, LENS)[1])


def test_every_parameter_of_attention_gets_a_gradient(frames):
    pooling = AttentionPooling(16)
    pooling(frames, LENS).square().sum().backward()
    assert all(p.grad is not None for p in pooling.parameters())


def test_heads_that_do_not_divide_are_explained():
    with pytest.raises(UserError, match="8 heads do not divide 12 channels"):
        AttentionPooling(12)
