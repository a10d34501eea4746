# SPDX-License-Identifier: Apache-2.0
"""An encoder with the paper's depth of structure and few channels."""

from __future__ import annotations

import torch

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder

SMALL = ZipformerConfig(
    frontend_channels=(2, 4, 8),
    num_encoder_layers=(1, 2, 1, 1, 1, 1),
    encoder_dim=(16, 24, 32, 40, 32, 24),
    feedforward_dim=(32, 48, 64, 80, 64, 48),
    encoder_unmasked_dim=(16, 16, 16, 16, 16, 16),
    cnn_module_kernel=(7, 7, 5, 5, 5, 7),
    value_head_dim=4,
    pos_dim=16,
)


def lively(encoder: AudioEncoder) -> AudioEncoder:
    """Random parameters everywhere, so that nothing hides behind an initial value."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder
