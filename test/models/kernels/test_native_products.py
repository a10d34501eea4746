# SPDX-License-Identifier: Apache-2.0
"""Products of our own against float64; all chains around them are tested in test_native.py."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import native_library, native_products, plain

pytestmark = pytest.mark.skipif(native_library.library() is None, reason="no C compiler")


@pytest.mark.parametrize("swoosh", [None, (1.0, 0.3)])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (2, 3, 5, 7), (3, 90, 48, 96), (1, 65, 49, 17), (2, 300, 20, 130), (0, 4, 3, 2)]
)
def test_linear_of_any_size(sizes, swoosh):
    """Whole and partial tiles, panels and blocks."""
    torch.manual_seed(0)
    items, frames, depth, n = sizes
    x, mask = torch.randn(items, frames, depth), (torch.rand(items, 1, depth) > 0.3).float() if swoosh else None
    tensors = [x, torch.randn(n, depth), torch.randn(n)]
    results = []
    for dtype in (torch.float32, torch.float64):
        x, weight, bias = (t.to(dtype).requires_grad_() for t in tensors)
        if dtype == torch.float32:
            linear = native_products.swoosh_linear
            y = linear(x, mask, weight, bias, *swoosh) if swoosh else native_products.linear(x, weight, bias)
        else:
            hidden = torch.nn.functional.softplus(x - 1.0) - 0.08 * x - 0.3 if swoosh else x
            y = torch.nn.functional.linear(hidden * mask if swoosh else hidden, weight, bias)
        torch.manual_seed(1)
        grad = torch.randn(y.shape).to(dtype)
        results.append((y.detach(), *torch.autograd.grad(y, (x, weight, bias), grad)))
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-4)


def test_only_what_is_asked_for_is_computed():
    x, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    before = native_products.operations
    native_products.linear(x, weight, None).sum().backward()
    assert native_products.operations - before == 2 * 2 * 3 * 4 * 5
    torch.testing.assert_close(weight.grad, x.sum(0).expand(5, -1))


def test_operations_are_those_of_the_definition():
    weights, values = torch.rand(2, 3, 7, 7), torch.randn(3, 7, 8)
    before = native_products.operations
    torch.testing.assert_close(native_products.mix(weights, values), plain.mix(weights, values))
    assert native_products.operations - before == 2 * 2 * 3 * 7 * 7 * 4
