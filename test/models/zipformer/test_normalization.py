# SPDX-License-Identifier: Apache-2.0
"""BiasNorm against golden outputs and gradients."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.zipformer.normalization import BiasNorm


@pytest.mark.parametrize("limit_on", [False, True])
@pytest.mark.parametrize("name", ["last_dim", "dim1"])
def test_bias_norm(units, close, draw, name, limit_on):
    draw(0.0 if limit_on else 0.999)
    case, suffix = units(f"biasnorm/{name}"), "_limit_on" if limit_on else ""
    inner = (lambda t: t) if name == "last_dim" else (lambda t: t.transpose(1, 2))
    module = BiasNorm(case["bias"].numel()).train()
    module.load_state_dict({k: case[k] for k in ("bias", "log_scale")})
    x = case["x"].clone().requires_grad_(True)
    y = module(inner(x))
    y.backward(inner(case["gy"]))
    close(y, inner(case["y"]))
    close(x.grad, case["dx" + suffix])
    close(module.bias.grad, case["dbias" + suffix], atol=2e-6)
    close(module.log_scale.grad, case["dlog_scale" + suffix], atol=5e-6)


def test_bias_norm_has_no_epsilon():
    """Tiny inputs are normalised as any others."""
    module = BiasNorm(6).eval()
    with torch.no_grad():
        module.bias.zero_()
    x = 1e-12 * torch.randn(3, 6)
    torch.testing.assert_close(module(x), module(x * 1e10))
