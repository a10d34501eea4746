# SPDX-License-Identifier: Apache-2.0
"""Single kernels; what they are for is tested in test_triton_forms.py."""

from __future__ import annotations

import pytest
import torch

kernels = pytest.importorskip("icefall_alp.models.kernels.triton_kernels")
pytestmark = pytest.mark.usefixtures("on_the_device")


def test_nothing_is_written_behind_the_end():
    x, y = torch.randn(5), torch.full((8,), 7.0)
    flags = {"HAS_MASK": False, "HAS_CODE": False}
    kernels.swoosh_forward[(1,)](x, x, y, x, 1, 5, 1, 4.0, 0.035, x, **flags, ROWS=1, BLOCK=8)
    assert y[5:].tolist() == [7.0] * 3 and (y[:5] != 7.0).all()


def test_codes_are_those_of_the_slope():
    x = torch.linspace(-20, 20, 64)
    y, code = torch.empty_like(x), torch.zeros(64, dtype=torch.uint8)
    flags = {"HAS_MASK": False, "HAS_CODE": True}
    kernels.swoosh_forward[(1,)](x, x, y, code, 1, 64, 1, 1.0, 0.3, torch.tensor([5]), **flags, ROWS=1, BLOCK=64)
    exact = (x - 1.0).sigmoid() * 255 / 1.005
    assert ((code - exact).abs() < 1.0 + 1e-4).all() and code.min() <= 1 and code.max() >= 253
