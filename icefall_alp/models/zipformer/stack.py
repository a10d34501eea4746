# SPDX-License-Identifier: Apache-2.0
"""Stacks of layers, at the frontend's frame rate or below it."""

from __future__ import annotations

import math

from torch import Tensor, nn

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models.zipformer.bypass import Bypass
from icefall_alp.models.zipformer.draws import StackDraws
from icefall_alp.models.zipformer.layer import ZipformerLayer
from icefall_alp.models.zipformer.masks import Context
from icefall_alp.models.zipformer.positions import RelativePositions
from icefall_alp.models.zipformer.resampling import Downsample
from icefall_alp.models.zipformer.schedule import Schedule, schedule

WARMUP_BATCHES = 4000.0
FINAL_SKIP_RATE = 0.035


class LayerStack(nn.Module):
    """Layers of one width; each starts as a copy of the first."""

    def __init__(self, config: ZipformerConfig, index: int) -> None:
        super().__init__()
        self.encoder_pos = RelativePositions(config.pos_dim)
        self.layers = nn.ModuleList(
            ZipformerLayer(
                dim=config.encoder_dim[index],
                feedforward_dim=config.feedforward_dim[index],
                num_heads=config.num_heads[index],
                kernel=config.cnn_module_kernel[index],
                query_head_dim=config.query_head_dim,
                value_head_dim=config.value_head_dim,
                pos_head_dim=config.pos_head_dim,
                pos_dim=config.pos_dim,
                causal=config.causal,
                skip_rate=layer_skip_rate(config, index, layer),
            )
            for layer in range(config.num_encoder_layers[index])
        )
        for layer in self.layers[1:]:
            layer.load_state_dict(self.layers[0].state_dict())

    def forward(self, x: Tensor, context: Context, draws: StackDraws) -> Tensor:
        """(N, T, dim) to the same."""
        pos_emb, mask = self.encoder_pos(x), draws.features
        x = x if mask is None else x * mask
        for layer, drawn in zip(self.layers, draws.layers, strict=True):
            x = layer(x, pos_emb, context, drawn)
            x = x if mask is None else x * mask
        return x


def layer_skip_rate(config: ZipformerConfig, index: int, layer: int) -> Schedule:
    """Layer-drop of one layer: from 0.5 to a small rate, earlier stacks and layers first."""
    width = WARMUP_BATCHES / (len(config.encoder_dim) + 1)
    step = width / config.num_encoder_layers[index]
    begin = width * (index + 1) + step * layer
    final = FINAL_SKIP_RATE * math.sqrt(config.downsampling_factor[index])
    return schedule((begin, 0.5), (begin + step, final))


class DownsampledStack(nn.Module):
    """A stack at a lower frame rate, combined with its input at the full one."""

    def __init__(self, config: ZipformerConfig, index: int) -> None:
        super().__init__()
        self.factor = config.downsampling_factor[index]
        self.downsample = Downsample(self.factor)
        self.encoder = LayerStack(config, index)
        self.out_combiner = Bypass(config.encoder_dim[index])

    def forward(self, x: Tensor, context: Context, draws: StackDraws, lens: Tensor | None) -> Tensor:
        """(N, T, dim) to the same.

        Args:
            x: input at the full frame rate.
            context: visibility at the stack's own rate.
            draws: what is left out in this step.
            lens: valid lengths of x if padding must not leak through the down-sampling.
        """
        low = self.encoder(self.downsample(x, lens=lens), context, draws)
        return self.out_combiner(x, low, factor=self.factor)
