# SPDX-License-Identifier: Apache-2.0
"""Labels and events become targets; bad ones are named; recordings are held out whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lhotse import MonoCut, SupervisionSegment

from icefall_alp.evaluation.labels import (
    class_counts,
    clip_events,
    clip_targets,
    frame_targets,
    held_out,
    without_clips,
)
from icefall_alp.utils.errors import UserError

CLASSES = ("engine", "bell", "rain")


def cut(cut_id="fs:1", duration=2.0, **custom):
    return MonoCut(
        cut_id, 0, duration, 0, supervisions=[SupervisionSegment(cut_id, cut_id, 0, duration, custom=custom)]
    )


def test_targets():
    cuts = [cut(labels=["rain"]), cut(labels=["engine"])]
    assert clip_targets(cuts, CLASSES, multi_label=False).tolist() == [2, 0]
    assert clip_targets(cuts, CLASSES, multi_label=True).tolist() == [[False, False, True], [True, False, False]]
    assert class_counts(clip_targets(cuts, CLASSES, False), 3).tolist() == [1, 0, 1]
    assert class_counts(clip_targets(cuts, CLASSES, True), 3).tolist() == [1, 0, 1]


def test_bad_labels_are_named():
    with pytest.raises(UserError, match="fs:1: label 'dog' is not in the class list of 3 names"):
        clip_targets([cut(labels=["dog"])], CLASSES, True)
    with pytest.raises(UserError, match="fs:1: 2 labels; this task needs exactly one"):
        clip_targets([cut(labels=["rain", "bell"])], CLASSES, False)
    with pytest.raises(UserError, match="fs:1: 0 labels"):
        clip_targets([cut()], CLASSES, False)


def test_classes_without_clips_are_one_line(capsys):
    missing = without_clips("sounds", CLASSES, {"train": np.array([1, 0, 0]), "test": np.array([1, 1, 1])})
    assert missing == {"classes without train clip": ["bell", "rain"]}
    assert capsys.readouterr().out == "sounds: 2 of 3 classes have no train clip: bell, rain\n"


def event(label, onset, offset):
    return {"label": label, "onset": onset, "offset": offset}


def test_events_of_one_class_that_overlap_are_one():
    rows = [event("bell", 0.5, 1.0), event("rain", 0.2, 0.4), event("bell", 0.9, 1.5), event("bell", 1.7, 2.4)]
    (events,) = clip_events([cut(events=rows)], CLASSES)
    assert events == [(0.2, 0.4, 2), (0.5, 1.5, 1), (1.7, 2.0, 1)]  # the last ends with the clip
    assert clip_events([cut(events=[event("rain", 2.0, 2.5)])], CLASSES) == [[]]


def test_bad_events_are_named():
    with pytest.raises(UserError, match="fs:1: no events"):
        clip_events([cut(labels=["rain"])], CLASSES)
    with pytest.raises(UserError, match="'dog' is not in the class list"):
        clip_events([cut(events=[event("dog", 0, 1)])], CLASSES)
    with pytest.raises(UserError, match="rain from 1 s to 1 s bounds no event"):
        clip_events([cut(events=[event("rain", 1, 1)])], CLASSES)


def test_frame_targets_by_hand():
    # four frames of 0.5 s with middles at 0.25, 0.75, 1.25, 1.75
    targets = frame_targets([(0.3, 1.3, 1), (1.75, 2.0, 0)], 4, 2.0, 3)
    assert targets.int().tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert targets.dtype == torch.bool


def test_recordings_are_held_out_whole_and_the_draw_repeats():
    cuts = [cut(f"yt:{video:011d}:{start}000") for video in range(300) for start in (10, 20)]
    drawn = held_out(cuts, 0.2, 42)
    assert drawn.tolist() == held_out(cuts, 0.2, 42).tolist() != held_out(cuts, 0.2, 43).tolist()
    assert (drawn[::2] == drawn[1::2]).all()
    assert 0.12 < drawn.mean() < 0.28
    assert drawn[100:].tolist() == held_out(cuts[100:], 0.2, 42).tolist()  # other clips change no draw
    with pytest.raises(UserError, match=r"valid_share: 0\.0 is not between 0 and 1"):
        held_out(cuts, 0.0, 42)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_of_few_recordings_one_is_held_out_and_one_is_left(share):
    cuts = [cut(f"yt:{video:011d}:10000") for video in range(4)]
    assert held_out(cuts, share, 42).sum() == (1 if share < 0.5 else 3)
    with pytest.raises(UserError, match="the 2 training clips are of one recording"):
        held_out([cut("yt:00000000001:10000"), cut("yt:00000000001:20000")], share, 42)
