# SPDX-License-Identifier: Apache-2.0
"""Training, validation and test clips of a probing task, each set encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import MonoCut

from icefall_alp.config import ProbeConfig
from icefall_alp.evaluation.encode import check_disjoint
from icefall_alp.evaluation.encoders import FrozenEncoder, open_clips
from icefall_alp.evaluation.frozen_set import FrozenSet, open_frozen_set
from icefall_alp.evaluation.labels import held_out
from icefall_alp.utils.errors import UserError


@dataclass(frozen=True)
class Part:
    """Some clips of a set.

    Attributes:
        set: The set.
        positions: (n,) of the clips in it.
    """

    set: FrozenSet
    positions: np.ndarray

    @property
    def cuts(self) -> list[MonoCut]:
        """The clips, in the order of `positions`."""
        return [self.set.clips.cuts[int(i)] for i in self.positions]

    @property
    def durations(self) -> np.ndarray:
        """(n,) seconds."""
        return self.set.clips.durations[self.positions]


def open_parts(encoder: FrozenEncoder, config: ProbeConfig, exp_dir: Path, frames: bool) -> dict[str, Part]:
    """The task's `train`, `valid` and `test` clips, encoded.

    Test clips among the validation clips are left out of validation, in one line on standard output. Where the task
    names no `valid_cuts`, a seeded share of the training recordings is held out of training; a fourth part, `all
    training`, has them and the others, for the last heads to be trained on.

    Args:
        encoder: Frozen.
        config: Of the task.
        exp_dir: Of the run, for the caches.
        frames: Whether frames are wanted besides the clips' means.

    Raises:
        UserError: A training clip is also a test or validation clip, every validation clip is a test clip, or see
            `frozen_pass.encoded_batches` and `held_out`.
    """
    budget = config.frames_gb if frames else 0.0
    folders = {"train": config.train_cuts, "valid": config.valid_cuts, "test": config.test_cuts}
    clips = {name: open_clips(encoder, Path(folder)) for name, folder in folders.items() if folder}
    for other in [name for name in clips if name != "train"]:
        check_disjoint(clips["train"], clips[other], ("train", other))
    sets = {name: open_frozen_set(encoder, own, config.max_duration, exp_dir, budget) for name, own in clips.items()}
    parts = {name: Part(own, np.arange(len(own.clips))) for name, own in sets.items()}
    if "valid" in parts:
        parts["valid"] = _without(parts["valid"], {cut.id for cut in parts["test"].cuts})
    else:
        drawn = held_out(clips["train"].cuts, config.valid_share, config.seed)
        parts["valid"] = Part(sets["train"], np.flatnonzero(drawn))
        parts["all training"] = parts["train"]
        parts["train"] = Part(sets["train"], np.flatnonzero(~drawn))
    return parts


def _without(part: Part, ids: set[str]) -> Part:
    """The validation clips that are no test clips."""
    kept = [cut.id not in ids for cut in part.cuts]
    if not any(kept):
        raise UserError(f"{part.set.clips.folder}: every validation clip is a test clip; name other valid_cuts")
    if not all(kept):
        print(f"{part.set.clips.folder}: {kept.count(False)} clips left out, which are test clips too", flush=True)
    return Part(part.set, part.positions[np.array(kept)])
