# SPDX-License-Identifier: Apache-2.0
"""One pass over the merged cuts: what the tables and figures need, and whether every cut keeps the rules."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from icefall_alp.data.audio_keys import AudioKey
from icefall_alp.data.caption_map import CaptionSample
from icefall_alp.data.captions import CutDict, captions_of, check_cut, read_jsonl
from icefall_alp.data.statistics import CaptionStatistics

TOTAL = "CaptionStew"


class Description:
    """What is collected.

    Attributes:
        captions: of every source.
        sample: captions for the map.
        audio, hours: clips that a source describes and their length; `TOTAL` counts each clip once.
        seconds: number of clips by whole seconds of length, for each corpus that gives the audio.
        problems: cuts that break a rule, in words; at most `MAX_PROBLEMS` are kept.
        num_problems: how many there were.
    """

    MAX_PROBLEMS = 20

    def __init__(self, max_seconds: float, per_source: int, seed: int) -> None:
        self.captions = CaptionStatistics()
        self.sample = CaptionSample(per_source, seed)
        self.audio: dict[str, int] = defaultdict(int)
        self.hours: dict[str, float] = defaultdict(float)
        self.seconds: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(int(max_seconds) + 1, dtype=np.int64))
        self.problems: list[str] = []
        self.num_problems = 0
        self._max_seconds = max_seconds

    def problem(self, text: str) -> None:
        """Note a broken rule."""
        self.num_problems += 1
        if len(self.problems) < self.MAX_PROBLEMS:
            self.problems.append(text)

    def add(self, cut: CutDict, last: str, elsewhere: set[str]) -> None:
        """Count a cut and check it against the one before and the recordings of the other split."""
        if problem := check_cut(cut):
            self.problem(f"{cut.get('id')}: {problem}")
            return
        if cut["id"] <= last:
            self.problem(f"{cut['id']}: not after {last}")
        if cut["duration"] > self._max_seconds:
            self.problem(f"{cut['id']}: {cut['duration']:.2f} s is over the limit of {self._max_seconds:g} s")
        if AudioKey.parse(cut["id"]).origin in elsewhere:
            self.problem(f"{cut['id']}: the same recording is in train and valid")
        counts = self.seconds[cut["custom"]["corpus"]]
        counts[min(int(cut["duration"]), len(counts) - 1)] += 1
        sources = {caption["source"] for caption in captions_of(cut)}
        for name in [*sorted(sources), TOTAL]:
            self.audio[name] += 1
            self.hours[name] += cut["duration"] / 3600
        for caption in captions_of(cut):
            self.captions.add(caption["source"], caption["text"])
            self.sample.add(caption["source"], caption["text"])


def describe(captionstew_dir: Path, summary: dict[str, Any], per_source: int, seed: int) -> Description:
    """Read both splits once."""
    description = Description(summary["max_seconds"], per_source, seed)
    valid_recordings: set[str] = set()
    for split in ("valid", "train"):
        last, num_cuts = "", 0
        path = captionstew_dir / f"captionstew_{split}_cuts.jsonl.gz"
        for cut in tqdm(read_jsonl(path), desc=path.name, unit="cut", disable=None):
            description.add(cut, last, valid_recordings if split == "train" else set())
            last, num_cuts = cut.get("id", last), num_cuts + 1
            if split == "valid":
                valid_recordings.add(AudioKey.parse(last).origin)
        if num_cuts != summary[split]["audio"]:
            description.problem(f"{split}: {num_cuts:,} cuts, but summary.json says {summary[split]['audio']:,}")
    return description
