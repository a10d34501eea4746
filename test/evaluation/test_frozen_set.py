# SPDX-License-Identifier: Apache-2.0
"""One pass gives vectors and frames; padding changes nothing; streaming equals memory; stale vectors are not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation import frozen_set
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.frozen_set import open_frozen_set
from icefall_alp.evaluation.head_inputs import standardized


class Counting(nn.Module):
    """Every second frame, and how many clips were encoded."""

    output_dim = 80

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.clips = scale, 0

    def forward(self, features, feature_lens):
        self.clips += len(features)
        return features[:, ::2] * self.scale, (feature_lens + 1) // 2


@pytest.fixture
def clips(toy_task):
    return FeatureShards(Path(toy_task["train_cuts"]))


def _open(clips, module, exp_dir, frames_gb, digest="one", seconds=5.0):
    return open_frozen_set(FrozenEncoder("run", module, digest), clips, seconds, exp_dir, frames_gb)


def test_vectors_equal_a_loop_over_clips_without_padding(clips, tmp_path):
    own = _open(clips, Counting(), tmp_path, 0.0)
    for i in range(len(clips)):
        frames = torch.from_numpy(clips.features(i)[::2])
        torch.testing.assert_close(own.vectors.means[i], frames.mean(0), atol=1e-5, rtol=1e-5)
        assert own.vectors.lens[i] == len(frames)
    alone = _open(clips, Counting(), tmp_path / "alone", 0.0, seconds=0.01)  # every clip is its own batch
    torch.testing.assert_close(alone.vectors.means, own.vectors.means, atol=1e-6, rtol=1e-6)


def test_statistics_are_those_of_the_chosen_clips(clips, tmp_path):
    own = _open(clips, Counting(), tmp_path, 0.0)
    chosen = np.array([1, 5, 7])
    frames = torch.from_numpy(np.concatenate([clips.features(int(i))[::2] for i in chosen]))
    mean, deviation = own.vectors.frame_statistics(chosen)
    torch.testing.assert_close(mean, frames.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(deviation, frames.std(0, correction=0), atol=1e-4, rtol=1e-4)
    mean, deviation = own.vectors.mean_statistics(chosen)
    torch.testing.assert_close(mean, own.vectors.means[chosen].mean(0))
    torch.testing.assert_close(deviation, own.vectors.means[chosen].std(0, correction=0))


@pytest.mark.parametrize("of", ["frame_statistics", "mean_statistics"])
def test_a_constant_channel_stays_bounded(clips, tmp_path, of):
    own = _open(clips, Counting(0.0), tmp_path, 0.0)
    statistics = getattr(own.vectors, of)(np.arange(len(clips)))
    assert standardized(own.vectors.means, statistics).abs().max() == 0


def test_frames_come_from_memory_or_from_another_pass_and_are_the_same(clips, tmp_path):
    kept, streaming = Counting(), Counting()
    in_memory = _open(clips, kept, tmp_path, 1.0)
    too_large = _open(clips, streaming, tmp_path / "b", 1e-6)
    assert in_memory.frames is not None and too_large.frames is None
    positions = np.array([3, 4, 9, 20, 21])
    for epoch in range(2):
        pairs = zip(
            in_memory.frame_batches(positions, 1.0, 7, epoch),
            too_large.frame_batches(positions, 1.0, 7, epoch),
            strict=True,
        )
        seen = []
        for (i, frames, lens), (j, others, other_lens) in pairs:
            assert i.tolist() == j.tolist() and lens.tolist() == other_lens.tolist()
            for row, length in enumerate(lens.tolist()):  # memory holds float16
                torch.testing.assert_close(frames[row, :length], others[row, :length], atol=5e-3, rtol=1e-3)
            seen += i.tolist()
        assert sorted(seen) == positions.tolist()
    assert kept.clips == len(clips)
    assert streaming.clips == len(clips) + 2 * len(positions)


def test_kept_frames_cross_to_the_device_in_float16_and_are_float32_there(clips, tmp_path, monkeypatch):
    own = _open(clips, Counting(), tmp_path, 1.0)
    sent = []
    monkeypatch.setattr(frozen_set, "send", lambda x, device: sent.append((x.dtype, device)) or x)
    ((chosen, frames, lens),) = own.frame_batches(np.array([3, 4, 9]), 100.0, 7, 0)
    assert sent == [(torch.float16, torch.device("cpu")), (torch.int64, torch.device("cpu"))]
    in_float32 = [own.frames[i].float() for i in chosen]
    assert lens.tolist() == [len(clip) for clip in in_float32]
    torch.testing.assert_close(frames, pad_sequence(in_float32, batch_first=True), atol=0, rtol=0)


def test_kept_vectors_save_the_pass_and_serve_no_other_weights(clips, tmp_path):
    first, again, other = Counting(), Counting(), Counting(2.0)
    one = _open(clips, first, tmp_path, 0.0)
    two = _open(clips, again, tmp_path, 0.0)
    assert again.clips == 0 and torch.equal(one.vectors.means, two.vectors.means)
    three = _open(clips, other, tmp_path, 0.0, digest="other weights")
    assert other.clips == len(clips)
    torch.testing.assert_close(three.vectors.means, 2 * one.vectors.means)
    assert len(list((tmp_path / "means").iterdir())) == 1


def test_changed_features_or_code_are_encoded_again(clips, tmp_path, monkeypatch):
    _open(clips, Counting(), tmp_path, 0.0)
    monkeypatch.setattr("icefall_alp.evaluation.encode.set_digest", lambda folder: "other features")
    changed = Counting()
    _open(clips, changed, tmp_path, 0.0)
    monkeypatch.setattr("icefall_alp.evaluation.encode.library_digest", lambda: "other code")
    recoded = Counting()
    _open(clips, recoded, tmp_path, 0.0)
    assert changed.clips == recoded.clips == len(clips)
