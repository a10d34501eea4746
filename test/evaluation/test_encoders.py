# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for an encoder, and loading the encoder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from icefall_alp.config import ZipformerConfig
from icefall_alp.evaluation.encoders import LogMelStatistics, PrecomputedFrames, load_frozen_encoder
from icefall_alp.models import AudioEncoder
from icefall_alp.utils.errors import UserError

TINY = ZipformerConfig(
    frontend_channels=(4, 4, 8),
    num_encoder_layers=(1, 1),
    downsampling_factor=(1, 2),
    encoder_dim=(16, 24),
    feedforward_dim=(16, 24),
    encoder_unmasked_dim=(16, 16),
    num_heads=(2, 2),
    cnn_module_kernel=(7, 7),
    query_head_dim=8,
    value_head_dim=4,
    pos_dim=8,
)


def test_log_mel_statistics_ignore_padding():
    torch.manual_seed(0)
    clip = torch.randn(30, 80)
    padded = torch.full((2, 50, 80), -23.0)
    padded[0, :30] = clip
    frames, lens = LogMelStatistics()(padded, torch.tensor([30, 50]))
    assert frames.shape == (2, 1, 160)
    assert lens.tolist() == [1, 1]
    expected = torch.cat([clip.mean(0), clip.std(0, correction=0)])
    torch.testing.assert_close(frames[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_precomputed_frames_pass_through():
    frames, lens = torch.randn(2, 3, 5), torch.tensor([3, 2])
    stand_in = PrecomputedFrames(5)
    assert stand_in.output_dim == 5
    assert stand_in(frames, lens)[0] is frames


def test_run_is_loaded_frozen_and_its_digest_follows_the_weights(tmp_path: Path):
    run = tmp_path / "contrastive_scratch"
    torch.manual_seed(0)
    AudioEncoder(TINY).save(run / "encoder")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last").write_text("step_120\n", encoding="utf-8")
    encoder = load_frozen_encoder(run)
    assert (encoder.run, encoder.step) == ("contrastive_scratch", 120)
    assert not encoder.module.training
    assert not any(p.requires_grad for p in encoder.module.parameters())
    assert load_frozen_encoder(run).digest == encoder.digest
    AudioEncoder(TINY).save(run / "encoder")
    assert load_frozen_encoder(run).digest != encoder.digest


def test_log_mel_run_needs_no_folder_and_others_do(tmp_path: Path):
    assert isinstance(load_frozen_encoder(tmp_path / "log_mel").module, LogMelStatistics)
    with pytest.raises(UserError, match="no exported encoder"):
        load_frozen_encoder(tmp_path / "contrastive_scratch")


def test_a_text_tower_beside_the_encoder_is_found_and_counts(tmp_path: Path):
    run = tmp_path / "contrastive_scratch"
    torch.manual_seed(0)
    AudioEncoder(TINY).save(run / "encoder")
    alone = load_frozen_encoder(run)
    assert alone.text_tower is None
    (run / "text_tower" / "text_encoder").mkdir(parents=True)
    (run / "text_tower" / "text_encoder" / "weights").write_bytes(b"1")
    beside = load_frozen_encoder(run)
    before = beside.digest_with_text
    assert beside.text_tower == run / "text_tower" and beside.digest == alone.digest
    (run / "text_tower" / "text_encoder" / "weights").write_bytes(b"2")
    assert load_frozen_encoder(run).digest_with_text != before
