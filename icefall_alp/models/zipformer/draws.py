# SPDX-License-Identifier: Apache-2.0
"""What a step of training leaves out at random: drawn for all layers of an encoder in one go, then handed down.

Whole sequences leave out a residual branch, without rescaling; dropout of hidden channels is the same at all frames and
rescales. Masks of one rate share their random numbers, one comparison and one conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from icefall_alp.config.zipformer import ZipformerConfig

if TYPE_CHECKING:
    from icefall_alp.models.zipformer.layer import ZipformerLayer

Rate: TypeAlias = float | Tensor  # in a recorded step () on the device, one tensor for one schedule

FEATURE_DROP_PROB = 0.125


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
    """For each of `layers`."""
    rates = [skip_rates(layer) for layer in layers]
    branches = iter(sequence_masks([rate for of_layer in rates for rate in of_layer.values()], x))
    channels = [dim for layer in layers for dim in layer.hidden_dims]
    dropouts = iter(dropout_masks([rate for layer in layers for rate in dropout_rates(layer)], channels, x))
    return [
        LayerDraws(**{name: next(branches) for name in of_layer}, dropout=tuple(islice(dropouts, 3)))
        for of_layer in rates
    ]


def skip_rates(layer: ZipformerLayer) -> dict[str, Rate]:
    """How often a sequence leaves out each branch at present, by the names of `LayerDraws`."""
    rates = {
        "attention": layer.attention_skip_rate,
        "conv1": layer.conv_skip_rate,
        "conv2": layer.conv_skip_rate,
        "ff2": layer.ff2_skip_rate,
        "ff3": layer.ff3_skip_rate,
        "layer": layer.skip_rate,
    }
    return {name: layer.rate(rate) if layer.training else 0.0 for name, rate in rates.items()}


def dropout_rates(layer: ZipformerLayer) -> list[Rate]:
    """Of the hidden channels of its three feed-forward modules at present."""
    modules = layer.feed_forward1, layer.feed_forward2, layer.feed_forward3
    return [layer.rate(layer.dropout_p) if module.training else 0.0 for module in modules]


def sequence_masks(rates: Sequence[Rate], x: Tensor) -> list[Tensor | None]:
    """For each rate 1 for the sequences of x (N, ...) that keep a branch, 0 for the others: (N, 1, 1); None for 0."""
    return _kept(rates, [1] * len(rates), x, rescale=False)


def dropout_masks(rates: Sequence[Rate], channels: Sequence[int], x: Tensor) -> list[Tensor | None]:
    """For each rate an inverted dropout mask (N, 1, channels) for what is made of x (N, ...); None for 0."""
    return _kept(rates, channels, x, rescale=True)


def _kept(rates: Sequence[Rate], channels: Sequence[int], x: Tensor, rescale: bool) -> list[Tensor | None]:
    masks: list[Tensor | None] = [None] * len(rates)
    places_of: dict[Rate, list[int]] = {}
    for place, rate in enumerate(rates):
        places_of.setdefault(rate, []).append(place)
    for rate, places in places_of.items():
        if not isinstance(rate, Tensor) and rate == 0.0:
            continue
        sizes = [len(x) * channels[i] for i in places]
        kept = (torch.rand(sum(sizes), device=x.device) >= rate).to(x.dtype)
        for i, mask in zip(places, (kept.div_(1.0 - rate) if rescale else kept).split(sizes), strict=True):
            masks[i] = mask.view(len(x), 1, channels[i])
    return masks


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
