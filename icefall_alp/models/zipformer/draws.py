# SPDX-License-Identifier: Apache-2.0
"""What a step of training leaves out at random: drawn for all layers of an encoder in one go, then handed down.

Whole sequences leave out a residual branch, without rescaling; dropout of hidden channels is the same at all frames and
rescales. All masks of a kind are parts of one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models.kernels.plain import Numbers
from icefall_alp.utils.transfer import send

if TYPE_CHECKING:
    from icefall_alp.models.zipformer.layer import ZipformerLayer

FEATURE_DROP_PROB = 0.125
NUM_BRANCHES = 6  # of a layer, that a sequence may leave out


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


def nothing(stacks: Sequence[Sequence[ZipformerLayer]]) -> list[StackDraws]:
    """Outside of training."""
    return [StackDraws(None, [NOTHING] * len(layers)) for layers in stacks]


def draw(config: ZipformerConfig, stacks: Sequence[Sequence[ZipformerLayer]], x: Tensor) -> list[StackDraws]:
    """For each stack of layers and the sequences of x (N, ...), at the present rates."""
    features = feature_masks(config, len(x), x.device)
    layers = iter(draw_layers([layer for stack in stacks for layer in stack], x))
    return [StackDraws(mask, list(islice(layers, len(stack)))) for mask, stack in zip(features, stacks, strict=True)]


def draw_layers(layers: Sequence[ZipformerLayer], x: Tensor) -> list[LayerDraws]:
    """For each of `layers`, which share a clock."""
    per_step = layers[0].clock.per_step
    skips = per_step(lambda: [rate for layer in layers for rate in skip_rates(layer)], NUM_BRANCHES * len(layers))
    branches = iter(sequence_masks(skips, x))
    drops = per_step(lambda: [rate for layer in layers for rate in dropout_rates(layer)], 3 * len(layers))
    dropouts = iter(dropout_masks(drops, [dim for layer in layers for dim in layer.hidden_dims], x))
    return [LayerDraws(*islice(branches, NUM_BRANCHES), tuple(islice(dropouts, 3))) for _ in layers]


def skip_rates(layer: ZipformerLayer) -> list[float]:
    """How often a sequence leaves out each branch at present, in the order of `LayerDraws`."""
    rates = (
        layer.attention_skip_rate,
        layer.conv_skip_rate,
        layer.conv_skip_rate,
        layer.ff2_skip_rate,
        layer.ff3_skip_rate,
        layer.skip_rate,
    )
    return [layer.now(rate) if layer.training else 0.0 for rate in rates]


def dropout_rates(layer: ZipformerLayer) -> list[float]:
    """Of the hidden channels of its three feed-forward modules at present."""
    modules = layer.feed_forward1, layer.feed_forward2, layer.feed_forward3
    return [layer.now(layer.dropout_p) if module.training else 0.0 for module in modules]


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
    of_masks = (rates if live else send(torch.tensor(rates), x.device)).unbind()
    of_numbers = torch.cat([rate.expand(size) for rate, size in zip(of_masks, sizes, strict=True)])
    # For rates of 0 too: how many random numbers are drawn hangs neither on rates nor on whether a step is replayed.
    kept = (torch.rand(len(of_numbers), device=x.device) >= of_numbers).to(x.dtype)
    parts = (kept.div_(1.0 - of_numbers) if rescale else kept).split(sizes)
    masks = [part.view(len(x), 1, num) for part, num in zip(parts, channels, strict=True)]
    return masks if live else [mask if rate else None for mask, rate in zip(masks, rates, strict=True)]


def feature_masks(config: ZipformerConfig, num_items: int, device: torch.device) -> list[Tensor]:
    """For each stack a mask (N, 1, dim) that drops its upper channels for some sequences, the same for all stacks."""
    kept = (torch.rand(2, num_items, 1, 1, device=device) > FEATURE_DROP_PROB).float()
    return [
        feature_mask(dim, unmasked, kept[0], kept[0] * kept[1])
        for dim, unmasked in zip(config.encoder_dim, config.encoder_unmasked_dim, strict=True)
    ]


def feature_mask(dim: int, unmasked: int, keep_middle: Tensor, keep_last: Tensor) -> Tensor:
    """Ones up to `unmasked`, then the two draws (N, 1, 1) for the lower and the upper half of the rest."""
    middle = (dim - unmasked) // 2
    always = torch.ones_like(keep_middle).expand(-1, -1, unmasked)
    last = keep_last.expand(-1, -1, dim - unmasked - middle)
    return torch.cat((always, keep_middle.expand(-1, -1, middle), last), dim=2)
