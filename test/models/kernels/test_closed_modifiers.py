# SPDX-License-Identifier: Apache-2.0
"""The modifiers' gradients against differentiated losses."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import closed_modifiers, plain


@pytest.mark.parametrize("shape", [(40, 6), (3, 5, 12), (1, 1, 6)])
def test_modifiers_equal_differentiated_losses(shape):
    torch.manual_seed(0)
    x, grad = torch.randn(shape) * 3 + 1, torch.randn(shape)
    limits = (-0.1, 0.1, 0.2, 1.0)
    ours, reference = (form.balancer_gradient(x, grad, (*limits, 0.04), -1) for form in (closed_modifiers, plain))
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
    for groups, limit in ((1, 1.5), (2, 1.0), (3, 1e9)):
        (ours, saw), (reference, seen) = (
            form.whiten_gradient(x, grad, groups, limit, 0.1) for form in (closed_modifiers, plain)
        )
        assert bool(saw) == bool(seen)
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)
