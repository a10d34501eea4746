# SPDX-License-Identifier: Apache-2.0
"""Which clips share audio with an evaluated clip: the filter of the merge, and the audit of any Lhotse cutset.

Keys are compared, not audio (`audio_keys`): two clips collide when they are of one source and their times overlap or
are not known. In strict mode the whole video or sound of an evaluated clip is out of bounds.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icefall_alp.data.audio_keys import SCHEMES, AudioKey, recognise
from icefall_alp.data.captions import CutDict, heard_key
from icefall_alp.data.manifests import listed_keys, load_corpora
from icefall_alp.utils.errors import UserError


class LeakFilter:
    """Finds the evaluated clips that a clip collides with.

    Args:
        evaluated: keys of every evaluated split, by its name (`audiocaps_test`).
        strict: collide by the whole video or sound, whatever the time.
    """

    def __init__(self, evaluated: dict[str, Iterable[str]], strict: bool = False) -> None:
        self.benchmarks = tuple(evaluated)
        self._strict = strict
        self._clips: dict[str, list[tuple[AudioKey, str, str]]] = defaultdict(list)
        for benchmark, keys in evaluated.items():
            for key in keys:
                clip = AudioKey.parse(key)
                self._clips[self._place(clip)].append((clip, key, benchmark))

    def collisions(self, key: str) -> dict[str, str]:
        """By benchmark the first of its evaluated clips that may hold audio of `key`; empty if there is none."""
        clip = AudioKey.parse(key)
        found: dict[str, str] = {}
        for other, other_key, benchmark in self._clips.get(self._place(clip), ()):
            if self._strict or clip.overlaps(other):
                found.setdefault(benchmark, other_key)
        return found

    def _place(self, clip: AudioKey) -> str:
        return clip.origin if self._strict else clip.source


# ---- what is evaluated ----------------------------------------------------------------------------------------------


def evaluated_keys(corpora: Path, manifests_dir: Path) -> dict[str, list[str]]:
    """Keys of the evaluated splits of the prepared corpora, and of the lists in `evaluated_names/` beside `corpora`."""
    keys = {
        f"{name}_{split}": sorted(listed_keys(manifests_dir, name, split))
        for name, row in load_corpora(corpora).items()
        if (manifests_dir / f"{name}_report.json").is_file()
        for split in row.evaluated
    }
    lists = sorted((corpora.parent / "evaluated_names").glob("*.tsv"))
    return keys | {path.stem: read_names(path) for path in lists}


def read_names(path: Path) -> list[str]:
    """Keys of a list `<scheme><TAB><name>`, a line each, `#` before comments; for schemes see `audio_keys.SCHEMES`.

    Raises:
        UserError: no such list, or a line that names no audio. An evaluated clip that goes unread would be one to
            train on.
    """
    keys = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of names ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        scheme, _, name = line.partition("\t")
        try:
            if scheme not in SCHEMES:
                raise ValueError(f"{scheme!r} is none of the schemes {', '.join(SCHEMES)}")
            keys.append(SCHEMES[scheme](name))
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}") from error
    return keys


# ---- the audit ------------------------------------------------------------------------------------------------------


@dataclass
class AuditCounts:
    """What an audit found in one source; `benchmarks` counts colliding clips, some of them under several names."""

    clips: int = 0
    unrecognised: int = 0
    leaking: int = 0
    benchmarks: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: AuditCounts) -> AuditCounts:
        """Both together."""
        numbers = (self.clips + other.clips, self.unrecognised + other.unrecognised, self.leaking + other.leaking)
        return AuditCounts(*numbers, self.benchmarks + other.benchmarks)


def audit(
    cutset: Path,
    leaks: LeakFilter,
    scheme: str = "auto",
    found: Callable[[dict[str, str]], None] = lambda collision: None,
) -> dict[str, AuditCounts]:
    """Compare every cut of a cutset with the evaluated clips.

    Args:
        cutset: `.jsonl` or `.jsonl.gz` of Lhotse, whoever wrote it.
        leaks: knows the evaluated clips.
        scheme: of the cutset's ids, a name in `audio_keys.SCHEMES`; `auto` takes what tells itself, without trusting
            times, so that a video counts as evaluated whatever second it is cut at.
        found: called with cut, key, benchmark and the clip it collides with.

    Returns:
        Counts by source: the corpora that a cut's captions come from, else the corpus it names, else the file.

    Raises:
        UserError: no such file, a damaged one, or a line that is no cut; names the line.
    """
    read = recognise if scheme == "auto" else SCHEMES[scheme]
    counts: dict[str, AuditCounts] = defaultdict(AuditCounts)
    for clip in _read_clips(cutset):
        key = clip.key(read)
        collisions = leaks.collisions(key) if key else {}
        for benchmark, other in collisions.items():
            found({"cut": clip.id, "key": key or "", "benchmark": benchmark, "collides_with": other})
        for source in clip.sources or [name_of(cutset)]:
            counts[source].clips += 1
            counts[source].unrecognised += key is None
            counts[source].leaking += bool(collisions)
            counts[source].benchmarks.update(collisions.keys())
    return dict(counts)


def cutset_keys(cutset: Path) -> list[str]:
    """Keys of the clips of a cutset, whoever wrote it.

    Raises:
        UserError: it cannot be read, or a clip names no audio. One that goes unread would be one to train on.
    """
    keys = []
    for clip in _read_clips(cutset):
        key = clip.key(recognise)
        if key is None:
            problem = f"line {clip.line}: {clip.id[:80]!r} does not tell which audio it is"
            raise UserError(f"{cutset}: {problem}; give the names in a .tsv list with their scheme")
        keys.append(key)
    return keys


def name_of(cutset: Path) -> str:
    """A cutset's file name without what all have."""
    return cutset.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix("_cuts")


