# SPDX-License-Identifier: Apache-2.0
"""Triton's depthwise convolutions against PyTorch's in float64, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels.operations import unseen_operations

triton_convolutions = pytest.importorskip("icefall_alp.models.kernels.triton_convolutions")
pytestmark = pytest.mark.usefixtures("on_the_device")


def results(convolve, shapes, dtype, scale=1.0):
    """Value and gradients in double precision, of numbers that half precision holds."""
    torch.manual_seed(0)
    leaves = [(scale * torch.randn(shape)).bfloat16().to(dtype).requires_grad_() for shape in shapes]
    y = convolve(*leaves)
    torch.manual_seed(1)
    grads = torch.autograd.grad(y, leaves, torch.randn(y.shape).bfloat16().to(dtype))
    assert all(x.dtype == dtype for x in (y, *grads))
    return [x.detach().double() for x in (y, *grads)]


def over_time(x, weight, bias, padding):
    return F.conv1d(x.transpose(1, 2), weight, bias, padding=padding, groups=len(weight)).transpose(1, 2)


def over_images(x, weight, bias):
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[2] // 2, groups=len(weight))
    return y.permute(0, 2, 3, 1)


# less than a tile of channels, a whole one, one more; fewer frames than taps; more than a program takes at a time
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 40, 21), (3, 9, 64), (1, 5, 65), (2, 300, 3), (0, 4, 6)])
@pytest.mark.parametrize(("taps", "padding"), [(1, 0), (7, 3), (15, 7), (31, 15)])
def test_time_of_any_size(size, taps, padding):
    shapes = (size, (size[2], 1, taps), (size[2],))
    ours = results(lambda *x: triton_convolutions.depthwise_conv(*x, padding), shapes, torch.float32)
    for a, b in zip(ours, results(lambda *x: over_time(*x, padding), shapes, torch.float64), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_without_as_many_zeros_there_are_fewer_frames_and_with_more_there_are_more(padding):
    shapes = ((2, 9, 5), (5, 1, 5), (5,))
    ours = results(lambda *x: triton_convolutions.depthwise_conv(*x, padding), shapes, torch.float32)
    assert ours[0].shape[1] == 9 + 2 * padding - 4
    for a, b in zip(ours, results(lambda *x: over_time(*x, padding), shapes, torch.float64), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


# fewer frames or bins than the filter has, parts of a tile, several shares
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 12, 19, 16), (1, 3, 5, 66), (1, 30, 2, 7), (0, 4, 3, 8)])
@pytest.mark.parametrize("taps", [7, 3])
def test_images_of_any_size(monkeypatch, size, taps):
    monkeypatch.setattr(triton_convolutions, "SHARE", 16)
    shapes = (size, (size[3], 1, taps, taps), (size[3],))
    ours = results(triton_convolutions.depthwise_image_conv, shapes, torch.float32)
    for a, b in zip(ours, results(over_images, shapes, torch.float64), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("images", [True, False])
def test_half_precision_stays_near_double(dtype, images):
    shapes = ((2, 20, 5, 6), (6, 1, 7, 7), (6,)) if images else ((2, 40, 6), (6, 1, 15), (6,))
    ours, exact = (
        (triton_convolutions.depthwise_image_conv, over_images)
        if images
        else (lambda *x: triton_convolutions.depthwise_conv(*x, 7), lambda *x: over_time(*x, 7))
    )
    expected = results(exact, shapes, torch.float64)
    for a, b in zip(results(ours, shapes, dtype), expected, strict=True):
        assert (a - b).norm() <= 0.01 * b.norm()  # the interpreter cuts off instead of rounding


def test_frames_of_half_precision_meet_filters_in_full():
    """As under autocast: the filters and their gradients keep their digits."""
    torch.manual_seed(0)
    x = torch.randn(2, 40, 6).bfloat16().requires_grad_()
    weight, bias = torch.randn(6, 1, 7, requires_grad=True), torch.randn(6, requires_grad=True)
    y = triton_convolutions.depthwise_conv(x, weight, bias, 3)
    grads = torch.autograd.grad(y, (x, weight, bias), y.detach())
    assert [t.dtype for t in (y, *grads)] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    exact = torch.autograd.grad(over_time(*wide, 3), wide, y.detach().double())
    torch.testing.assert_close(grads[1].double(), exact[1], rtol=1e-5, atol=1e-4)


def test_the_half_of_a_projection_is_read_where_it_lies():
    torch.manual_seed(0)
    leaves = projected, weight, bias = [
        torch.randn(shape, requires_grad=True) for shape in ((3, 7, 10), (5, 1, 3), (5,))
    ]
    _, half = projected.chunk(2, dim=-1)
    y, expected = triton_convolutions.depthwise_conv(half, weight, bias, 1), over_time(half, weight, bias, 1)
    torch.testing.assert_close(y, expected)
    ours, exact = (torch.autograd.grad(out.square().sum(), leaves) for out in (y, expected))
    torch.testing.assert_close(ours, exact)


def test_gradients_are_computed_where_they_are_asked_for_and_all_is_counted():
    x, weight, bias = torch.randn(2, 5, 3, 4), torch.randn(4, 1, 7, 7, requires_grad=True), torch.randn(4)
    before = unseen_operations()
    triton_convolutions.depthwise_image_conv(x, weight, bias).sum().backward()
    assert unseen_operations() - before == 2 * 2 * x.numel() * 7 * 7  # forward, and the gradient of the weight
    torch.testing.assert_close(weight.grad[:, 0, 3, 3], x.sum((0, 1, 2)))


@pytest.mark.parametrize("name", ["depthwise_conv", "depthwise_image_conv"])
def test_what_the_kernels_do_not_know_is_a_librarys(monkeypatch, name):
    """Double precision, filters of even width, and ones too large for a program."""
    asked = []
    monkeypatch.setattr(closed, name, lambda *arguments: asked.append(arguments))
    image = name == "depthwise_image_conv"
    for taps, dtype in ((3, torch.float64), (4 if image else 200, torch.float32), (13 if image else 9, torch.float32)):
        x = torch.randn(2, 5, *([3] if image else []), 4, dtype=dtype)
        weight = torch.randn(4, 1, *([taps] * (2 if image else 1)), dtype=dtype)
        getattr(triton_convolutions, name)(x, weight, torch.randn(4, dtype=dtype), *([] if image else [1]))
    assert len(asked) == 3


@pytest.mark.parametrize("shapes", [[(1, 2, 3), (3, 1, 5), (3,)], [(1, 4, 0), (0, 1, 5), (0,)]])
def test_what_a_library_refuses_to_convolve_is_refused(shapes):
    with pytest.raises(RuntimeError):
        triton_convolutions.depthwise_conv(*map(torch.randn, shapes), 1)
