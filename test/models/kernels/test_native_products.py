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


# odd numbers of inputs, whole and partial tiles, panels and blocks
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (2, 3, 5, 7), (3, 90, 48, 96), (1, 65, 49, 17), (2, 40, 20, 130), (0, 4, 3, 2)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part", [1, 2])
def test_linear_in_half_precision_without_a_graph(sizes, dtype, part):
    """Numbers are rounded before the products and behind the sum; `part` of a projection is read where it lies."""
    torch.manual_seed(0)
    items, frames, depth, n = sizes
    x = torch.randn(items, frames, depth * part).to(dtype)[..., -depth:]
    weight, bias = torch.randn(n, depth), torch.randn(n)
    exact = torch.nn.functional.linear(x.bfloat16().double(), weight.bfloat16().double(), bias.double())
    before = native_products.operations
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours = native_products.linear(x, weight, bias)
        assert native_products.operations - before == 2 * x.numel() * n
        unbiased = native_products.linear(x, weight, None)
    assert ours.dtype == unbiased.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), exact, rtol=2**-8, atol=1e-4)
    torch.testing.assert_close(unbiased.double(), exact - bias.double(), rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("sizes", [(2, 3, 5, 7), (3, 90, 48, 96), (0, 4, 3, 2)])
def test_swoosh_linear_in_half_precision_without_a_graph(sizes):
    torch.manual_seed(0)
    items, frames, depth, n = sizes
    x, weight, bias = torch.randn(items, frames, depth).bfloat16(), torch.randn(n, depth), torch.randn(n)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours = native_products.swoosh_linear(x, None, weight, bias, 1.0, 0.3)
    hidden = plain.swoosh(x, 1.0, 0.3).double()
    exact = torch.nn.functional.linear(hidden, weight.bfloat16().double(), bias.double())
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), exact, rtol=2**-7, atol=2**-7)


def test_half_precision_keeps_what_is_not_finite_and_every_bit_on_any_number_of_threads():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 300, 33), torch.randn(50, 33), torch.randn(50)
    x[1, 2, 3], x[2, 3, 32] = float("nan"), float("inf")
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                results.append(native_products.linear(x, weight, bias))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0].view(torch.int16), results[1].view(torch.int16))
    finite = results[0].isfinite().all(-1)
    assert (~finite).nonzero().tolist() == [[1, 2], [2, 3]]
