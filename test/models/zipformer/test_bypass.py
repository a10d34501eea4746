# SPDX-License-Identifier: Apache-2.0
"""The bypass against golden values; branches left out for whole sequences."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.zipformer.bypass import Bypass, add_branch, sequence_mask


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
    torch.manual_seed(0)
    module = Bypass(6, skip_rate=0.5).train()
    original, new = torch.zeros(64, 3, 6), torch.ones(64, 3, 6)
    y = module(original, new)
    per_item = y.flatten(1)
    assert ((per_item == 0).all(1) | (per_item == 0.5).all(1)).all()
    assert 15 < (per_item == 0).all(1).sum() < 49
    assert (module.eval()(original, new) == 0.5).all()


def test_sequence_mask():
    x = torch.randn(1000, 2, 3)
    assert sequence_mask(x, 0.0) is None
    mask = sequence_mask(x, 0.2)
    assert mask.shape == (1000, 1, 1) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert 0.75 < mask.mean() < 0.85
    assert torch.equal(add_branch(x, x, mask), x + mask * x)
    assert torch.equal(add_branch(x, x, None), 2 * x)
