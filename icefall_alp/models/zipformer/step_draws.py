# SPDX-License-Identifier: Apache-2.0
"""All that a step of an encoder leaves out, drawn in one go at the present rates of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models.zipformer.draws import NOTHING, LayerDraws, StackDraws, dropout_masks, sequence_masks
from icefall_alp.models.zipformer.layer import ZipformerLayer

FEATURE_DROP_PROB = 0.125
NUM_BRANCHES = 6  # of a layer, that a sequence may leave out


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
