# SPDX-License-Identifier: Apache-2.0
"""Whiten's gradient by Triton, in its interpreter where there is no GPU, against what autograd makes of the metric."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import plain
from icefall_alp.models.kernels.operations import unseen_operations

triton_whiten = pytest.importorskip("icefall_alp.models.kernels.triton_whiten")
triton_forms = pytest.importorskip("icefall_alp.models.kernels.triton_forms")
pytestmark = pytest.mark.usefixtures("on_the_device")
SIZES = [((2, 30, 8), 1), ((1, 70, 40), 1), ((3, 50, 12), 3), ((90, 70), 2), ((4, 5, 7, 6), 1)]


def correlated(shape, dtype, mean=1.0):
    torch.manual_seed(0)
    channels = shape[-1]
    x = torch.randn(shape) @ (torch.randn(channels, channels) / channels**0.5 + torch.eye(channels)) + mean
    return x.to(dtype), torch.randn(shape).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "num_groups"), SIZES)
def test_a_violation_is_answered_by_the_metrics_gradient(shape, num_groups, dtype, monkeypatch):
    monkeypatch.setattr(triton_whiten, "SHARE", 64)  # several sums
    x, grad = correlated(shape, dtype)
    (ours, violated), (expected, _) = (
        form.whiten_gradient(x, grad, num_groups, 0.5, 0.3) for form in (triton_whiten, plain)
    )
    assert ours.dtype == dtype and ours.shape == grad.shape
    assert violated and violated.dim() == 0
    step, wanted = (y.float() - grad.float() for y in (ours, expected))
    allowed = 1e-4 if dtype == torch.float32 else 0.02  # rounding of the sums with grad to bfloat16
    assert (step - wanted).norm() < allowed * wanted.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_violation_the_gradient_stays_bit_for_bit(dtype):
    x, grad = correlated((2, 40, 24), dtype)
    ours, violated = triton_whiten.whiten_gradient(x, grad, 2, 1e6, 0.3)
    assert not violated and torch.equal(ours, grad)


def test_a_single_row_has_no_scatter():
    x, grad = correlated((1, 1, 4), torch.float32)
    for form in (triton_whiten, plain):
        ours, violated = form.whiten_gradient(x, grad, 2, 0.5, 0.3)
        assert not violated and torch.equal(ours, grad)


def test_activations_far_from_zero_keep_their_scatter():
    x, grad = correlated((3, 200, 20), torch.float32, mean=30.0)
    ours, expected = (form.whiten_gradient(x, grad, 1, 1.0, 0.3)[0] - grad for form in (triton_whiten, plain))
    assert (ours - expected).norm() < 2e-3 * expected.norm()


def degenerate(name):
    torch.manual_seed(0)
    direction, rows = torch.randn(1, 16), torch.randn(100, 1)
    return {
        "one direction": rows * direction,
        "one direction, mean": rows * direction + 3 * torch.randn(16),
        "two rows": torch.randn(2, 16) + 1,
        "one live row": torch.cat((torch.zeros(99, 16), direction)),
        "one live channel": rows * torch.eye(16)[3],
        "large": torch.randn(100, 16) * torch.linspace(0.1, 3, 16) * 1e5,
        "tiny": torch.randn(100, 16) * torch.linspace(0.1, 3, 16) * 1e-6,
    }[name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "name",
    ["one direction", "one direction, mean", "two rows", "one live row", "one live channel", "large", "tiny"],
)
def test_a_step_is_never_longer_than_asked_for(name, dtype):
    """Where the direction vanishes only rounding is left of it."""
    x = degenerate(name).to(dtype)
    grad = torch.randn(x.shape)
    ours, _ = triton_whiten.whiten_gradient(x, grad, 1, 1.5, 0.02)
    assert (ours - grad).norm() <= 1.1 * 0.02 * grad.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_are_all_the_same_are_not_judged(dtype):
    x, grad = torch.randn(16).expand(2, 50, 16).to(dtype), torch.randn(2, 50, 16)
    ours, violated = triton_whiten.whiten_gradient(x, grad, 1, 1.5, 0.02)
    assert not violated and torch.equal(ours, grad)


def test_sums_of_many_rows_do_not_overflow_half_precision():
    x, grad = correlated((5000, 16), torch.float16)
    x = 3 * x
    ours, expected = (form.whiten_gradient(x, grad.float(), 1, 1.0, 0.3)[0] - grad for form in (triton_whiten, plain))
    assert (ours - expected).norm() < 0.02 * expected.norm()


def test_autocast_around_backward_changes_nothing(on_the_device):
    x, grad = correlated((3, 50, 12), torch.float32, mean=3.0)
    with torch.autocast(on_the_device, torch.bfloat16):
        ours, _ = triton_whiten.whiten_gradient(x, grad, 1, 0.5, 0.3)
    assert torch.equal(ours, triton_whiten.whiten_gradient(x, grad, 1, 0.5, 0.3)[0])


def test_float64_goes_through_operations():
    x, grad = correlated((3, 50, 12), torch.float64)
    ours, expected = (form.whiten_gradient(x, grad, 1, 0.5, 0.3)[0] for form in (triton_whiten, plain))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_the_metric_decides_as_plain_does():
    x, grad = correlated((2, 60, 16), torch.float32)
    metric = float(plain.whitening_metric(x, 2))
    verdicts = [bool(triton_whiten.whiten_gradient(x, grad, 2, metric * f, 0.1)[1]) for f in (0.999, 1.001)]
    assert verdicts == [True, False]


def test_no_rows_at_all_and_other_strides():
    empty = torch.empty(0, 5, 8)
    assert triton_whiten.whiten_gradient(empty, empty, 1, 1.0, 0.1)[0].shape == empty.shape
    x, grad = (y.transpose(0, 1) for y in correlated((9, 30, 8), torch.float32))
    ours, expected = (form.whiten_gradient(x, grad, 1, 0.5, 0.3)[0] for form in (triton_whiten, plain))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_products_that_judge_are_counted_for_mfu():
    x, grad = correlated((3, 50, 12), torch.float32)
    before = unseen_operations()
    triton_whiten.whiten_gradient(x, grad, 3, 0.5, 0.3)
    assert unseen_operations() - before == 2 * 150 * 12 * 4


def test_chains_of_a_gpu_use_it():
    assert triton_forms.whiten_gradient is triton_whiten.whiten_gradient


@pytest.mark.parametrize("form", [triton_whiten, plain])
def test_settings_on_the_device_are_read_there(form):
    x, grad = correlated((3, 50, 12), torch.float32)
    (told, violated), (live, live_violated) = (
        form.whiten_gradient(x, grad, 3, *settings) for settings in ((0.5, 0.3), torch.tensor((0.5, 0.3)))
    )
    torch.testing.assert_close(live, told, rtol=1e-6, atol=1e-7)
    assert violated and live_violated and not torch.equal(live, grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_of_zero_reads_no_activations_and_changes_no_bit(dtype):
    x, grad = torch.full((3, 50, 12), torch.nan, dtype=dtype), torch.randn(3, 50, 12).to(dtype)
    assert torch.equal(triton_whiten.whiten_gradient(x, grad, 3, *torch.zeros(2))[0], grad)
