# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions against float64; all forms and layouts are compared in test_native.py."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from icefall_alp.models.kernels import native_convolutions, native_library
from icefall_alp.models.kernels.operations import unseen_operations

pytestmark = pytest.mark.skipif(native_library.library() is None, reason="no C compiler")


def both(convolve, exact, shapes):
    """Value and gradients of ours in float32 and of the exact one in float64."""
    torch.manual_seed(0)
    tensors = [torch.randn(shape) for shape in shapes]
    for function, dtype in ((convolve, torch.float32), (exact, torch.float64)):
        leaves = [x.to(dtype).requires_grad_() for x in tensors]
        y = function(*leaves)
        torch.manual_seed(1)
        yield y.detach(), *torch.autograd.grad(y, leaves, torch.randn(y.shape).to(dtype))


# parts of a register, whole ones and more; rows of one partial sum, fewer, one more; fewer bins than the filter has
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 32, 19, 16), (3, 33, 5, 21), (1, 70, 2, 40), (0, 4, 3, 8)])
def test_images_of_any_size(size):
    channels = size[-1]

    def exact(x, weight, bias):
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=3, groups=channels)
        return y.permute(0, 2, 3, 1)

    shapes = (size, (channels, 1, 7, 7), (channels,))
    for a, b in zip(*both(native_convolutions.depthwise_image_conv, exact, shapes), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("taps", [1, 7, 31])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 40, 21), (3, 9, 32)])
def test_time_of_any_size(size, taps):
    channels, padding = size[-1], taps // 2

    def exact(x, weight, bias):
        return F.conv1d(x.transpose(1, 2), weight, bias, padding=padding, groups=channels).transpose(1, 2)

    def ours(x, weight, bias):
        return native_convolutions.depthwise_conv(x, weight, bias, padding)

    for a, b in zip(*both(ours, exact, (size, (channels, 1, taps), (channels,))), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=2e-4)


def test_the_gradient_of_an_image_is_computed_where_it_is_asked_for():
    x, weight, bias = torch.randn(2, 5, 3, 4), torch.randn(4, 1, 7, 7, requires_grad=True), torch.randn(4)
    before = unseen_operations()
    native_convolutions.depthwise_image_conv(x, weight, bias).sum().backward()
    assert x.grad is None
    assert unseen_operations() - before == 2 * 2 * x.numel() * 7 * 7  # forward, and the gradient of the weight
    torch.testing.assert_close(weight.grad[:, 0, 3, 3], x.sum((0, 1, 2)))


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 2, 3), (3, 1, 5), (3,)],
        [(1, 0, 3), (3, 1, 5), (3,)],
        [(1, 4, 0), (0, 1, 5), (0,)],
        [(1, 4, 3), (3, 1, 5, 2), (3,)],
    ],
)
def test_what_a_library_refuses_to_convolve_over_time_is_refused(shapes):
    """Fewer frames than taps, nothing, and filters of images."""
    with pytest.raises(RuntimeError):
        native_convolutions.depthwise_conv(*map(torch.randn, shapes), 1)


@pytest.mark.parametrize("size", [(1, 0, 3, 4), (1, 3, 0, 4), (1, 3, 3, 0)])
def test_images_of_no_size_are_refused(size):
    with pytest.raises(RuntimeError):
        native_convolutions.depthwise_image_conv(
            torch.randn(size), torch.randn(size[-1], 1, 7, 7), torch.randn(size[-1])
        )


def test_filters_of_another_width_are_a_librarys():
    x, weight, bias = torch.randn(2, 5, 3, 4), torch.randn(4, 1, 3, 3, requires_grad=True), torch.randn(4)
    native_convolutions.depthwise_image_conv(x, weight, bias).sum().backward()
    torch.testing.assert_close(weight.grad[:, 0, 1, 1], x.sum((0, 1, 2)))


# whole and partial groups of pixels, more channels than a register has lanes for, whole and partial stretches
@pytest.mark.parametrize("channels", [(1, 4), (4, 8), (3, 5), (2, 16), (7, 9)])
@pytest.mark.parametrize("size", [(2, 40, 21), (1, 3, 3), (3, 19, 80), (0, 5, 4)])
@pytest.mark.parametrize(("stride", "padding"), [((1, 1), 1), ((2, 2), 0), ((1, 2), 0)])
def test_images_of_few_channels_of_any_size(channels, size, stride, padding):
    torch.manual_seed(0)
    x = torch.randn(size[0], channels[0], *size[1:])
    weight, bias = torch.randn(channels[1], channels[0], 3, 3), torch.randn(channels[1])
    before = unseen_operations()
    with torch.no_grad():
        ours = native_convolutions.image_conv(x, weight, bias, stride, (0, padding))
    exact = F.conv2d(x.double(), weight.double(), bias.double(), stride, (0, padding))
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-4)
    assert unseen_operations() - before == 2 * exact.numel() * channels[0] * 9


def test_the_number_of_threads_changes_no_bit():
    x, weight, bias = torch.randn(3, 4, 50, 21), torch.randn(8, 4, 3, 3), torch.randn(8)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            with torch.no_grad():
                results.append(native_convolutions.image_conv(x, weight, bias, (1, 2), (0, 0)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_larger_filters_go_to_a_library():
    x, weight, bias = torch.randn(1, 2, 9, 9), torch.randn(4, 2, 5, 5), torch.randn(4)
    with torch.no_grad():
        y = native_convolutions.image_conv(x, weight, bias, (1, 1), (0, 0))
    torch.testing.assert_close(y, F.conv2d(x, weight, bias))


def test_images_of_other_channels_are_refused_as_pytorch_refuses_them():
    with torch.no_grad(), pytest.raises(RuntimeError, match="channels"):
        native_convolutions.image_conv(torch.randn(1, 2, 9, 9), torch.randn(4, 3, 3, 3), torch.randn(4), (1, 1), (0, 0))
