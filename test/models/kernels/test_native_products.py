# SPDX-License-Identifier: Apache-2.0
"""Products of our own against float64; all chains around them are tested in test_native.py."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import native_library, native_products, plain
from icefall_alp.models.kernels.operations import unseen_operations

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


def test_a_layer_without_inputs_gives_its_bias():
    x, weight, bias = torch.empty(2, 3, 0), torch.empty(4, 0), torch.randn(4)
    for y in (native_products.linear(x, weight, bias), native_products.swoosh_linear(x, None, weight, bias, 1.0, 0.3)):
        torch.testing.assert_close(y, bias.expand(2, 3, 4), rtol=0, atol=0)


# hidden columns at once: all, some, or a few where rows are so wide that the cache holds no more
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1, 1), (2, 90, 7, 130, 5), (3, 65, 192, 1000, 192), (1, 3, 2100, 100, 2100), (0, 4, 3, 2, 5)]
)
def test_feed_forward_of_any_size_without_a_graph(sizes):
    torch.manual_seed(0)
    items, frames, depth, hidden, n = sizes
    x, weight, bias = torch.randn(items, frames, depth), torch.randn(hidden, depth) / depth**0.5, torch.randn(hidden)
    out_weight, out_bias = torch.randn(n, hidden) / hidden**0.5, torch.randn(n)
    before = unseen_operations()
    with torch.no_grad():
        ours = native_products.feed_forward(x, None, weight, bias, out_weight, out_bias, 4.0, 0.035, never)
    assert unseen_operations() - before == 2 * items * frames * hidden * (depth + n)
    middle = x.double() @ weight.double().t() + bias.double()
    middle = torch.nn.functional.softplus(middle - 4.0) - 0.08 * middle - 0.035
    torch.testing.assert_close(
        ours.double(), middle @ out_weight.double().t() + out_bias.double(), rtol=1e-5, atol=1e-5
    )


def never(x):
    raise AssertionError("there is no gradient to modify")


def test_feed_forward_reads_rows_where_they_lie_and_may_have_no_bias():
    torch.manual_seed(0)
    wide, weight, out_weight = torch.randn(2, 9, 20), torch.randn(11, 10), torch.randn(3, 11)
    with torch.no_grad():
        found = [
            form.feed_forward(x, None, weight, None, out_weight, None, 1.0, 0.3, torch.clone)
            for form, x in ((native_products, wide[..., 10:]), (plain, wide[..., 10:].clone()))
        ]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_feed_forward_threads_change_no_bit():
    threads, found = torch.get_num_threads(), []
    torch.manual_seed(0)
    tensors = [torch.randn(200, 192), None, torch.randn(900, 192), torch.randn(900), torch.randn(192, 900), None]
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            with torch.no_grad():
                found.append(native_products.feed_forward(*tensors, 4.0, 0.035, torch.clone))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_only_what_is_asked_for_is_computed():
    x, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    before = unseen_operations()
    native_products.linear(x, weight, None).sum().backward()
    assert unseen_operations() - before == 2 * 2 * 3 * 4 * 5
    torch.testing.assert_close(weight.grad, x.sum(0).expand(5, -1))


def test_operations_are_those_of_the_definition():
    weights, values = torch.rand(2, 3, 7, 7), torch.randn(3, 7, 8)
    before = unseen_operations()
    torch.testing.assert_close(native_products.mix(weights, values), plain.mix(weights, values))
    assert unseen_operations() - before == 2 * 2 * 3 * 7 * 7 * 4
