# SPDX-License-Identifier: Apache-2.0
"""One pass: frames in the folder's order, equal to encoding clip by clip, standardised by the training clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from icefall_alp.config import TaskConfig
from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation import encode
from icefall_alp.evaluation.encode import (
    captions_of_clips,
    check_disjoint,
    encode_clips,
    load_or_encode,
    num_listed,
)
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.utils.errors import UserError
from test.evaluation.every_fourth import EveryFourth


def test_frames_equal_a_pass_clip_by_clip(toy_task):
    folder = Path(toy_task["test_cuts"])
    clips = encode_clips(EveryFourth(), folder, max_duration=2.0)
    shards = FeatureShards(folder)
    assert [cut.id for cut in clips.cuts] == [cut.id for cut in shards.cuts]
    for i, frames in enumerate(clips.frames):
        np.testing.assert_array_equal(frames.numpy(), shards.features(i)[::4].astype(np.float16))


def test_standardised_batch_and_its_padding(toy_task):
    clips = encode_clips(EveryFourth(), Path(toy_task["train_cuts"]), 5.0)
    clips = clips.standardized(*clips.statistics())
    frames, lens = clips.batch(np.arange(len(clips)))
    valid = torch.cat([row[:length] for row, length in zip(frames, lens, strict=True)])
    torch.testing.assert_close(valid.mean(0), torch.zeros(80), atol=1e-4, rtol=0)
    torch.testing.assert_close(valid.std(0), torch.ones(80), atol=1e-2, rtol=0)
    assert frames[0, lens[0] :].abs().sum() == 0


def test_a_constant_channel_stays_bounded(toy_task):
    clips = encode_clips(EveryFourth(0.0), Path(toy_task["train_cuts"]), 5.0)
    frames, _ = clips.standardized(*clips.statistics()).batch(np.array([0, 1]))
    assert frames.abs().max() == 0


def test_frames_that_are_not_finite_name_the_clip(toy_task):
    with pytest.raises(UserError, match=r"test:\d+: the encoder's frames are not finite"):
        encode_clips(EveryFourth(float("inf")), Path(toy_task["test_cuts"]), 5.0)


def test_listed_clips_count_those_without_features(toy_task):
    assert num_listed(Path(toy_task["test_cuts"])) == 21


def test_captions_and_overlap(toy_task):
    train, test = (encode_clips(EveryFourth(), Path(toy_task[f"{name}_cuts"]), 5.0) for name in ("train", "test"))
    assert [len(own) for own in captions_of_clips(test)] == [5] * 20
    check_disjoint(train, test)
    with pytest.raises(UserError, match="20 test clips are also training clips"):
        check_disjoint(test, test)


def test_kept_frames_are_used_again_and_never_for_other_weights(toy_task, tmp_path, capsys):
    folder, config = Path(toy_task["test_cuts"]), TaskConfig(max_duration=5.0, cache_frames=True)
    first = load_or_encode(FrozenEncoder("run", EveryFourth(), "one"), folder, config, tmp_path)
    # the same digest: read from the disk although the module would now give other frames
    again = load_or_encode(FrozenEncoder("run", EveryFourth(2.0), "one"), folder, config, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first.frames, again.frames, strict=True))
    other = load_or_encode(FrozenEncoder("run", EveryFourth(2.0), "two"), folder, config, tmp_path)
    torch.testing.assert_close(other.frames[0], 2 * first.frames[0])
    (path,) = (tmp_path / "frames").glob("*/*")  # those of the other weights are gone
    path.write_bytes(path.read_bytes()[:1000])
    repaired = load_or_encode(FrozenEncoder("run", EveryFourth(2.0), "two"), folder, config, tmp_path)
    assert torch.equal(repaired.frames[0], other.frames[0])
    assert "damaged" in capsys.readouterr().out


def test_means_are_the_same_whether_frames_are_kept_or_let_go(toy_task, tmp_path):
    folder, encoder = Path(toy_task["test_cuts"]), FrozenEncoder("run", EveryFourth(), "one")
    let_go = load_or_encode(encoder, folder, TaskConfig(max_duration=5.0), tmp_path, pooled=True)
    assert not list(tmp_path.iterdir()) and all(frames.shape == (1, 80) for frames in let_go.frames)
    config = TaskConfig(max_duration=5.0, cache_frames=True)
    kept, read = (load_or_encode(encoder, folder, config, tmp_path, pooled=True) for _ in range(2))
    whole = encode_clips(EveryFourth(), folder, 5.0).pooled()
    for other in (kept, read, whole):
        assert all(torch.equal(a, b) for a, b in zip(let_go.frames, other.frames, strict=True))


def test_frames_are_kept_and_averaged_without_a_copy_of_all(toy_task, tmp_path, monkeypatch):
    folder, encoder = Path(toy_task["test_cuts"]), FrozenEncoder("run", EveryFourth(), "one")
    written = []
    monkeypatch.setattr(encode, "write_cache", lambda *arguments: written.append(arguments[-1]))
    clips = load_or_encode(encoder, folder, TaskConfig(max_duration=5.0, cache_frames=True), tmp_path)
    assert all(a is b for a, b in zip(clips.frames, written[0].values(), strict=True))
    means = encode_clips(EveryFourth(), folder, 5.0, pooled=True).frames
    assert len({mean.untyped_storage().data_ptr() for mean in means}) == 1


def test_frames_are_kept_only_where_wanted(toy_task, tmp_path):
    folder = Path(toy_task["test_cuts"])
    load_or_encode(FrozenEncoder("run", EveryFourth(), "one"), folder, TaskConfig(max_duration=5.0), tmp_path)
    assert not list(tmp_path.iterdir())
