# SPDX-License-Identifier: Apache-2.0
"""Models: the audio encoder, text towers and decoders, tokenizers and pooling."""

from icefall_alp.models.audio_encoder import AudioEncoder

__all__ = ["AudioEncoder"]
