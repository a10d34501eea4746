# SPDX-License-Identifier: Apache-2.0
"""Changes of frame rate and width against golden values."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels.plain import repeat_frames
from icefall_alp.models.zipformer.resampling import Downsample, convert_channels, widest


@pytest.mark.parametrize("name", ["ds2_T7", "ds4_T8", "ds8_T13"])
def test_downsample(units, close, name):
    case = units(f"downsample/{name}")
    module = Downsample(case["bias"].numel())
    module.load_state_dict({"bias": case["bias"]})
    x = case["x"].clone().requires_grad_(True)
    y = module(x.transpose(0, 1)).transpose(0, 1)
    y.backward(case["gy"])
    close(y, case["y"])
    close(x.grad, case["dx"])
    close(module.bias.grad, case["dbias"])


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_downsample_repeats_each_items_own_last_frame(close, factor):
    torch.manual_seed(0)
    module = Downsample(factor)
    torch.nn.init.normal_(module.bias)
    x, lens = torch.randn(3, 13, 4), torch.tensor([13, 6, 1])
    together = module(x, lens=lens)
    for item, length in enumerate(lens.tolist()):
        alone = module(x[item : item + 1, :length])[0]
        close(together[item, : alone.shape[0]], alone)


def test_repeated_frames_and_channels(units):
    case = units("upsample/x3")
    x = case["x"].transpose(0, 1)
    assert torch.equal(repeat_frames(x, 3, 9).transpose(0, 1), case["y"])
    assert torch.equal(repeat_frames(x, 3, 7), repeat_frames(x, 3, 9)[:, :7])
    case = units("convert_channels")
    for width in (3, 7):
        assert torch.equal(convert_channels(case["x"], width), case[f"to{width}"])
    stacks = [torch.full((1, 1, width), float(i)) for i, width in enumerate((2, 5, 4, 3))]
    assert torch.cat(widest(stacks), dim=-1).flatten().tolist() == [3, 3, 3, 2, 1]
    assert Downsample(2)(*widest(stacks)).flatten().tolist() == [3, 3, 3, 2, 1]
