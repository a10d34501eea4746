# SPDX-License-Identifier: Apache-2.0
"""Three disjoint parts; one pass per set, also where validation clips are held out of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icefall_alp.config import ProbeConfig
from icefall_alp.evaluation.encoders import FrozenEncoder, LogMelStatistics
from icefall_alp.evaluation.parts import open_parts
from icefall_alp.utils.errors import UserError


@pytest.fixture
def config(toy_task):
    return ProbeConfig(train_cuts=toy_task["train_cuts"], test_cuts=toy_task["test_cuts"], valid_share=0.25)


def test_held_out_clips_leave_training(config, log_mel, tmp_path):
    parts = open_parts(log_mel, config, tmp_path, frames=False)
    train, valid, test = (parts[name] for name in ("train", "valid", "test"))
    assert sorted(np.concatenate([train.positions, valid.positions])) == list(range(80))
    assert parts["all training"].positions.tolist() == list(range(80))
    assert train.set is valid.set and len(test.cuts) == len(test.durations) == 20
    assert [cut.id for cut in valid.cuts] == [train.set.clips.cuts[i].id for i in valid.positions]
    assert len(valid.positions) < len(train.positions)


def test_named_validation_clips_are_used_and_overlap_is_refused(config, log_mel, tmp_path, write_mixed, capsys):
    with pytest.raises(UserError, match="every validation clip is a test clip"):
        open_parts(log_mel, replace(config, valid_cuts=config.test_cuts), tmp_path, frames=False)
    write_mixed(tmp_path / "mixed")
    mixed = replace(config, valid_cuts=str(tmp_path / "mixed"))
    parts = open_parts(log_mel, mixed, tmp_path, frames=False)
    assert [cut.id for cut in parts["valid"].cuts] == ["valid:0", "valid:1"] and "all training" not in parts
    assert "mixed: 3 clips left out, which are test clips too" in capsys.readouterr().out
    with pytest.raises(UserError, match="80 valid clips are also train clips"):
        open_parts(log_mel, replace(config, valid_cuts=config.train_cuts), tmp_path, frames=False)


def test_every_clip_is_encoded_once(config, tmp_path):
    class Counting(LogMelStatistics):
        clips = 0

        def forward(self, features, feature_lens):
            Counting.clips += len(features)
            return super().forward(features, feature_lens)

    open_parts(FrozenEncoder("run", Counting(), "d"), config, tmp_path, frames=True)
    assert Counting.clips == 100
