# SPDX-License-Identifier: Apache-2.0
"""How many operations an encoder's forward pass has: its matrix products and convolutions, from sizes alone."""

from __future__ import annotations

from icefall_alp.config.zipformer import ZipformerConfig


def forward_flops(config: ZipformerConfig, num_items: int, num_frames: int) -> int:
    """Operations for features (num_items, num_frames, F), two for each multiplication and addition.

    Training has three times as many. The few more of the causal option are not counted.
    """
    frames, frontend = _frontend(config, num_frames)
    per_item, shared = frontend, 0
    for index, factor in enumerate(config.downsampling_factor):
        low = -(-frames // factor)
        layers = config.num_encoder_layers[index]
        per_item += layers * low * _per_frame(config, index, low)
        # the positional table is projected once for all items
        shared += layers * (2 * low - 1) * config.pos_dim * config.num_heads[index] * config.pos_head_dim
    return 2 * (num_items * per_item + shared)


def _frontend(config: ZipformerConfig, num_frames: int) -> tuple[int, int]:
    """Frames at its output, and multiplications for one item."""
    first, second, third = config.frontend_channels
    bins = [config.feature_dim, (config.feature_dim - 1) // 2, ((config.feature_dim - 1) // 2 - 1) // 2]
    frames = (num_frames - 7) // 2
    convolutions = (num_frames - 2) * bins[0] * 9 * first
    convolutions += ((num_frames - 3) // 2) * bins[1] * 9 * first * second
    convolutions += frames * bins[2] * 9 * second * third
    convnext = frames * bins[2] * third * (49 + 2 * 3 * third)
    return frames, convolutions + convnext + frames * bins[2] * third * config.encoder_dim[0]


def _per_frame(config: ZipformerConfig, index: int, num_frames: int) -> int:
    """Multiplications of one layer for each frame at the stack's rate."""
    dim, hidden, heads = config.encoder_dim[index], config.feedforward_dim[index], config.num_heads[index]
    query, value, position = config.query_head_dim, config.value_head_dim, config.pos_head_dim
    nonlin = dim * 3 // 4
    feed_forward = 2 * dim * (hidden * 3 // 4 + hidden + hidden * 5 // 4)
    convolution = 2 * dim * (3 * dim + config.cnn_module_kernel[index])
    projections = dim * heads * (2 * query + position) + 2 * 2 * dim * heads * value + 4 * dim * nonlin
    scores = heads * (num_frames * query + (2 * num_frames - 1) * position)
    mixing = num_frames * (2 * heads * value + nonlin)
    return feed_forward + convolution + projections + scores + mixing