def matrix(rows: dict[str, dict[str, int]], benchmarks: Iterable[str]) -> list[str]:
    """Lines of a Markdown table: a row for each benchmark, a column for each source."""
    names = list(rows)
    lines = [f"| benchmark | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    return lines + [f"| {b} | {' | '.join(f'{rows[name].get(b, 0):,}' for name in names)} |" for b in benchmarks]


# ---- cutsets of others ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Clip:
    """What a cut, or one track of a mixed cut, says about its audio."""

    line: int
    id: str
    names: tuple[str, ...]  # the recording's id, the cut's (Lhotse may have numbered it), the paths of the audio
    sources: tuple[str, ...]
    seconds: float

    def key(self, read: Callable[[str], str]) -> str | None:
        """The key that `read` makes of the first name it can, and the length allows."""
        for name in self.names:
            try:
                return heard_key(read(name), self.seconds)
            except ValueError:
                continue
        return None


def _read_clips(path: Path) -> Iterator[_Clip]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            for line in stream:
                cut = json.loads(line)
                if not isinstance(cut, dict):
                    raise ValueError("no JSON object")
                tracks = [_object(track, "cut") for track in _objects(cut, "tracks")]
                clips = [_clip(number + 1, part) for part in tracks or [cut] if part.get("type") != "PaddingCut"]
                yield from clips
                number += 1
    except (EOFError, OSError, zlib.error, ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number + 1} cannot be read as a cut ({error})") from error


def _clip(line: int, cut: CutDict) -> _Clip:
    recording = _object(cut, "recording")
    names = (recording.get("id"), cut.get("id"), *(source.get("source") for source in _objects(recording, "sources")))
    texts = tuple(name for name in names if isinstance(name, str))
    seconds = cut.get("duration", 0.0)
    if not isinstance(seconds, int | float):
        raise ValueError("duration is no number")
    return _Clip(line, str(cut.get("id")), texts, _sources(cut), seconds)


def _sources(cut: CutDict) -> tuple[str, ...]:
    listed = [_object(supervision, "custom").get("captions") for supervision in _objects(cut, "supervisions")]
    captions = [caption for captions in listed if isinstance(captions, list) for caption in captions]
    of_captions = {str(c["source"]) for c in captions if isinstance(c, dict) and c.get("source")}
    corpus = _object(cut, "custom").get("corpus")
    return tuple(sorted(of_captions)) or ((str(corpus),) if corpus else ())


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that is a JSON object; an empty one where it is absent or null."""
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no JSON object")
    return value


def _objects(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A member that is a list of JSON objects; an empty one where it is absent or null."""
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{name} is no list of JSON objects")
    return value
