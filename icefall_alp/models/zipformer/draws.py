# SPDX-License-Identifier: Apache-2.0
"""What a step of training leaves out at random, as masks.

Whole sequences leave out a residual branch, without rescaling; dropout of hidden channels is the same at all frames and
rescales. All masks of a kind are parts of one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from icefall_alp.models.kernels.plain import Numbers
from icefall_alp.utils.transfer import send


@dataclass(frozen=True)
class LayerDraws:
    """Of one layer; None leaves out nothing.

    Attributes:
        attention, conv1, conv2, ff2, ff3, layer: 1 for sequences that keep the branch, 0 for the others: (N, 1, 1).
        dropout: inverted masks (N, 1, hidden) of the three feed-forward modules.
    """

    attention: Tensor | None = None
    conv1: Tensor | None = None
    conv2: Tensor | None = None
    ff2: Tensor | None = None
    ff3: Tensor | None = None
    layer: Tensor | None = None
    dropout: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)


@dataclass(frozen=True)
class StackDraws:
    """Of one stack.

    Attributes:
        features: mask of the channels (N, 1, dim) before and after every layer, or None.
        layers: of each layer.
    """

    features: Tensor | None
    layers: Sequence[LayerDraws]


NOTHING = LayerDraws()


def sequence_masks(rates: Numbers, x: Tensor) -> list[Tensor | None]:
    """For each rate 1 for the sequences of x (N, ...) that keep a branch, 0 for the others: (N, 1, 1).

    None for a rate of 0, unless the rates lie on the device.
    """
    return _kept(rates, [1] * len(rates), x, rescale=False)


def dropout_masks(rates: Numbers, channels: Sequence[int], x: Tensor) -> list[Tensor | None]:
    """For each rate an inverted dropout mask (N, 1, channels) for what is made of x (N, ...); None as above."""
    return _kept(rates, channels, x, rescale=True)


def _kept(rates: Numbers, channels: Sequence[int], x: Tensor, rescale: bool) -> list[Tensor | None]:
    sizes, live = [len(x) * num for num in channels], isinstance(rates, Tensor)
    shares = 1.0 - (rates if live else send(torch.tensor(rates), x.device))
    share = torch.cat([one.expand(size) for one, size in zip(shares.unbind(), sizes, strict=True)])
    # For rates of 0 too: how many random numbers are drawn hangs neither on rates nor on whether a step is replayed.
    kept = (torch.rand(len(share), device=x.device) < share).to(x.dtype)
    parts = (kept.div_(share) if rescale else kept).split(sizes)
    masks = [part.view(len(x), 1, num) for part, num in zip(parts, channels, strict=True)]
    return masks if live else [mask if rate else None for mask, rate in zip(masks, rates, strict=True)]
