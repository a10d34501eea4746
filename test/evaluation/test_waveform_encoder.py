# SPDX-License-Identifier: Apache-2.0
"""Waveforms give the frames that stored features give."""

from __future__ import annotations

import torch

from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation.waveform_encoder import WaveformEncoder
from icefall_alp.evaluation.waveforms import WaveformClips
from icefall_alp.models import AudioEncoder


def test_waveforms_give_the_frames_of_the_stored_features(stored, tiny_encoder_folder):
    clips, shards = WaveformClips(stored), FeatureShards(stored)
    assert len(clips) == 3 and [cut.id for cut in clips.cuts] == [cut.id for cut in shards.cuts]
    encoder, from_features = WaveformEncoder(tiny_encoder_folder), AudioEncoder.load(tiny_encoder_folder).eval()
    for i in range(3):
        samples = torch.from_numpy(clips.features(i))
        frames, lens = encoder(samples[None], torch.tensor([len(samples)]))
        features = torch.from_numpy(shards.features(i))
        expected, expected_lens = from_features(features[None], torch.tensor([len(features)]))
        assert lens.tolist() == expected_lens.tolist()
        torch.testing.assert_close(frames, expected[:, : int(lens)], atol=1e-4, rtol=1e-3)


def test_float32_stays_float32_in_programs_of_others(tiny_encoder_folder, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as PyTorch begins
    WaveformEncoder(tiny_encoder_folder)
    assert not torch.backends.cudnn.allow_tf32
