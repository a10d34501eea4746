# SPDX-License-Identifier: Apache-2.0
"""The definitions against loops over their formulas, number by number."""

from __future__ import annotations

import math

import torch

from icefall_alp.models.kernels import plain


def test_swoosh_by_hand():
    for x in (-3.0, 0.0, 1.0, 4.0, 30.0):
        by_hand = math.log(1 + math.exp(x - 4)) - 0.08 * x - 0.035
        assert abs(float(plain.swoosh(torch.tensor(x), 4.0, 0.035)) - by_hand) < 1e-6


def test_bias_norm_and_bypass_by_hand():
    x, bias = torch.tensor([[3.0, -1.0]]), torch.tensor([1.0, -1.0])
    rms = math.sqrt(((3 - 1) ** 2 + 0) / 2)
    expected = torch.tensor([[3.0, -1.0]]) * math.exp(0.5) / rms
    torch.testing.assert_close(plain.bias_norm(x, bias, torch.tensor(0.5)), expected)
    original, scale = torch.tensor([[[1.0, 2.0]]]), torch.tensor([0.5, 1.0])
    assert plain.bypass(original, torch.tensor([[[3.0, 0.0]]]), scale).tolist() == [[[2.0, 0.0]]]
    mixed = plain.bypass(original, x.unsqueeze(0), scale, bias, torch.tensor(0.5))
    torch.testing.assert_close(mixed, torch.stack(((original[..., 0] + expected[:, 0]) / 2, expected[:, 1:]), dim=-1))


def test_a_frame_of_a_bypass_stands_for_several():
    original, low = torch.zeros(1, 5, 1), torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1)
    assert plain.bypass(original, low, torch.ones(1), factor=2).flatten().tolist() == [1, 1, 2, 2, 3]


def test_scores_and_weights_by_double_loop():
    torch.manual_seed(0)
    q, k, p, pos = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(2, 3, 2), torch.randn(2, 2, 5)
    scores = plain.attention_scores(q, k, p, pos)
    for b in range(2):
        for t in range(3):
            for s in range(3):
                by_hand = float(q[b, t] @ k[b, s] + p[b, t] @ pos[b, :, s - t + 2])
                assert abs(float(scores[b, t, s]) - by_hand) < 1e-5
    bias = torch.tensor([[[0.0, 0.0, -1e9]]])
    weights, first = plain.attention_softmax(scores.unsqueeze(1), bias)
    expected = torch.cat((scores[..., :2].softmax(-1), torch.zeros(2, 3, 1)), dim=-1)
    torch.testing.assert_close(weights[:, 0], expected)
    assert torch.equal(first, weights[0])


def test_convolutions_by_loop():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 6, 2), torch.randn(2, 1, 3), torch.randn(2)
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1))
    expected = torch.stack([(padded[0, t : t + 3] * weight[:, 0].T).sum(0) + bias for t in range(6)])
    torch.testing.assert_close(plain.depthwise_conv(x, weight, bias, 1)[0], expected)
    image, kernel = torch.randn(1, 5, 4), torch.randn(3, 1, 3, 3)
    out = plain.image_conv(image.unsqueeze(1), kernel, torch.zeros(3), (1, 1), (0, 1))
    assert out.shape == (1, 3, 3, 4)
    torch.testing.assert_close(out[0, 1, 2, 1], (image[0, 2:5, 0:3] * kernel[1, 0]).sum())
    torch.testing.assert_close(
        plain.pointwise_conv(image.unsqueeze(-1), torch.full((1, 1, 1, 1), 2.0), torch.ones(1)),
        2 * image.unsqueeze(-1) + 1,
    )


def test_gates_by_hand():
    x, gates = torch.tensor([[[2.0], [2.0]]]), torch.tensor([[[0.0], [5.0]]])
    assert plain.gate(x, gates, torch.tensor([[[1.0], [0.0]]])).flatten().tolist() == [1.0, 0.0]
    assert abs(float(plain.tanh_gate(x, gates)[0, 1, 0]) - 2 * math.tanh(5.0)) < 1e-6


def test_modifiers_leave_white_and_balanced_activations_alone():
    torch.manual_seed(0)
    x, grad = torch.randn(4000, 4), torch.randn(4000, 4)
    limits = plain.mean_over_deviation(0.05), plain.mean_over_deviation(0.95), 0.2, 100.0
    torch.testing.assert_close(plain.balancer_gradient(x, grad, (*limits, 0.04), -1), grad)
    kept, violated = plain.whiten_gradient(x, grad, 1, 2.0, 0.01)
    assert torch.equal(kept, grad) and not violated
    assert abs(float(plain.whitening_metric(x, 1)) - 1) < 0.01
