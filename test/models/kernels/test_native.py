# SPDX-License-Identifier: Apache-2.0
"""The loops in C against the definitions: values, gradients, both precisions, any size, strides, NaN."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor

from icefall_alp.models.kernels import closed, native, native_convolutions, native_library, native_products, plain
from test.models.kernels import chain_cases

pytestmark = pytest.mark.skipif(native_library.library() is None, reason="no C compiler")
CLOSE = {"rtol": 2e-5, "atol": 2e-5}
LOOPS = ["swoosh", "swoosh_linear", "gate", "tanh_gate", "bias_norm", "depthwise_conv", "mix", "bypass"]
LOOPS += [
    "bypass of norm",
    "bypass of frames",
    "bypass of both",
    "attention_weights",
    "depthwise_image_conv",
    "feed_forward",
]
# which arguments are no parameters; else the first
ACTIVATIONS = {"swoosh_linear": (0, 1), "gate": (0, 1), "tanh_gate": (0, 1), "bypass": (1,), "mix": (0, 1)}
ACTIVATIONS |= {f"bypass of {what}": (1,) for what in ("norm", "frames", "both")}
ACTIVATIONS |= {"attention_weights": (0, 1, 2, 3), "feed_forward": (0, 1)}


@pytest.mark.parametrize("size", chain_cases.SIZES)
@pytest.mark.parametrize("chain", chain_cases.CHAINS)
def test_equals_the_definition(chain, size):
    ours = chain_cases.outputs_and_gradients(native, chain, size)
    for a, b in zip(ours, chain_cases.outputs_and_gradients(plain, chain, size), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("size", ["odd", "wide", "one_frame", "empty"])
@pytest.mark.parametrize("chain", [name for name in LOOPS if name != "bias_norm" and "conv" not in name])
def test_half_precision_stays_near_the_definition_in_full(chain, size):
    ours = chain_cases.outputs_and_gradients(native, chain, size, torch.bfloat16)
    for a, b in zip(ours, chain_cases.outputs_and_gradients(plain, chain, size), strict=True):
        assert a.dtype == torch.bfloat16
        near(a.float(), b)


def near(a: Tensor, b: Tensor) -> None:
    """Up to what is lost in bfloat16, and where all is lost, as in a softmax over one frame, up to zero."""
    assert (a - b).norm() <= 0.02 * b.norm() + 1e-3 * b.numel() ** 0.5


@pytest.mark.parametrize("chain", LOOPS)
def test_autocast_runs_forward_and_backward(chain):
    """Parameters in float32, activations in bfloat16."""
    tensors, constants = chain_cases.arguments(chain, "wide")
    halves = list(tensors)
    for i in ACTIVATIONS.get(chain, (0,)):
        halves[i] = tensors[i].detach().bfloat16().requires_grad_(tensors[i].requires_grad)
    with torch.autocast("cpu", torch.bfloat16):
        out = chain_cases.chain_of(native, chain)(*halves, *constants)
        expected = chain_cases.chain_of(plain, chain)(*tensors, *constants)
    out, expected = (x[0] if isinstance(x, tuple) else x for x in (out, expected))
    near(out.float(), expected.float())
    for a, b in zip(*(gradients(y, xs) for y, xs in ((out, halves), (expected, tensors))), strict=True):
        near(a.float(), b.float())


def gradients(y: Tensor, tensors: list[Tensor | None]) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    grad = torch.randn(y.shape).bfloat16().to(y.dtype)
    return torch.autograd.grad(y, [x for x in tensors if x is not None and x.requires_grad], grad)


@pytest.mark.parametrize("chain", ["gate", "tanh_gate"])
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_projection_are_read_where_they_lie(chain, parts):
    torch.manual_seed(0)
    projected = torch.randn(3, 7, 5 * parts, requires_grad=True)
    results = []
    constants = ((torch.rand(3, 7, 1) > 0.3).float(),) if chain == "gate" else ()
    for form in (native, plain):
        y = chain_cases.chain_of(form, chain)(*projected.chunk(parts, dim=-1)[:2], *constants)
        results.append((y.detach(), *torch.autograd.grad(y.square().sum(), projected)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def strided(x: Tensor) -> Tensor:
    """The same numbers, every other one in memory."""
    wide = torch.zeros(*x.shape, 2, dtype=x.dtype)
    wide[..., 0] = x.detach()
    return wide[..., 0].requires_grad_(x.requires_grad)


@pytest.mark.parametrize("chain", chain_cases.CHAINS)
def test_any_layout_in_memory(chain):
    tensors, constants = chain_cases.arguments(chain, "odd")
    for kept in (True, False):
        with torch.set_grad_enabled(kept):
            dense = chain_cases.chain_of(native, chain)(*tensors, *constants)
            spread = chain_cases.chain_of(native, chain)(*(x if x is None else strided(x) for x in tensors), *constants)
        torch.testing.assert_close(spread, dense)


@pytest.mark.parametrize("chain", [name for name in chain_cases.CHAINS if name != "image_conv"])
def test_an_axis_of_one_may_have_any_stride(chain):
    """PyTorch calls such a tensor contiguous; the distance between its rows is not that number."""
    tensors, constants = chain_cases.arguments(chain, "one_frame")
    odd = [x if x is None else chain_cases.oddly_strided(x) for x in tensors]
    for kept in (True, False):
        with torch.set_grad_enabled(kept):
            torch.testing.assert_close(
                chain_cases.chain_of(native, chain)(*odd, *constants),
                chain_cases.chain_of(native, chain)(*tensors, *constants),
            )


def test_a_gradient_of_one_frame_may_have_any_stride():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 1, 8, requires_grad=True), torch.randn(8, 1, 5), torch.randn(8)
    grad = chain_cases.oddly_strided(torch.randn(3, 1, 8))
    found = [torch.autograd.grad(form.depthwise_conv(x, weight, bias, 2), x, grad)[0] for form in (native, plain)]
    torch.testing.assert_close(*found)


def test_a_mask_in_float32_does_not_keep_half_precision_from_the_loops(monkeypatch):
    """As models pass it under autocast, made like their input."""
    tensors, constants = chain_cases.arguments("feed_forward", "wide")
    monkeypatch.setattr(closed, "swoosh_linear", None)
    with torch.autocast("cpu", torch.bfloat16):
        out, expected = (form.feed_forward(*tensors, *constants) for form in (native, plain))
    near(out.float(), expected.float())


@pytest.mark.parametrize("form", [native, closed])
def test_a_feed_forward_without_biases_has_gradients_in_half_precision(form):
    (x, mask, weight, _, out_weight, _), constants = chain_cases.arguments("feed_forward", "odd", torch.bfloat16)
    grads = torch.autograd.grad(
        form.feed_forward(x, mask, weight, None, out_weight, None, *constants).sum(), (x, weight, out_weight)
    )
    assert all(grad.isfinite().all() for grad in grads)


def test_swoosh_of_images_with_channels_innermost():
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 5, 40, 30)).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    y, expected = native.swoosh(x, 1.0, 0.313), plain.swoosh(x, 1.0, 0.313)
    torch.testing.assert_close(y, expected)
    assert y.stride() == x.stride()
    grad = torch.randn(y.shape)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, grad)[0] for out in (y, expected)))


def test_swoosh_is_as_exact_as_float32_allows():
    x = torch.cat((torch.linspace(-200, 200, 100_001), torch.tensor([1e-30, -1e30, 1e30, 3e38, -3e38])))
    exact = torch.nn.functional.softplus(x.double() - 4.0, threshold=1e9) - 0.08 * x.double() - 0.035
    error = (native.swoosh(x, 4.0, 0.035) - exact).abs()
    assert (error <= 3e-7 * (1 + x.abs())).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("chain", LOOPS)
def test_what_is_not_finite_stays_so(chain, bad, dtype):
    """In the value, or else the gradient: a trainer must see it."""
    tensors, constants = chain_cases.arguments(chain, "wide", dtype)
    first = tensors[0].detach().clone()
    first[-1, -1] = bad
    first.requires_grad_()
    found = []
    for form in (native, plain):
        outputs = chain_cases.chain_of(form, chain)(first, *tensors[1:], *constants)
        output = outputs[0] if isinstance(outputs, tuple) else outputs
        (grad,) = torch.autograd.grad(output, first, torch.ones_like(output))
        found.append(not bool(output.isfinite().all()) or not bool(grad.isfinite().all()))
    assert found[0] == found[1]


@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize("shape", [(40, 6, 3), (1, 5, 1), (3, 70, 9), (2, 5, 4, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_balancer(shape, dim, dtype):
    torch.manual_seed(0)
    x, grad = (3 * torch.randn(shape) + 1).to(dtype), torch.randn(shape).to(dtype)
    half = 2 * shape[-1]
    part = torch.cat((x, x), dim=-1)[..., : half // 2]
    arguments = (grad, (-0.1, 0.1, 0.2, 1.0, 0.04), dim)
    expected = plain.balancer_gradient(x, *arguments)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 1e-2}
    for ours in (native.balancer_gradient(x, *arguments), native.balancer_gradient(part, *arguments)):
        torch.testing.assert_close(ours, expected, **tolerance)


@pytest.mark.parametrize("x", [torch.randn(1, 8, 26, 19).permute(0, 2, 3, 1), torch.randn(8, 40).t()])
def test_balancer_of_one_image_whose_channels_are_outermost(x):
    """Its rows are a view in which channels are the longer distance."""
    arguments = (torch.randn(x.shape), (-0.1, 0.1, 0.2, 1.0, 0.04), -1)
    ours, expected = (form.balancer_gradient(x, *arguments) for form in (native, plain))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chain", LOOPS)
def test_threads_change_no_bit(chain):
    """Nor does a second call."""
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 3, 3):
            torch.set_num_threads(number)
            results.append(chain_cases.outputs_and_gradients(native, chain, "wide"))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_threads_change_no_bit_of_sums_over_many_rows():
    torch.manual_seed(0)
    x, new = torch.randn(40, 1000, 4), torch.randn(40, 1000, 4)
    parameters = [torch.rand(4), torch.rand(4), torch.tensor(0.3)]
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            leaves = [p.clone().requires_grad_() for p in parameters]
            out = native.bypass(x, new, *leaves) + native.bias_norm(new, *leaves[1:])
            results.append(torch.autograd.grad(out.square().sum(), leaves))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_other_types_are_left_to_the_closed_forms():
    x = torch.randn(3, 4, dtype=torch.double)
    assert torch.equal(native.swoosh(x, 1.0, 0.3), closed.swoosh(x, 1.0, 0.3))


def test_positions_may_be_left_out_and_scores_be_looked_at():
    (q, k, *rest), _ = chain_cases.arguments("attention_weights", "odd")
    grads = []
    for form in (native, plain):
        weights, first = form.attention_weights(q, k, None, None, None, 2, None)
        assert torch.equal(first, weights[0])
        grads.append(torch.autograd.grad(weights[0, 0].square().sum() + first.square().sum(), (q, k)))
    torch.testing.assert_close(*grads)
    seen = []
    native.attention_weights(q, k, *rest, 2, lambda scores: seen.append(scores) or scores)
    assert seen[0].shape == (6, 7, 7)


WRONG_SHAPES = {
    "linear": [(2, 5, 8), (4, 7), (4,)],
    "feed_forward": [(2, 5, 8), None, (6, 8), (6,), (8, 5), (8,)],
    "bias_norm": [(2, 5, 8), (7,), ()],
    "depthwise_conv": [(2, 5, 8), (7, 1, 3), (7,)],
    "depthwise_image_conv": [(2, 5, 3, 8), (7, 1, 7, 7), (7,)],
    "image_conv": [(1, 1, 9, 9), (0, 1, 3, 3), (0,)],
    "gate": [(2, 5, 8), (2, 6, 8), (2, 5, 1)],
    "bypass": [(2, 5, 8), (2, 5, 7), (8,)],
    "bypass of norm": [(2, 5, 8), (2, 5, 8), (8,), (7,), ()],
    "bypass of frames": [(2, 5, 8), (2, 1, 8), (8,)],
    "mix": [(2, 3, 5, 5), (3, 4, 8)],
    "attention_weights": [(2, 5, 8), (2, 5, 6), None, None, None],
}


@pytest.mark.parametrize("chain", WRONG_SHAPES)
def test_tensors_that_do_not_fit_are_refused_as_pytorch_refuses_them(chain):
    """A loop would read past their ends."""
    constants = {"depthwise_conv": (1,), "attention_weights": (2, None), "feed_forward": (4.0, 0.035, torch.clone)}
    constants |= {"image_conv": ((1, 1), (0, 1)), "bypass of frames": (None, None, 2)}
    tensors = [None if shape is None else torch.randn(shape) for shape in WRONG_SHAPES[chain]]
    for kept in (True, False):
        with torch.set_grad_enabled(kept), pytest.raises((RuntimeError, ValueError)):
            chain_cases.chain_of(native, chain)(*tensors, *constants.get(chain, ()))


@pytest.mark.parametrize("chain", LOOPS)
def test_no_loop_is_given_a_tensor_on_another_device(chain, monkeypatch):
    def call(name, *arguments):
        assert not any(isinstance(x, Tensor) and x.is_meta for x in arguments), name

    for module in (native, native_products, native_convolutions):
        monkeypatch.setattr(module, "call", call)
    tensors, constants = chain_cases.arguments(chain, "odd")
    elsewhere = [x if i == 0 or x is None else x.to("meta") for i, x in enumerate(tensors)]
    with contextlib.suppress(RuntimeError):
        chain_cases.chain_of(native, chain)(*elsewhere, *constants)


def test_an_encoder_in_half_precision_reads_its_parameters_as_they_are():
    x, bias, log_scale = torch.randn(2, 5, 8).bfloat16(), torch.randn(8).bfloat16(), torch.tensor(0.3).bfloat16()
    near(native.bias_norm(x, bias, log_scale).float(), plain.bias_norm(x, bias, log_scale).float())
