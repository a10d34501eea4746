# SPDX-License-Identifier: Apache-2.0
"""A Balancer's gradient by Triton, in its interpreter where there is no GPU, against the definition."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import plain

triton_balancer = pytest.importorskip("icefall_alp.models.kernels.triton_balancer")
pytestmark = pytest.mark.usefixtures("on_the_device")
SETTINGS = (-0.1, 0.1, 0.2, 1.0, 0.04)


def test_moments_are_shared_out_by_rows():
    x = torch.randn(7, 5)
    sums, squares = torch.zeros(2, 2, 5)
    triton_balancer.moments[(2, 2)](x, x, sums, squares, 7, 5, STEPS=2, LIVE=False, ROWS=2, BLOCK=4)
    torch.testing.assert_close(sums, torch.stack((x[:4].sum(0), x[4:].sum(0))))
    torch.testing.assert_close(squares, torch.stack((x[:4].square().sum(0), x[4:].square().sum(0))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize("shape", [(40, 6, 3), (1, 5, 1), (3, 70, 9), (0, 4, 6), (5, 2, 1100)])
def test_balancer(shape, dim, dtype):
    torch.manual_seed(0)
    x, grad = (3 * torch.randn(shape) + 1).to(dtype), torch.randn(shape).to(dtype)
    ours, expected = (form.balancer_gradient(x, grad, SETTINGS, dim) for form in (triton_balancer, plain))
    assert ours.dtype == dtype
    rounding = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 0}
    torch.testing.assert_close(ours, expected, **rounding)


@pytest.mark.parametrize("dim", [1, -1])
def test_settings_on_the_device_are_read_there(dim):
    x, grad = 3 * torch.randn(3, 20, 9) + 1, torch.randn(3, 20, 9)
    told, live = (triton_balancer.balancer_gradient(x, grad, s, dim) for s in (SETTINGS, torch.tensor(SETTINGS)))
    torch.testing.assert_close(live, told, rtol=1e-6, atol=1e-7)
    assert not torch.equal(live, grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_settings_of_zero_read_no_activations_and_change_no_bit(dtype):
    x, grad = torch.full((3, 20, 9), torch.nan, dtype=dtype), torch.randn(3, 20, 9).to(dtype)
    assert torch.equal(triton_balancer.balancer_gradient(x, grad, torch.zeros(5), -1), grad)
