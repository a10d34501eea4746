# SPDX-License-Identifier: Apache-2.0
"""The bypass against golden values; branches left out for whole sequences."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.zipformer.bypass import Bypass


@pytest.mark.parametrize("batch_count", [0, 10000, 20000])
def test_bypass(units, close, draw, batch_count):
    draw(0.0)
    case = units(f"bypass/bc{batch_count}")
    module = Bypass(6).train()
    module.clock.batch_count = float(batch_count)
    module.load_state_dict({"bypass_scale": case["scale"]})
    original, new = (case[k].clone().requires_grad_(True) for k in ("orig", "new"))
    y = module(original, new)
    y.backward(case["gy"])
    close(y, case["y"])
    close(original.grad, case["dorig"])
    close(new.grad, case["dnew"])
    close(module.bypass_scale.grad, case["dscale"])


def test_bypass_skips_whole_sequences_without_rescaling():
    module = Bypass(6).train()
    original, new, keep = torch.zeros(3, 4, 6), torch.ones(3, 4, 6), torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
    assert module(original, new, keep)[:, 0, 0].tolist() == [0.5, 0.0, 0.5]
    assert (module(original, new) == 0.5).all() and (module.eval()(original, new) == 0.5).all()
