# SPDX-License-Identifier: Apache-2.0
"""Every size of a Zipformer encoder, and the presets that public checkpoints use.

The presets `zipformer_m` and `zipformer_l` are icefall's, `auden_base` and `auden_large` are Auden's: the
same stacks with wider feed-forward modules. The paper says "Zipformer-M" and "768-dimensional" at once;
M gives 512 dimensions and L gives 768, so both are here by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Ints = tuple[int, ...]


@dataclass(frozen=True)
class ZipformerConfig:
    """Sizes of the encoder; per-stack tuples have one entry for each of the stacks."""

    feature_dim: int = 80  # mel bins of the input
    frontend_channels: Ints = (8, 32, 128)  # channels of the three convolutions of the frontend
    num_encoder_layers: Ints = (2, 2, 3, 4, 3, 2)
    downsampling_factor: Ints = (1, 2, 4, 8, 4, 2)  # relative to the frontend's 50 Hz
    encoder_dim: Ints = (192, 256, 384, 512, 384, 256)
    feedforward_dim: Ints = (512, 768, 1024, 1536, 1024, 768)
    encoder_unmasked_dim: Ints = (192, 192, 256, 256, 256, 192)  # channels the feature masks never drop
    num_heads: Ints = (4, 4, 4, 8, 4, 4)
    cnn_module_kernel: Ints = (31, 31, 15, 15, 15, 31)
    query_head_dim: int = 32
    value_head_dim: int = 12
    pos_head_dim: int = 4
    pos_dim: int = 48
    causal: bool = False  # chunked attention and causal convolutions
    chunk_size: Ints = (16, 32, 64, -1)  # frames at 50 Hz, one drawn per forward pass; -1 is the whole clip
    left_context_frames: Ints = (64, 128, 256, -1)
    mask_padding: bool = True  # a clip's frames do not depend on its padding; False is icefall's behaviour

    def __post_init__(self) -> None:
        """Refuse tuples of different lengths: each stack needs every size."""
        num_stacks = len(self.encoder_dim)
        for name in _PER_STACK:
            if len(getattr(self, name)) != num_stacks:
                count = len(getattr(self, name))
                raise ValueError(f"{name}: {count} values for {num_stacks} stacks; give one per entry of encoder_dim")

    @property
    def output_dim(self) -> int:
        """Width of `encoder_out`: that of the widest stack."""
        return max(self.encoder_dim)

    @staticmethod
    def presets() -> dict[str, ZipformerConfig]:
        """The named sizes that YAML may start from (`preset: zipformer_m`)."""
        return dict(PRESETS)


_PER_STACK = (
    "num_encoder_layers",
    "downsampling_factor",
    "feedforward_dim",
    "encoder_unmasked_dim",
    "num_heads",
    "cnn_module_kernel",
)

_M = ZipformerConfig()
_L = replace(
    _M,
    num_encoder_layers=(2, 2, 4, 5, 4, 2),
    encoder_dim=(192, 256, 512, 768, 512, 256),
    feedforward_dim=(512, 768, 1536, 2048, 1536, 768),
    encoder_unmasked_dim=(192, 192, 256, 320, 256, 192),
)
PRESETS: dict[str, ZipformerConfig] = {
    "zipformer_s": replace(
        _M,
        num_encoder_layers=(2, 2, 2, 2, 2, 2),
        encoder_dim=(192, 256, 256, 256, 256, 256),
        feedforward_dim=(512, 768, 768, 768, 768, 768),
        encoder_unmasked_dim=(192, 192, 192, 192, 192, 192),
    ),
    "zipformer_m": _M,
    "zipformer_l": _L,
    "auden_base": replace(_M, feedforward_dim=(576, 768, 1152, 1536, 1152, 768)),
    "auden_large": replace(
        _L, feedforward_dim=(576, 768, 1536, 2304, 1536, 768), encoder_unmasked_dim=(192, 192, 256, 256, 256, 192)
    ),
}
