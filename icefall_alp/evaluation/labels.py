# SPDX-License-Identifier: Apache-2.0
"""Labels and events of cuts as targets, which classes can be learned and scored, and clips held out for validation.

A label is a name of the class list; an event is one with an onset and an offset, in seconds from the cut's start.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from lhotse import MonoCut
from torch import Tensor

from icefall_alp.data.audio_keys import AudioKey
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import stable_seed

Event = tuple[float, float, int]  # onset and offset in seconds, class
NAMES_SHOWN = 5


def clip_targets(cuts: Sequence[MonoCut], classes: Sequence[str], multi_label: bool) -> Tensor:
    """What the clips are.

    Returns:
        Multi-hot (N, K) bool, or (N,) int64 classes where a clip has exactly one.

    Raises:
        UserError: A label is not in the class list, or a clip of a single-label task has not exactly one.
    """
    column = {name: k for k, name in enumerate(classes)}
    targets = torch.zeros(len(cuts), len(classes), dtype=torch.bool) if multi_label else torch.zeros(len(cuts)).long()
    for i, cut in enumerate(cuts):
        labels = (cut.supervisions[0].custom or {}).get("labels", [])
        places = [_place(cut.id, name, column) for name in labels]
        if multi_label:
            targets[i, places] = True
        elif len(places) == 1:
            targets[i] = places[0]
        else:
            raise UserError(f"{cut.id}: {len(places)} labels; this task needs exactly one, or multi_label: true")
    return targets


def clip_events(cuts: Sequence[MonoCut], classes: Sequence[str]) -> list[list[Event]]:
    """The events of each clip, in order of time; those of one class that touch or overlap are one event.

    Raises:
        UserError: A clip carries no list of events, an event's label is not in the class list, or it lies outside the
            clip.
    """
    column = {name: k for k, name in enumerate(classes)}
    events = []
    for cut in cuts:
        rows = (cut.supervisions[0].custom or {}).get("events")
        if rows is None:
            raise UserError(f"{cut.id}: no events; detection needs cuts whose labels have onset and offset")
        found = []
        for row in rows:
            onset, offset = max(0.0, row["onset"]), min(row["offset"], cut.duration)
            if not row["onset"] < row["offset"]:
                raise UserError(f"{cut.id}: {row['label']} from {row['onset']} s to {row['offset']} s bounds no event")
            place = _place(cut.id, row["label"], column)
            if onset < offset:  # lists round times: an event may begin where the audio has just ended
                found.append((onset, offset, place))
        events.append(_merged(found))
    return events


def _place(cut_id: str, name: str, column: dict[str, int]) -> int:
    if name not in column:
        raise UserError(f"{cut_id}: label {name!r} is not in the class list of {len(column)} names")
    return column[name]


def _merged(events: list[Event]) -> list[Event]:
    merged: list[Event] = []
    for onset, offset, k in sorted(events, key=lambda event: (event[2], event[0])):
        if merged and merged[-1][2] == k and onset <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(offset, merged[-1][1]), k)
        else:
            merged.append((onset, offset, k))
    return sorted(merged)


def frame_targets(events: Sequence[Event], num_frames: int, duration: float, num_classes: int) -> Tensor:
    """Which classes sound in the middle of each frame: (T, K) bool. Frames divide the duration evenly."""
    targets = torch.zeros(num_frames, num_classes, dtype=torch.bool)
    middles = (torch.arange(num_frames) + 0.5) * (duration / num_frames)
    for onset, offset, k in events:
        targets[(middles >= onset) & (middles < offset), k] = True
    return targets


def class_counts(targets: Tensor, num_classes: int) -> np.ndarray:
    """(K,) clips of each class."""
    return (targets.sum(0) if targets.dtype == torch.bool else torch.bincount(targets, minlength=num_classes)).numpy()


def without_clips(task: str, classes: Sequence[str], counts: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """Classes that a part of the task has no clip of, each part in one line on standard output.

    Args:
        task: Shown.
        classes: The K names.
        counts: Part (train, test) -> (K,) clips of each class.

    Returns:
        `classes without <part> clip` -> names, for the result's file; parts that have all classes are left out.
    """
    missing = {}
    for part, numbers in counts.items():
        names = [name for name, number in zip(classes, numbers, strict=True) if number == 0]
        if names:
            shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
            print(f"{task}: {len(names)} of {len(classes)} classes have no {part} clip: {shown}", flush=True)
            missing[f"classes without {part} clip"] = names
    return missing


def held_out(cuts: Sequence[MonoCut], share: float, seed: int) -> np.ndarray:
    """(N,) true for clips held out for validation: all clips of a drawn recording, so that none is on both sides.

    Args:
        cuts: Training clips.
        share: Of the recordings (videos, sounds, songs), between 0 and 1.
        seed: Of the draw. Where it takes no recording, or all, the one nearest to the other side changes over.

    Raises:
        UserError: The share is not between 0 and 1, or there is only one recording.
    """
    if not 0 < share < 1:
        raise UserError(f"valid_share: {share} is not between 0 and 1; change it, or name valid_cuts")
    draws = np.array([stable_seed(seed, "held out", _origin(cut.id)) for cut in cuts])
    if len(np.unique(draws)) < 2:
        raise UserError(f"valid_share: the {len(cuts)} training clips are of one recording; name valid_cuts")
    drawn = draws < share * 2**32
    if not drawn.any():
        drawn = draws == draws.min()
    elif drawn.all():
        drawn = draws != draws.max()
    return drawn


def _origin(cut_id: str) -> str:
    try:
        return AudioKey.parse(cut_id).origin
    except ValueError:
        return cut_id
