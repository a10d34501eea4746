# SPDX-License-Identifier: Apache-2.0
"""The stacks of Zipformer, from the frontend's 50 Hz to the output's 25 Hz."""

from __future__ import annotations

import random

from torch import Tensor, nn

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models.zipformer.masks import Context, chunk_mask, padding_mask
from icefall_alp.models.zipformer.resampling import Downsample, convert_channels, widest
from icefall_alp.models.zipformer.stack import DownsampledStack, LayerStack
from icefall_alp.models.zipformer.step_draws import draw, nothing


class Zipformer(nn.Module):
    """Six (or any number of) stacks of different widths and frame rates, and a final down-sampling by two."""

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleList(
            LayerStack(config, index) if factor == 1 else DownsampledStack(config, index)
            for index, factor in enumerate(config.downsampling_factor)
        )
        self.downsample_output = Downsample(2)

    def forward(self, x: Tensor, lens: Tensor, padded: bool) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            x: (N, T, C) at 50 Hz, T being the longest length.
            lens: (N,).
            padded: whether any item is shorter than T.

        Returns:
            encoder_out (N, ceil(T / 2), widest stack) and its lengths (N,).
        """
        valid_lens = lens if padded and self.config.mask_padding else None
        outputs = self.stack_outputs(x, padding_mask(lens, x.shape[1]) if padded else None, valid_lens)
        return self.downsample_output(*widest(outputs), lens=valid_lens), (lens + 1) // 2

    def stack_outputs(self, x: Tensor, padding: Tensor | None, valid_lens: Tensor | None) -> list[Tensor]:
        """Output of every stack, all at 50 Hz: (N, T, encoder_dim[i])."""
        config = self.config
        chunk_size, left_chunks = self._draw_chunk()
        hidden = None if chunk_size < 0 else chunk_mask(x.shape[1], chunk_size, left_chunks, x.device)
        stacks = [getattr(stack, "encoder", stack).layers for stack in self.encoders]  # of wrapped stacks too
        draws = draw(config, stacks, x) if self.training else nothing(stacks)
        sizes, outputs = zip(config.encoder_dim, config.downsampling_factor, strict=True), []
        for encoder, drawn, (dim, factor) in zip(self.encoders, draws, sizes, strict=True):
            context = Context.build(
                padding if padding is None else padding[:, ::factor],
                hidden if hidden is None else hidden[::factor, ::factor],
                chunk_size if chunk_size < 0 else chunk_size // factor,
            )
            x = convert_channels(x, dim)
            x = encoder(x, context, drawn) if factor == 1 else encoder(x, context, drawn, valid_lens)
            outputs.append(x)
        return outputs

    def _draw_chunk(self) -> tuple[int, int]:
        """Chunk size in frames at 50 Hz and number of chunks seen to the left, -1 meaning all."""
        if not self.config.causal:
            return -1, -1
        if self.training:
            chunk_size = random.choice(self.config.chunk_size)
            left_frames = random.choice(self.config.left_context_frames)
        else:  # a frozen encoder draws nothing: the last choice is the widest
            chunk_size, left_frames = self.config.chunk_size[-1], self.config.left_context_frames[-1]
        if chunk_size < 0 or left_frames < 0:
            return chunk_size, -1
        return chunk_size, max(1, left_frames // chunk_size)
