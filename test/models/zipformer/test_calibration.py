# SPDX-License-Identifier: Apache-2.0
"""The calibrated frontend: each layer's channels have mean 0 and deviation 1 on the batch, whatever it was drawn as."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.zipformer.calibration import MIN_DEVIATION, calibrate
from icefall_alp.models.zipformer.frontend import Conv2dSubsampling


@pytest.fixture
def frontend():
    torch.manual_seed(0)
    return Conv2dSubsampling(80, 12, (4, 6, 8))


@pytest.fixture
def features():
    """Levels like those of fbank, different in every bin."""
    generator = torch.Generator().manual_seed(1)
    return -7.0 + 4.0 * torch.randn(3, 60, 80, generator=generator) + torch.linspace(-2, 2, 80)


def outputs_of_layers(frontend, features):
    """(values, channels) of the convolutions and of the linear layer, channels last, by forward hooks."""
    seen = []
    layers = [frontend.conv[i] for i in (0, 4, 7)]
    hooks = [layer.register_forward_hook(lambda _m, _i, out: seen.append(out.transpose(1, -1))) for layer in layers]
    with torch.no_grad():
        x = frontend.conv(features)
        seen.append(frontend.out(frontend.convnext(x.permute(0, 2, 3, 1)).transpose(2, 3).flatten(2)))
    for hook in hooks:
        hook.remove()
    return [out.flatten(0, -2).double() for out in seen]


def test_every_channel_has_mean_0_and_deviation_1(frontend, features):
    before = outputs_of_layers(frontend.eval(), features)
    assert before[0].mean(0).abs().max() > 1.0
    calibrate(frontend, features)
    for out in outputs_of_layers(frontend, features):
        assert out.mean(0).abs().max() < 1e-4
        assert (out.std(0) - 1.0).abs().max() < 1e-4


def test_the_frontend_itself_sees_these_outputs(frontend, features):
    calibrate(frontend, features)
    *_, linear = outputs_of_layers(frontend.eval(), features)
    with torch.no_grad():
        normalised = frontend.out_norm(linear.float())
        assert torch.allclose(frontend(features).flatten(0, 1), normalised, atol=1e-4)


def test_silence_leaves_finite_weights_and_the_mode_stays(frontend):
    frontend.train()
    calibrate(frontend, torch.full((2, 20, 80), -23.0))
    assert frontend.training
    assert all(parameter.isfinite().all() for parameter in frontend.parameters())
    assert frontend.conv[0].weight.abs().max() <= 1.0 / (3 * MIN_DEVIATION)
