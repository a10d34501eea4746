# SPDX-License-Identifier: Apache-2.0
"""What X-ARES's checker asks of an encoder: its name, attributes, and frames of three dimensions."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.evaluation.xares import ZipformerEncoder
from icefall_alp.utils.errors import UserError


def test_encoder(tiny_encoder_folder, monkeypatch):
    monkeypatch.setenv("ALP_ENCODER", str(tiny_encoder_folder))
    encoder = ZipformerEncoder()
    assert isinstance(encoder, torch.nn.Module) and type(encoder).__name__.endswith("Encoder")
    assert (encoder.sampling_rate, encoder.hop_size_in_ms) == (16000, 40)
    frames = encoder(torch.randn(2, 50000))
    assert frames.ndim == 3 and frames.dtype == torch.float32
    assert frames.shape[0] == 2 and frames.shape[2] == encoder.output_dim
    assert abs(frames.shape[1] - 50000 / 16000 / 0.040) <= 2
    assert encoder(torch.randn(40)).shape[1] >= 1


def test_missing_folder_is_named(monkeypatch):
    monkeypatch.delenv("ALP_ENCODER", raising=False)
    with pytest.raises(UserError, match="ALP_ENCODER is not set"):
        ZipformerEncoder()
