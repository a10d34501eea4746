# SPDX-License-Identifier: Apache-2.0
"""Operations worked out from sizes against those that PyTorch counts while they are done."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.flops import forward_flops


@pytest.mark.parametrize(("preset", "num_items", "num_frames"), [("zipformer_s", 2, 203), ("zipformer_m", 1, 500)])
def test_agrees_with_a_counter(monkeypatch, preset, num_items, num_frames):
    monkeypatch.setattr(chains, "FUSED", False)  # the counter does not know what libraries fuse
    config = ZipformerConfig.presets()[preset]
    with torch.device("meta"):
        encoder = AudioEncoder(config).eval()
        features = torch.empty(num_items, num_frames, 80)
        for stack in encoder.modules():
            if hasattr(stack, "table"):
                stack.table = stack.table.to("meta")
    lens = torch.full((num_items,), (num_frames - 7) // 2)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        embedded = encoder.encoder_embed(features)
        encoder.encoder(embedded, lens, padded=False)
    assert forward_flops(config, num_items, num_frames) == pytest.approx(counter.get_total_flops(), rel=0.002)


def test_the_published_cost():
    """About 1.93 and 2.09 GFLOP for a second of audio in clips of 10 and 30 s."""
    config = ZipformerConfig.presets()["zipformer_m"]
    assert forward_flops(config, 1, 1000) / 10 == pytest.approx(1.93e9, rel=0.01)
    assert forward_flops(config, 1, 3000) / 30 == pytest.approx(2.09e9, rel=0.01)
