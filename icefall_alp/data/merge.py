# SPDX-License-Identifier: Apache-2.0
"""CaptionStew from its sources: one cut per piece of audio with all its captions, at most a minute, no benchmark audio.

The cutsets are sorted by key, so they are merged like sorted files, in memory that depends only on the benchmarks.
Cuts with equal keys become one: the corpus that comes first gives the audio, all give their captions. A clip leaves
when it may share audio with a clip of an evaluated split (`AudioKey.overlaps`), whatever either corpus calls it; a file
that is longer than the ten seconds of its YouTube key may hold any part of the video. In strict mode it also leaves
when it comes from the same video or sound. What leaves is written down with its reason:

    too_long            longer than the limit
    leak                collides with the evaluated clip `collides_with` of `benchmark`, and maybe with further ones
    duplicate_caption   the same text as a caption of the corpus `collides_with` on this audio; the clip stays
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from icefall_alp.data.audio_keys import AudioKey
from icefall_alp.data.captions import CutDict, captions_of, heard_key, jsonl_writer, read_jsonl
from icefall_alp.data.leaks import LeakFilter
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import stable_seed

Sink = Callable[[dict[str, Any]], None]


@dataclass
class SourceCounts:
    """What became of one source. Clips: in = too_long + leak + merged + out."""

    audio_in: int = 0
    captions_in: int = 0
    hours_in: float = 0.0
    too_long: int = 0
    leak: int = 0
    merged: int = 0  # clips whose captions joined the clip of an earlier corpus
    duplicate_caption: int = 0
    audio_out: int = 0
    captions_out: int = 0
    hours_out: float = 0.0


@dataclass
class MergeSummary:
    """Counts of a merge; `train` and `valid` hold audio, captions and hours.

    `leaks` has for each source how many of its clips collide with each benchmark; one may collide with several.
    """

    sources: dict[str, SourceCounts] = field(default_factory=dict)
    leaks: dict[str, dict[str, int]] = field(default_factory=dict)
    train: dict[str, float] = field(default_factory=lambda: {"audio": 0, "captions": 0, "hours": 0.0})
    valid: dict[str, float] = field(default_factory=lambda: {"audio": 0, "captions": 0, "hours": 0.0})

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def merge_sources(
    sources: dict[str, Path],
    leaks: LeakFilter,
    output_dir: Path,
    max_seconds: float = 60.0,
    valid_share: float = 0.02,
    seed: int = 42,
) -> MergeSummary:
    """Write `captionstew_{train,valid}_cuts.jsonl.gz` and `removed.jsonl.gz`.

    Args:
        sources: cutset of each source corpus; the first in order gives the audio of a shared clip.
        leaks: knows the evaluated clips.
        output_dir: where the three files go.
        max_seconds: longer clips leave.
        valid_share: about this share of the cuts is kept for validation, chosen by video or sound: clips of one
            recording are never on both sides.
        seed: of that choice.

    Raises:
        UserError: a cutset is missing, damaged or not sorted.
    """
    summary = MergeSummary({corpus: SourceCounts() for corpus in sources}, {corpus: {} for corpus in sources})
    with (
        jsonl_writer(output_dir / "captionstew_train_cuts.jsonl.gz") as write_train,
        jsonl_writer(output_dir / "captionstew_valid_cuts.jsonl.gz") as write_valid,
        jsonl_writer(output_dir / "removed.jsonl.gz") as remove,
    ):
        for key, group in itertools.groupby(_by_key(sources), key=lambda row: row[0]):
            kept = _filter(((corpus, cut) for _, _, corpus, cut in group), leaks, max_seconds, summary, remove)
            if not kept:
                continue
            cut = _join(kept, summary, remove)
            held_out = stable_seed(seed, AudioKey.parse(key).origin) < valid_share * 2**32
            (write_valid if held_out else write_train)(cut)
            counts = summary.valid if held_out else summary.train
            counts["audio"] += 1
            counts["captions"] += len(captions_of(cut))
            counts["hours"] += cut["duration"] / 3600
    return summary


def _by_key(sources: dict[str, Path]) -> Iterator[tuple[str, int, str, CutDict]]:
    """All cuts as (key, rank of the corpus, corpus, cut), by key and then rank."""

    def rows(rank: int, corpus: str, path: Path) -> Iterator[tuple[str, int, str, CutDict]]:
        last = ""
        for cut in read_jsonl(path):
            if cut["id"] <= last:
                raise UserError(f"{path}: {cut['id']} comes after {last}; prepare {corpus} again, cuts must be sorted")
            last = cut["id"]
            yield last, rank, corpus, cut

    streams = [rows(rank, corpus, path) for rank, (corpus, path) in enumerate(sources.items())]
    return heapq.merge(*streams, key=lambda row: row[:2])


def _filter(
    cuts: Iterable[tuple[str, CutDict]], leaks: LeakFilter, max_seconds: float, summary: MergeSummary, remove: Sink
) -> list[tuple[str, CutDict]]:
    """The cuts of one key that may stay."""
    kept = []
    for corpus, cut in cuts:
        counts = summary.sources[corpus]
        counts.audio_in += 1
        counts.captions_in += len(captions_of(cut))
        counts.hours_in += cut["duration"] / 3600
        removed = {"key": cut["id"], "corpus": corpus}
        if cut["duration"] > max_seconds:
            counts.too_long += 1
            remove({**removed, "reason": "too_long", "collides_with": None, "seconds": cut["duration"]})
        elif collisions := leaks.collisions(heard_key(cut["id"], cut["duration"])):
            counts.leak += 1
            for name in collisions:
                summary.leaks[corpus][name] = summary.leaks[corpus].get(name, 0) + 1
            benchmark, other = next(iter(collisions.items()))
            remove({**removed, "reason": "leak", "collides_with": other, "benchmark": benchmark})
        else:
            kept.append((corpus, cut))
    return kept


def _join(cuts: list[tuple[str, CutDict]], summary: MergeSummary, remove: Sink) -> CutDict:
    """One cut with the captions of all, each text once."""
    first_corpus, first = cuts[0]
    corpus_of_text: dict[str, str] = {}
    captions = []
    for corpus, cut in cuts:
        counts = summary.sources[corpus]
        for caption in captions_of(cut):
            text = caption["text"].casefold()
            if text in corpus_of_text:
                counts.duplicate_caption += 1
                removed = {"key": cut["id"], "corpus": corpus, "reason": "duplicate_caption"}
                remove({**removed, "collides_with": corpus_of_text[text], "text": caption["text"]})
            else:
                corpus_of_text[text] = corpus
                captions.append(caption)
                counts.captions_out += 1
        counts.merged += cut is not first
    captions_of(first)[:] = captions
    summary.sources[first_corpus].audio_out += 1
    summary.sources[first_corpus].hours_out += first["duration"] / 3600
    return first
