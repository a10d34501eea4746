# SPDX-License-Identifier: Apache-2.0
"""Waveforms give the frames that stored features give, and come from the files that the manifest names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from icefall_alp.data.captions import AudioHeader, LabelledAudio, jsonl_writer, make_cut
from icefall_alp.data.feature_storage import store_features
from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation.waveforms import WaveformClips, WaveformEncoder
from icefall_alp.models import AudioEncoder
from icefall_alp.utils.errors import UserError


@pytest.fixture
def stored(tmp_path):
    """`data/fbank/toy_test` of three clips with its manifest and audio."""
    data, root = tmp_path / "data", tmp_path / "toy"
    root.mkdir()
    rng = np.random.default_rng(0)
    cuts = []
    for i in range(3):
        samples = rng.normal(size=8000 + 3000 * i).astype(np.float32) * 0.1
        soundfile.write(root / f"{i}.wav", samples, 16000, subtype="FLOAT")
        item = LabelledAudio(f"fs:{i}", f"{i}.wav", "test", ("rain",))
        cuts.append(make_cut(item, AudioHeader(16000, 1, len(samples)), "toy", "sound"))
    manifest = data / "manifests/toy_test_cuts.jsonl.gz"
    with jsonl_writer(manifest) as write:
        for cut in cuts:
            write(cut)
    report = {"corpus": "toy", "root": str(root)}
    (data / "manifests/toy_report.json").write_text(json.dumps(report), encoding="utf-8")
    store_features(manifest, data / "fbank/toy_test", {"toy": root}, 10, 1)
    return data / "fbank/toy_test"


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


def test_missing_manifest_and_audio_are_named(stored, tmp_path):
    clips = WaveformClips(stored)
    (tmp_path / "toy/1.wav").unlink()
    with pytest.raises(UserError, match=r"1\.wav: no such file"):
        clips.features(1)
    (tmp_path / "data/manifests/toy_test_cuts.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"no toy_test_cuts\.jsonl\.gz below it"):
        WaveformClips(stored)
