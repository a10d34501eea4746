# SPDX-License-Identifier: Apache-2.0
"""The operations of a forward pass, as PyTorch counts them, are those of the published model."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.models.kernels import chains


@pytest.mark.parametrize(("seconds", "cost"), [(10, 1.93e9), (30, 2.09e9)])
def test_a_second_of_audio_costs_what_is_published(monkeypatch, seconds, cost):
    monkeypatch.setattr(chains, "FUSED", False)  # the counter does not know what libraries fuse
    num_frames = 100 * seconds
    with torch.device("meta"):
        encoder = AudioEncoder(ZipformerConfig.presets()["zipformer_m"]).eval()
        features = torch.empty(1, num_frames, 80)
        for stack in encoder.modules():
            if hasattr(stack, "table"):
                stack.table = stack.table.to("meta")
    lens = torch.full((1,), (num_frames - 7) // 2)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder.encoder(encoder.encoder_embed(features), lens, padded=False)
    assert counter.get_total_flops() / seconds == pytest.approx(cost, rel=0.01)
