# SPDX-License-Identifier: Apache-2.0
"""Reading goes on while a batch is encoded; clips without frames are named."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.frozen_pass import encoded_batches
from icefall_alp.models import AudioEncoder
from icefall_alp.utils.errors import UserError
from test.evaluation.every_fourth import EveryFourth


def num_readers():
    return sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


def test_the_next_batch_is_read_while_one_is_encoded_and_no_thread_survives(toy_task):
    shards, read = FeatureShards(Path(toy_task["test_cuts"])), threading.Event()

    class Clips:
        folder, cuts = shards.folder, shards.cuts

        def features(self, position):
            if position == 2:
                read.set()
            if position == 4:
                raise UserError("damaged")
            return shards.features(position)

    class Waiting(EveryFourth):
        def forward(self, features, feature_lens):
            assert read.wait(30)
            return super().forward(features, feature_lens)

    batches = [np.array(pair) for pair in ((0, 1), (2, 3), (4, 5), (6, 7))]
    found = encoded_batches(Waiting(), Clips(), batches)
    for expected in batches[:2]:
        indices, frames, lens = next(found)
        assert indices.tolist() == expected.tolist()
        for i, row, length in zip(indices, frames, lens, strict=True):
            np.testing.assert_array_equal(row[:length].numpy(), shards.features(i)[::4])
    assert num_readers() == 1
    with pytest.raises(UserError, match="damaged"):
        next(found)
    assert num_readers() == 0
    for _ in encoded_batches(Waiting(), Clips(), batches[:2]):
        break  # who stops early
    assert num_readers() == 0
    with pytest.raises(UserError, match="not finite"):
        next(encoded_batches(EveryFourth(float("inf")), Clips(), batches))
    assert num_readers() == 0


def test_empty_short_and_frameless_clips_are_named(toy_task, tiny_encoder_folder, monkeypatch):
    folder = Path(toy_task["test_cuts"])
    shards, real = FeatureShards(folder), FeatureShards.features
    encoder = AudioEncoder.load(tiny_encoder_folder).eval()
    for num_frames in (0, 1, 8):
        monkeypatch.setattr(
            FeatureShards, "features", lambda self, i, n=num_frames: real(self, i)[: n if i == 3 else None]
        )
        with pytest.raises(UserError, match=f"{shards.cuts[3].id}: less than the 9 frames that the encoder needs"):
            encode_clips(encoder, folder, 5.0)

    class Frameless(EveryFourth):
        def forward(self, features, feature_lens):
            frames, lens = super().forward(features, feature_lens)
            return frames, torch.where(feature_lens == feature_lens.min(), 0, lens)

    with pytest.raises(UserError, match=r"test:\d+: less than the 1 frames"):
        monkeypatch.setattr(FeatureShards, "features", lambda self, i: real(self, i)[:0])
        encode_clips(EveryFourth(), folder, 5.0)
    monkeypatch.setattr(FeatureShards, "features", real)
    with pytest.raises(UserError, match=r"test:\d+: the encoder gives it no frame"):
        encode_clips(Frameless(), folder, 5.0)
