# SPDX-License-Identifier: Apache-2.0
"""Which form computes a chain; all forms know all chains; a whole encoder agrees with itself."""

from __future__ import annotations

import inspect
import random
from dataclasses import replace

import pytest
import torch

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.models.kernels import chains, closed, native, plain
from test.models.kernels import chain_cases

NAMES = [name for name, value in vars(chains).items() if hasattr(value, "__wrapped__") and name in vars(plain)]


@pytest.mark.parametrize("name", NAMES)
def test_forms_have_the_same_arguments(name):
    wanted = list(inspect.signature(getattr(plain, name)).parameters)
    for form in (closed, native):
        assert list(inspect.signature(getattr(form, name)).parameters) == wanted


@pytest.mark.parametrize("compiled", [True, False])
def test_the_device_the_switch_and_the_compiler_decide(monkeypatch, compiled):
    monkeypatch.setattr(chains, "FUSED", True)
    monkeypatch.setattr(chains, "library", lambda: object() if compiled else None)
    assert chains.form_for("cpu") is (native if compiled else closed)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert chains.form_for("cpu") is plain
    monkeypatch.undo()
    monkeypatch.setattr(chains, "FUSED", False)
    assert chains.form_for("cpu") is chains.form_for("another") is plain
    assert len(NAMES) > 10


def test_where_triton_cannot_compile_a_library_computes_and_says_so(monkeypatch, caplog):
    """Without a compiler, Python's headers or a driver it fails in as many ways."""
    monkeypatch.setattr(chains, "find_spec", lambda name: object())

    def fail(name):
        raise RuntimeError("Failed to find\nC compiler.")

    monkeypatch.setattr(chains, "import_module", fail)
    chains._device_form.cache_clear()
    try:
        assert chains._device_form() is closed
    finally:
        chains._device_form.cache_clear()
    assert "Triton cannot compile here" in caplog.text and "Failed to find C compiler." in caplog.text


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["a CPU's", "Triton's"])
def test_a_whole_encoder_is_the_same_in_both_forms(monkeypatch, form, training):
    """Loss and every gradient, dropout and regularisers on and drawn alike."""
    if form == "Triton's":
        triton_forms = pytest.importorskip("icefall_alp.models.kernels.triton_forms")
        monkeypatch.setattr(chains, "form_for", lambda device_type: triton_forms if chains.FUSED else plain)
    sizes = {"encoder_dim": (8, 12), "feedforward_dim": (16, 24), "encoder_unmasked_dim": (8, 8)}
    config = replace(
        ZipformerConfig(), frontend_channels=(2, 4, 6), num_encoder_layers=(1, 1), downsampling_factor=(1, 2),
        num_heads=(2, 2), cnn_module_kernel=(5, 5), query_head_dim=4, value_head_dim=4, pos_dim=8, **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = AudioEncoder(config).train(training)
    encoder.set_batch_count(500)
    features, lens = torch.randn(3, 57, 80), torch.tensor([57, 40, 31])
    results = []
    for fused in (True, False):
        monkeypatch.setattr(chains, "FUSED", fused)
        torch.manual_seed(1)
        random.seed(1)
        out, _ = encoder(features, lens)
        loss = out[:, :6].square().mean()
        wanted = [p for p in encoder.parameters() if p.requires_grad]
        grads = torch.autograd.grad(loss, wanted, allow_unused=True)
        results.append((loss.detach(), torch.cat([g.flatten() for g in grads if g is not None])))
    (loss, grads), (plain_loss, plain_grads) = results
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=0)
    assert (grads - plain_grads).norm() < 1e-4 * plain_grads.norm()


@pytest.mark.parametrize("form", [closed, native])
@pytest.mark.parametrize("chain", chain_cases.CHAINS)
def test_a_gradient_of_gradients_is_right_or_refused(form, chain):
    chain_cases.check_gradients_of_gradients(form, chain)


@pytest.mark.parametrize("form", [plain, closed, native])
def test_a_bypass_without_frames_or_with_a_log_scale_of_one_axis_has_gradients(form):
    leaves = [torch.randn(shape).requires_grad_() for shape in ((2, 0, 6), (2, 0, 6), (2, 1, 6))]
    assert all((g == 0).all() for g in torch.autograd.grad(form.bypass(*leaves).sum(), leaves))
    leaves = [torch.randn(shape).requires_grad_() for shape in ((2, 3, 6), (2, 3, 6), (6,), (6,), (1,))]
    assert torch.autograd.grad(form.bypass(*leaves).sum(), leaves)[-1].shape == (1,)
    assert torch.autograd.grad(form.bias_norm(*leaves[1::2], leaves[4]).sum(), leaves[4])[0].shape == (1,)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("types", chain_cases.TYPES_OF_BYPASS.values(), ids=chain_cases.TYPES_OF_BYPASS)
@pytest.mark.parametrize("form", [plain, closed, native])
def test_a_bypass_has_the_type_of_its_original(form, types, normed):
    chain_cases.check_types_of_bypass(form, types, normed)
