# SPDX-License-Identifier: Apache-2.0
"""The feed-forward module against golden outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from icefall_alp.models.zipformer.feedforward import FeedForward


def test_feed_forward(units, check_module):
    check_module(FeedForward(6, 10), units("feedforward"), lambda m, x: m(x))


class Adapter(nn.Linear):
    """As libraries put them in the place of a layer: it has the layer's parameters and adds to its output."""

    def forward(self, x):
        return super().forward(x) + 1.0


@pytest.mark.parametrize("kept", [True, False])
def test_an_adapter_in_the_place_of_the_first_layer_is_asked(kept):
    torch.manual_seed(0)
    module, x = FeedForward(6, 10).eval(), torch.randn(2, 5, 6)
    adapter = Adapter(6, 10)
    adapter.load_state_dict(module.in_proj.state_dict())
    with torch.set_grad_enabled(kept):
        module.in_proj.bias.data += 1.0
        expected = module(x)
        module.in_proj = adapter
        torch.testing.assert_close(module(x), expected)


def test_hooks_and_wrappers_of_its_layers_are_called():
    torch.manual_seed(0)
    module, x = FeedForward(6, 10).eval(), torch.randn(2, 5, 6)
    expected = module(x)
    hook = module.out_proj.register_forward_hook(lambda _module, _inputs, out: out + 1.0)
    torch.testing.assert_close(module(x), expected + 1.0)
    hook.remove()
    module.out_proj = nn.Sequential(module.out_proj)
    torch.testing.assert_close(module(x), expected)
