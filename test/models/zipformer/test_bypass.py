# SPDX-License-Identifier: Apache-2.0
"""The bypass against golden values; branches left out for whole sequences."""

from __future__ import annotations

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from icefall_alp.models.zipformer.bypass import Bypass
from icefall_alp.models.zipformer.normalization import BiasNorm


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


def _replaced(norm, seen):
    forward = norm.forward
    norm.forward = lambda x: seen.append(1) or forward(x)


HOOKS = {
    "forward": lambda norm, seen: norm.register_forward_hook(lambda *_: seen.append(1)),
    "before forward": lambda norm, seen: norm.register_forward_pre_hook(lambda *_: seen.append(1)),
    "backward": lambda norm, seen: norm.register_full_backward_hook(lambda *_: seen.append(1)),
    "before backward": lambda norm, seen: norm.register_full_backward_pre_hook(lambda *_: seen.append(1)),
    "of all modules": lambda norm, seen: register_module_forward_hook(
        lambda module, *_: seen.append(1) if module is norm else None
    ),
    "another forward": _replaced,
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_norm_that_is_hooked_or_wrapped_is_called(hook):
    module, norm, seen = Bypass(6), BiasNorm(6), []
    original, new = torch.randn(2, 3, 6), torch.randn(2, 3, 6, requires_grad=True)
    expected = module(original, norm(new))
    handle = HOOKS[hook](norm, seen)
    y = module(original, new, norm=norm)
    y.sum().backward()
    if handle is not None:
        handle.remove()
    assert seen == [1]
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(module(original, new, norm=norm), expected)


def test_a_norm_may_be_any_module():
    module, original, new = Bypass(6), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    torch.testing.assert_close(module(original, new, norm=torch.nn.Identity()), module(original, new))
    torch.testing.assert_close(module(original, new, norm=torch.nn.Tanh()), module(original, new.tanh()))
