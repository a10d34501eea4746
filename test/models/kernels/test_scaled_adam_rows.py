# SPDX-License-Identifier: Apache-2.0
"""Few operations over all parameters against the update of each by itself, in float64."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import chains, scaled_adam_rows
from icefall_alp.models.kernels.scaled_adam_rows import ScaledAdamRows, kernels_suit

SHAPES = [(3, 5), (), (260,), (1,), (2, 3, 7, 7), (70, 30)]


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


@pytest.mark.parametrize(("row_width", "chunk"), [(256, 1 << 20), (4, 1), (16, 256)])
def test_each_parameter_is_updated_as_if_alone(row_width, chunk, monkeypatch):
    monkeypatch.setattr(scaled_adam_rows, "ROW_WIDTH", row_width)
    monkeypatch.setattr(scaled_adam_rows, "CPU_CHUNK", chunk)
    params, inverse_size, growth = tensors(0), torch.linspace(0.5, 3.0, 6), torch.linspace(-0.1, 0.1, 6)
    elements = ScaledAdamRows(params, torch.float64)
    factor = torch.tensor(0.5, dtype=torch.float64)
    first = elements.update(tensors(1), factor, inverse_size.double(), (0.9, 0.98), 1e-3, 0.03, move=True)
    second = elements.update(tensors(2), None, inverse_size.double(), (0.9, 0.98), 1e-3, 0.03, move=False)
    elements.grow(growth.double())
    for index, (p, one, two) in enumerate(zip(tensors(0), tensors(1), tensors(2), strict=True)):
        inverse, one = float(inverse_size[index]), 0.5 * one
        assert first[index].item() == pytest.approx(float((p * one).sum()), abs=1e-12)
        square = 0.02 * one**2
        delta = -0.03 * one / ((square.sqrt() + 1e-3) * inverse)
        p = p + delta
        assert second[index].item() == pytest.approx(float((p * two).sum()), abs=1e-12)
        square = 0.98 * square + 0.02 * two**2
        delta = 0.9 * delta - 0.03 * two / ((square.sqrt() + 1e-3) * inverse) + p * float(growth[index])
        torch.testing.assert_close(elements.exp_avg_sq[index], square)
        torch.testing.assert_close(elements.delta[index], delta)
        torch.testing.assert_close(params[index], p + delta)


def test_kernels_suit_float32_in_plain_order_off_the_cpu_where_chains_are_kernels(monkeypatch):
    triton_forms = pytest.importorskip("icefall_alp.models.kernels.triton_forms")
    monkeypatch.setattr(chains, "FUSED", True)
    monkeypatch.setattr(chains, "_device_form", lambda: triton_forms)
    plain, half = torch.zeros(3, 4, device="meta"), torch.zeros(3, dtype=torch.bfloat16, device="meta")
    assert kernels_suit([plain, plain])
    assert not kernels_suit([plain, half]) and not kernels_suit([plain.t()]) and not kernels_suit([torch.zeros(3)])
    monkeypatch.setattr(chains, "_device_form", lambda: chains.closed)  # without Triton
    assert not kernels_suit([plain])
    monkeypatch.undo()
    monkeypatch.setattr(chains, "FUSED", False)
    assert not kernels_suit([plain])
