# SPDX-License-Identifier: Apache-2.0
"""Subsets of a captioned cutset as rules, a few numbers each: strictly nested, seeded, stratified by source.

Every cut has a draw, a number below 2**32 that follows from (seed, cut id). A caption is in a subset when its cut's
draw is below the subset's limit for the caption's source; a cut is in it with those of its captions that are. So

* limits that grow give sets that contain each other, and limits at equal quantiles of every source's captions give
  each source its share (paper: 400k, 1m, 4m and 10m pairs);
* the limit 0 leaves a source out, with the audio that only it describes (`leave_one_out_<source>`).

A subset is a folder beside the shards of the whole set that holds nothing but `subset.json`: the whole set's features
are read (`shards.FeatureShards`), and none is stored twice. Which captions a subset has depends on the cutset it was
made from: merge other sources, and it has others.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icefall_alp.config.loader import read_yaml
from icefall_alp.data.captions import CutDict, captions_of
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import stable_seed

FILE_NAME = "subset.json"
EVERYTHING = 2**32


@dataclass(frozen=True)
class Subset:
    """A rule.

    Attributes:
        of: folder of the whole set's shards, beside this one's.
        seed: of the draws.
        limits: for every source; a source that is not here is left out.
    """

    of: str
    seed: int
    limits: dict[str, int]

    @classmethod
    def read(cls, folder: Path) -> Subset | None:
        """The rule in a folder; None where it holds none. Raises UserError when it is damaged."""
        path = folder / FILE_NAME
        if not path.is_file():
            return None
        try:
            subset = cls(**json.loads(path.read_text(encoding="utf-8")))
            sound = isinstance(subset.of, str) and all(isinstance(limit, int) for limit in subset.limits.values())
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: damaged; run stage 1 again") from error
        if not sound or Path(subset.of).name != subset.of:
            raise UserError(f"{path}: damaged; run stage 1 again")
        return subset

    def write(self, folder: Path) -> None:
        """Put the rule into its folder, which is made when missing."""
        atomic_write_text(folder / FILE_NAME, json.dumps(asdict(self), indent=1) + "\n")

    def takes(self, cut: CutDict) -> bool:
        """Whether a cut is in the subset; takes those of its captions away that are not."""
        drawn = draw(self.seed, cut["id"])
        captions = captions_of(cut)
        captions[:] = [caption for caption in captions if drawn < self.limits.get(caption["source"], 0)]
        return bool(captions)


def draw(seed: int, cut_id: str) -> int:
    """The cut's number, at least 0 and below 2**32."""
    return stable_seed("subset", seed, cut_id)


@dataclass(frozen=True)
class SubsetPlan:
    """What subsets are wanted: `pairs` by name, and one without each source if `leave_one_out`."""

    seed: int
    pairs: dict[str, int]
    leave_one_out: bool


def load_plan(path: Path) -> SubsetPlan:
    """Read `subsets.yaml`. Raises UserError when it is not seed, pairs and leave_one_out."""
    content = read_yaml(path)
    if set(content) != {"seed", "pairs", "leave_one_out"}:
        raise UserError(f"{path}: the keys are seed, pairs and leave_one_out, not {', '.join(map(str, content))}")
    plan = SubsetPlan(**content)
    sizes = plan.pairs.items() if isinstance(plan.pairs, dict) else [("pairs", plan.pairs)]
    for name, size in sizes:
        if type(size) is not int or size < 1:
            raise UserError(f"{path}: {name}: expected name: number of pairs, found {size!r}")
    if type(plan.seed) is not int or type(plan.leave_one_out) is not bool:
        raise UserError(f"{path}: seed is a whole number, leave_one_out true or false")
    return plan


class Census:
    """Draw, length and sources of every cut of a set, nine bytes a cut: enough to set limits and to count subsets."""

    def __init__(self, cuts: Iterable[CutDict], seed: int) -> None:
        kinds: dict[tuple[tuple[str, int], ...], int] = {}
        draws, seconds, kind_of = array("I"), array("f"), array("H")
        for cut in cuts:
            sources = tuple(sorted(Counter(caption["source"] for caption in captions_of(cut)).items()))
            draws.append(draw(seed, cut["id"]))
            seconds.append(cut["duration"])
            kind_of.append(kinds.setdefault(sources, len(kinds)))
        self.seed = seed
        self._kinds = [dict(kind) for kind in kinds]  # captions of each source
        self._draws, self._kind_of = np.array(draws, dtype=np.uint32), np.array(kind_of)
        self._seconds = np.array(seconds, dtype=np.float32)
        self.sources = sorted({source for kind in self._kinds for source in kind})

    def plan(self, wanted: SubsetPlan, of: str) -> dict[str, Subset]:
        """The subsets by name; one that wants more pairs than there are is everything."""
        by_source = {source: self._sorted_draws(source) for source in self.sources}
        total = sum(map(len, by_source.values()))
        subsets = {}
        for name, pairs in wanted.pairs.items():
            limits = {}
            for source, draws in by_source.items():
                quota = pairs * len(draws) // max(1, total)  # rounded down: a larger set never gives a source less
                limits[source] = int(draws[quota]) if quota < len(draws) else EVERYTHING
            subsets[name] = Subset(of, self.seed, limits)
        if wanted.leave_one_out:
            for absent in self.sources:
                limits = {source: EVERYTHING for source in self.sources if source != absent}
                subsets[f"leave_one_out_{absent}"] = Subset(of, self.seed, limits)
        return subsets

    def _sorted_draws(self, source: str) -> np.ndarray:
        """The draws of a source's captions."""
        each = np.array([kind.get(source, 0) for kind in self._kinds], dtype=np.int64)
        return np.sort(np.repeat(self._draws, each[self._kind_of]))

    def count(self, subset: Subset) -> dict[str, Any]:
        """Clips, captions and hours of a subset, and the captions of each source."""
        inside = np.zeros(len(self._draws), dtype=bool)
        captions = {}
        for source in self.sources:
            each = np.array([kind.get(source, 0) for kind in self._kinds], dtype=np.int64)[self._kind_of]
            taken = (each > 0) & (self._draws < subset.limits.get(source, 0))
            inside |= taken
            captions[source] = int(each[taken].sum())
        hours = float(self._seconds[inside].sum(dtype=np.float64)) / 3600
        return {"audio": int(inside.sum()), "captions": sum(captions.values()), "hours": hours, "sources": captions}
