# SPDX-License-Identifier: Apache-2.0
"""A fresh frontend whose layers are scaled by real features: training from scratch need not find the scale first.

fbank values lie around -7, far from 0. A frontend as it is drawn turns them into frames that hardly differ, and the
regularisers take the first hundreds of steps to spread them. Here every convolution, and the linear layer behind them,
gets the weights and the bias by which each of its channels has mean 0 and deviation 1 on one batch (data-dependent
initialisation: Kraehenbuehl et al., arXiv:1511.06856; Mishkin and Matas, arXiv:1511.06422).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icefall_alp.models.zipformer.frontend import Conv2dSubsampling

MIN_DEVIATION = 1e-3  # of a channel; one that hardly varies is not blown up


@torch.no_grad()
def calibrate(frontend: Conv2dSubsampling, features: Tensor) -> None:
    """Scale a frontend by features (N, T, feature_dim) without padding, T at least 9."""
    was_training = frontend.training
    frontend.eval()
    x = features
    for layer in frontend.conv:
        if isinstance(layer, nn.Conv2d):
            _standardize(layer, layer(x).transpose(1, -1))
        x = layer(x)
    hidden = frontend.convnext(x.permute(0, 2, 3, 1)).transpose(2, 3).flatten(2)
    _standardize(frontend.out, frontend.out(hidden))
    frontend.train(was_training)


def _standardize(layer: nn.Conv2d | nn.Linear, outputs: Tensor) -> None:
    """Give `layer` zero mean and unit deviation in every channel of its `outputs` (..., C)."""
    deviation, mean = torch.std_mean(outputs.flatten(0, -2), dim=0)
    deviation = deviation.clamp(min=MIN_DEVIATION)
    layer.weight.div_(deviation.view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias.sub_(mean).div_(deviation)
