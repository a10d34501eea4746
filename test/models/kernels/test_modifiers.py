# SPDX-License-Identifier: Apache-2.0
"""What modifiers make of a gradient, by hand; settings of zero on the device make nothing of it."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import modifiers, plain

BALANCED = (-0.1, 0.1, 0.2, 1.0, 0.04)


def gradient(function, x, gy):
    x = x.clone().requires_grad_()
    y = function(x)
    assert torch.equal(y, x) and y is not x
    return torch.autograd.grad(y, x, gy)[0]


@pytest.mark.parametrize("kind", [tuple, torch.tensor])
def test_gradients_that_lead_out_of_the_limits_turn(kind):
    x, gy = torch.tensor([-1.0, -1.0, 0.5, 2.0, 2.0]), torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    turned = gradient(lambda x: modifiers.limit_param(x, kind((0.0, 1.0, 1.0))), x, gy)
    assert turned.tolist() == [-1.0, -1.0, 1.0, 1.0, 1.0]


def test_a_gradient_is_scaled():
    assert gradient(lambda x: modifiers.scale_grad(x, 0.5), torch.ones(2), torch.tensor([3.0, 4.0])).tolist() == [
        1.5,
        2,
    ]


@pytest.mark.parametrize("settings", [(0.25,), torch.tensor([0.25])])
@pytest.mark.parametrize("loss_scale", [2.0, torch.tensor(2.0)])
def test_a_penalty_grows_with_the_scale_of_the_loss_at_the_time_of_backward(settings, loss_scale):
    scales = [None]
    penalty = modifiers.AbsPenalty(1.0, settings, lambda: scales[-1])
    x = torch.tensor([3.0, 0.5, -3.0]).requires_grad_()
    y = penalty(x)
    scales.append(loss_scale)
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1.5, 1.0, 0.5]


def test_balance_and_whiten_are_the_chains_gradients():
    torch.manual_seed(0)
    x, gy, told = torch.randn(30, 8) @ torch.randn(8, 8), torch.randn(30, 8), []
    expected = plain.balancer_gradient(x, gy, BALANCED, -1)
    torch.testing.assert_close(gradient(lambda x: modifiers.balance(x, BALANCED, -1), x, gy), expected)
    for limit in (1.0, 1e6):
        expected, violated = plain.whiten_gradient(x, gy, 2, limit, 0.1)
        whitened = gradient(lambda x, limit=limit: modifiers.whiten(x, 2, (limit, 0.1), told.append), x, gy)
        torch.testing.assert_close(whitened, expected, rtol=1e-4, atol=1e-5)
        assert bool(told[-1]) == bool(violated) == (limit == 1.0)


NOTHING = {
    "limit": lambda x: modifiers.limit_param(x, torch.zeros(3)),
    "penalty": modifiers.AbsPenalty(0.1, torch.zeros(1), lambda: torch.tensor(2.0)),
    "balance": lambda x: modifiers.balance(x, torch.zeros(5), -1),
    "whiten": lambda x: modifiers.whiten(x, 2, torch.zeros(2), lambda violated: None),
}


@pytest.mark.parametrize("name", NOTHING)
def test_settings_of_zero_on_the_device_change_no_bit(name):
    torch.manual_seed(0)
    x, gy = 3 * torch.randn(3, 20, 8), torch.randn(3, 20, 8)
    assert torch.equal(gradient(NOTHING[name], x, gy), gy)
