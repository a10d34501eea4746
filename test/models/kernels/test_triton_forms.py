# SPDX-License-Identifier: Apache-2.0
"""The Triton forms against the definitions, forward and backward, any size."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import plain
from icefall_alp.models.kernels.modifiers import AbsPenalty
from test.models.kernels import chain_cases

triton_forms = pytest.importorskip("icefall_alp.models.kernels.triton_forms")
pytestmark = pytest.mark.usefixtures("on_the_device")


FUSED = [
    "swoosh", "swoosh_linear", "feed_forward", "pointwise_feed_forward", "gate", "tanh_gate", "residual",
    "bypass", "bypass of norm", "bypass of frames", "bypass of both", "bias_norm", "attention_weights",
    "depthwise_conv", "depthwise_image_conv", "logits",
]  # fmt: skip


@pytest.mark.parametrize("size", chain_cases.SIZES)
@pytest.mark.parametrize("chain", FUSED)
def test_equals_the_definition(chain, size):
    ours = chain_cases.outputs_and_gradients(triton_forms, chain, size)
    for a, b in zip(ours, chain_cases.outputs_and_gradients(plain, chain, size), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("size", chain_cases.SIZES)
@pytest.mark.parametrize("chain", FUSED)
def test_half_precision_stays_near_the_definition_in_full(chain, size):
    ours = chain_cases.outputs_and_gradients(triton_forms, chain, size, torch.bfloat16)
    for place, (a, b) in enumerate(zip(ours, chain_cases.outputs_and_gradients(plain, chain, size), strict=True)):
        # a norm's sum is the residual stream, in full
        assert a.dtype == (torch.float32 if chain == "bias_norm" and place == 0 else torch.bfloat16)
        assert a.isfinite().all() and (a.float() - b).norm() <= 0.1 * b.norm()  # weights are kept rounded


@pytest.mark.parametrize("chain", FUSED)
def test_a_gradient_of_gradients_is_right_or_refused(chain):
    chain_cases.check_gradients_of_gradients(triton_forms, chain)


def test_logits_of_one_token_at_a_time_are_computed_without_a_copy_of_the_vocabulary():
    x, weight, bias = torch.randn(2, 5), torch.randn(13, 5), torch.randn(13)
    with torch.no_grad():
        assert triton_forms.logits(x, weight, bias).stride() == (13, 1)
    logits = triton_forms.logits(x, weight, bias)
    assert logits.stride() == (16, 1)
    torch.testing.assert_close(logits, x @ weight.T + bias)


@pytest.mark.parametrize("chain", FUSED)
def test_an_axis_of_one_may_have_any_stride(chain):
    tensors, constants = chain_cases.arguments(chain, "one_frame")
    odd = [x if x is None else chain_cases.oddly_strided(x) for x in tensors]
    torch.testing.assert_close(
        chain_cases.chain_of(triton_forms, chain)(*odd, *constants),
        chain_cases.chain_of(triton_forms, chain)(*tensors, *constants),
    )


def test_the_halves_of_a_projection_are_read_where_they_lie():
    torch.manual_seed(0)
    projected = torch.randn(3, 7, 10, requires_grad=True)
    keep = (torch.rand(3, 7, 1) > 0.3).float()
    results = []
    for form in (triton_forms, plain):
        y = form.gate(*projected.chunk(2, dim=-1), keep)
        results.append((y.detach(), *torch.autograd.grad(y.square().sum(), projected)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("frames", [3, 700])
def test_a_bypass_may_have_a_scale_for_each_item(frames):
    torch.manual_seed(0)
    x, y = (torch.randn(3, frames, 6, requires_grad=True) for _ in range(2))
    scale, grad = torch.rand(3, 1, 6, requires_grad=True), torch.randn(3, frames, 6)
    ours, expected = (
        (z := form.bypass(x, y, scale), *torch.autograd.grad(z, (x, y, scale), grad)) for form in (triton_forms, plain)
    )
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", chain_cases.SIZES)
def test_slopes_kept_in_eight_bits_serve_half_precision(monkeypatch, size):
    monkeypatch.setattr(triton_forms, "EIGHT_BIT", True)
    ours, expected = (
        chain_cases.outputs_and_gradients(form, "swoosh", size, dtype)
        for form, dtype in ((triton_forms, torch.bfloat16), (plain, torch.float32))
    )
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == torch.bfloat16 and (a.float() - b).norm() <= 0.05 * b.norm()


@pytest.mark.parametrize("eight_bit", [False, True])
def test_swoosh_of_images_with_channels_innermost(monkeypatch, eight_bit):
    """Kept in eight bits the slope is off by at most one step of 1/254, and on average by nothing."""
    monkeypatch.setattr(triton_forms, "EIGHT_BIT", eight_bit)
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 5, 40, 30)).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    y, expected = triton_forms.swoosh(x, 1.0, 0.313), plain.swoosh(x, 1.0, 0.313)
    torch.testing.assert_close(y, expected)
    assert y.stride() == x.stride()
    (slope,), (exact,) = (torch.autograd.grad(out.sum(), x) for out in (y, expected))
    error = (slope - exact).abs().max()
    assert error < (1.01 / 254 if eight_bit else 1e-6)
    assert not eight_bit or (error > 1e-3 and abs(float((slope - exact).mean())) < 1e-4)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("settings", [(0.01,), torch.tensor([0.01]), torch.tensor([0.0])])
@pytest.mark.parametrize("loss_scale", [0.5, torch.tensor(0.5)])
def test_scores_beyond_the_limit_are_penalised_and_never_written(positions, settings, loss_scale, on_the_device):
    """A penalty of 0 on the device is none, in a step that is recorded."""
    settings, loss_scale = (x.to(on_the_device) if torch.is_tensor(x) else x for x in (settings, loss_scale))
    (q, k, p, pos, bias), (num_heads, _) = chain_cases.arguments("attention_weights", "odd")
    penalty = AbsPenalty(0.5, settings, lambda: loss_scale)
    tensors = (q, k, p, pos) if positions else (q, k, None, None)
    leaves, found = [x for x in tensors if x is not None], []
    for form, with_penalty in ((triton_forms, penalty), (plain, penalty), (plain, None)):
        weights, first = form.attention_weights(*tensors, bias, num_heads, with_penalty)
        grads = torch.autograd.grad(weights.square().sum() + first.sum(), leaves)
        found.append((weights, torch.cat([grad.flatten() for grad in grads])))
    (weights, ours), (expected, penalised), (_, free) = found
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(ours, penalised, rtol=1e-4, atol=1e-5)
    assert torch.equal(penalised, free) == (not settings[0])


def test_positions_may_be_left_out():
    (q, k, *_), _ = chain_cases.arguments("attention_weights", "odd")
    without, _ = triton_forms.attention_weights(q, k, None, None, None, 2, None)
    torch.testing.assert_close(without[0, 0], (q[0, :, :5] @ k[0, :, :5].T).softmax(-1))


def test_norm_of_half_precision_is_in_full():
    x = torch.randn(2, 9, 5).bfloat16()
    bias, scale = torch.randn(5), torch.tensor(0.3)
    y = triton_forms.bias_norm(x, bias, scale)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, plain.bias_norm(x, bias, scale))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("size", chain_cases.SIZES)
def test_under_autocast_a_residual_sum_comes_in_both_types(size, kept, on_the_device):
    (x, branch, keep), _ = chain_cases.arguments("residual", size)
    keep = keep if kept else None
    grads = [torch.randn_like(x), torch.randn_like(x).bfloat16()]
    narrow = branch.detach().bfloat16().requires_grad_()
    with torch.autocast(on_the_device, torch.bfloat16):
        total, value = triton_forms.residual(x, narrow, keep)
    expected, same = plain.residual(x, branch, keep)
    assert total.dtype == torch.float32 and value.dtype == torch.bfloat16
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(
        value.float(), expected, rtol=2**-7, atol=0
    )  # the interpreter cuts off instead of rounding
    ours = torch.autograd.grad((total, value), (x, narrow), grads)
    torch.testing.assert_close(ours[0], grads[0] + grads[1].float())
    exact = torch.autograd.grad((expected, same), (x, branch), grads)
    torch.testing.assert_close(ours[1].float(), exact[1], rtol=2**-7, atol=0)


@pytest.mark.parametrize("used", [0, 1])
def test_one_type_of_a_residual_sum_may_be_left_unused(used, on_the_device):
    (x, branch, keep), _ = chain_cases.arguments("residual", "odd")
    with torch.autocast(on_the_device, torch.bfloat16):
        result = triton_forms.residual(x, branch, keep)[used]
    grad_x, grad_branch = torch.autograd.grad(result, (x, branch), torch.ones_like(result))
    assert torch.equal(grad_x, torch.ones_like(x))
    assert torch.equal(grad_branch, torch.ones_like(x) * keep)


def test_a_residual_sum_without_autocast_or_of_other_shapes_is_left_to_a_library(on_the_device):
    x, branch = torch.randn(2, 3, 4), torch.randn(1, 3, 4)
    assert triton_forms.residual(x, x, None)[1].dtype == torch.float32
    with torch.autocast(on_the_device, torch.bfloat16):
        assert torch.equal(triton_forms.residual(x, branch, None)[0], x + branch)
        total, value = triton_forms.residual(x.bfloat16(), x.bfloat16(), None)
    assert total is value


@pytest.mark.parametrize("used", [0, 1])
def test_weights_of_all_heads_or_of_the_first_may_be_left_unused(used):
    tensors, constants = chain_cases.arguments("attention_weights", "odd")
    grads = []
    for form in (triton_forms, plain):
        result = form.attention_weights(*tensors, *constants)[used]
        grads.append(torch.autograd.grad(result.square().sum(), tensors[:4]))
    torch.testing.assert_close(*grads, rtol=2e-5, atol=2e-5)


def test_every_gradient_of_the_relative_scores_is_written(monkeypatch):
    (*tensors, bias), constants = chain_cases.arguments("attention_weights", "odd")
    weights, _ = triton_forms.attention_weights(*tensors, bias, *constants)
    made = []
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda x, *shape, **_kind: made.append(shape) or torch.full(shape, torch.nan)
    )
    assert torch.autograd.grad(weights.square().sum(), tensors[3])[0].isfinite().all()
    assert (6, 7, 14) in made


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("types", chain_cases.TYPES_OF_BYPASS.values(), ids=chain_cases.TYPES_OF_BYPASS)
def test_a_bypass_has_the_type_of_its_original(types, normed):
    chain_cases.check_types_of_bypass(triton_forms, types, normed)
