# SPDX-License-Identifier: Apache-2.0
"""Swoosh against golden values in float32 and float64; extreme inputs; the fused activation and linear layer."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from icefall_alp.models.zipformer.activations import ActDropLinear, SwooshL, SwooshR, scaled_linear
from icefall_alp.models.zipformer.draws import dropout_masks

BOTH = pytest.mark.parametrize(("module", "key"), [(SwooshL, "swoosh_l"), (SwooshR, "swoosh_r")])


@BOTH
def test_values_and_derivatives(units, close, module, key):
    expected = units("swoosh")
    x = expected["x"].clone().requires_grad_(True)
    y = module()(x)
    y.sum().backward()
    for suffix in ("", "_f64"):
        close(y, expected[f"{key}_y{suffix}"].float(), rtol=1e-6, atol=2e-6)
        close(x.grad, expected[f"{key}_dydx{suffix}"].float(), rtol=1e-6, atol=2e-6)
    close(y, expected[f"{key}_eval_python_path"], rtol=1e-6, atol=2e-6)


@BOTH
def test_exact_derivative_lies_within_the_eight_bit_one(units, module, key):
    expected = units("swoosh")
    x = expected["x"].clone().requires_grad_(True)
    module()(x).sum().backward()
    for noise in ("0.0", "0.5", "0.999"):
        assert (x.grad - expected[f"{key}_dequant_r{noise}"]).abs().max() < 1.01 / 254


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@BOTH
def test_finite_for_any_finite_input(module, key, dtype):
    largest = torch.finfo(dtype).max
    values = [-largest, -1e4, -90.0, 0.0, 80.0, 84.0, 88.8, 90.0, 1e4, largest / 2]
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    y = module()(x)
    y.float().sum().backward()
    assert y.dtype == dtype and y.isfinite().all() and x.grad.isfinite().all()
    exact = F.softplus(x.double() - module.shift) - 0.08 * x.double() - module.offset
    torch.testing.assert_close(y.double(), exact, rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=1e-2)


@BOTH
def test_gradcheck(module, key):
    x = torch.linspace(-6, 9, 31).requires_grad_(True)
    (slope,) = torch.autograd.grad(module()(x).sum(), x)
    wide = x.detach().double()
    step = 1e-4

    def exact(v):
        return F.softplus(v - module.shift) - 0.08 * v - module.offset

    numeric = (exact(wide + step) - exact(wide - step)) / (2 * step)
    torch.testing.assert_close(slope.double(), numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("activation", "key"), [(SwooshL, "actlin/SwooshL"), (SwooshR, "actlin/SwooshR")])
def test_activation_and_linear(units, close, activation, key):
    expected = units(key)
    module = ActDropLinear(7, 5, activation, initial_scale=1.0).train()
    module.load_state_dict({k: expected[k] for k in ("weight", "bias")})
    x = expected["x"].clone().requires_grad_(True)
    y = module(x)
    y.backward(expected["gy"])
    close(y, expected["y"])
    close(x.grad, expected["dx"])
    close(module.weight.grad, expected["dweight"])
    close(module.bias.grad, expected["dbias"])


def test_dropout_is_shared_over_time_and_differentiated():
    torch.manual_seed(0)
    module = ActDropLinear(64, 64, SwooshL, initial_scale=1.0).train()
    with torch.no_grad():
        module.weight.copy_(torch.eye(64))
        module.bias.zero_()
    x = torch.randn(3, 50, 64, requires_grad=True)
    (mask,) = dropout_masks([0.25], [64], x)
    y = module(x, mask)
    ratio = y / SwooshL()(x)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), atol=1e-4)
    kept = ratio[:, 0] > 0.5
    assert 0.6 < kept.float().mean() < 0.9
    torch.testing.assert_close(ratio[:, 0][kept], torch.full_like(ratio[:, 0][kept], 1 / 0.75), rtol=1e-4, atol=0)
    y.sum().backward()
    assert torch.equal((x.grad == 0).all(1), ~kept)
    assert torch.equal(module.eval()(x), F.linear(SwooshL()(x), module.weight, module.bias))


def test_activation_and_linear_under_autocast():
    module = ActDropLinear(16, 8, SwooshR, initial_scale=1.0)
    x = torch.randn(2, 4, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad.dtype == module.weight.grad.dtype == module.bias.grad.dtype == torch.float32
    exact = F.linear(SwooshR()(x), module.weight, module.bias)
    assert F.cosine_similarity(y.float().flatten(), exact.flatten(), dim=0) > 0.999


def test_initial_scale():
    torch.manual_seed(0)
    layer = scaled_linear(256, 256, 0.05)
    assert layer.bias.abs().max() <= 0.005
    assert layer.weight.abs().max() <= 0.05 / 256**0.5
    assert layer.weight.std() > 0.4 * 0.05 / 256**0.5
