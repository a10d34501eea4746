# SPDX-License-Identifier: Apache-2.0
"""From what a corpus lists to `<corpus>_<split>_cuts.jsonl.gz`, with a line for everything that was left out.

A preparation script yields items (`captions.AudioItem`); here the lists are read row by row, the audio headers
are read in threads, and the cuts, a report of found against expected and the list of what was skipped are written:

    <corpus>_<split>_cuts.jsonl.gz   one cut per clip, sorted by key
    <corpus>_report.json             root folder, counts per split, counts per reason
    <corpus>_skipped.jsonl           reason (missing, unreadable, bad_row, duplicate, contradiction, ...), cause
                                     and key or place; here is the id of every clip that is listed and missing
    <corpus>_classes.txt             label names in index order, where the corpus has a class list
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile
from tqdm import tqdm

from icefall_alp.config.loader import config_from_dict, read_yaml
from icefall_alp.data.captions import (
    DOMAINS,
    AudioHeader,
    AudioItem,
    CaptionedAudio,
    jsonl_writer,
    make_cut,
    read_jsonl,
)
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a")  # first come, first taken for one clip
SPLITS = ("train", "valid", "test")
_CHUNK = 4096  # headers read ahead


@dataclass(frozen=True)
class SplitCounts:
    """Numbers per split; 0 where the corpus has none."""

    train: int = 0
    valid: int = 0
    test: int = 0


@dataclass(frozen=True)
class CorpusRow:
    """A row of `conf/corpora.yaml`."""

    role: str = ""  # source: its train split is merged into CaptionStew | benchmark: it is not
    domain: str = ""  # sound | music | speech
    licence: str = ""
    audio: SplitCounts = field(default_factory=SplitCounts)  # what the publishers count
    captions: SplitCounts = field(default_factory=SplitCounts)
    evaluated: tuple[str, ...] = ()  # splits whose audio no source may hold
    options: tuple[str, ...] = ()  # further words for its preparation script

    def __post_init__(self) -> None:
        """Refuse what no stage would understand."""
        if self.role not in ("source", "benchmark"):
            raise ValueError(f"role: {self.role!r} is neither source nor benchmark")
        if self.domain not in DOMAINS:
            raise ValueError(f"domain: {self.domain!r} is none of {', '.join(DOMAINS)}")
        if unknown := [split for split in self.evaluated if split not in SPLITS]:
            raise ValueError(f"evaluated: {unknown[0]!r} is none of {', '.join(SPLITS)}")


def load_corpora(path: Path) -> dict[str, CorpusRow]:
    """Read `corpora.yaml`; the order of its rows says which corpus gives the audio where several have it."""
    rows = read_yaml(path)
    for name, row in rows.items():
        if not isinstance(row, dict):
            raise UserError(f"{path}: {name}: expected role, domain and counts, found {row!r}")
    return {name: config_from_dict(CorpusRow, row, path=f"{path}: {name}") for name, row in rows.items()}


def corpus_roots(manifests_dir: Path) -> dict[str, Path]:
    """The folder of each prepared corpus, to which the paths in its cuts are relative."""
    reports = sorted(Path(manifests_dir).glob("*_report.json"))
    return {report["corpus"]: Path(report["root"]) for report in map(read_report, reports)}


def read_report(path: Path) -> dict[str, Any]:
    """Read a `<corpus>_report.json`."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; prepare the corpus again (stage 0)") from error
    return report


# ---- audio ----------------------------------------------------------------------------------------------------------


def find_audio(root: Path, folder: str = ".") -> list[str]:
    """All audio under `root/folder`, sorted, relative to `root`; of one clip in several formats one file."""
    found: dict[str, str] = {}
    visited = set()
    for parent, folders, files in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link back to a parent
            folders.clear()
            continue
        visited.add(real)
        for name in files:
            stem, suffix = os.path.splitext(os.path.join(parent, name))  # noqa: PTH118, PTH122 -- two million names
            if suffix.lower() in AUDIO_SUFFIXES:
                kept = found.get(stem)
                if kept is None or _preference(suffix) < _preference(kept):
                    found[stem] = suffix
    return sorted(PurePosixPath(os.path.relpath(stem + suffix, root)).as_posix() for stem, suffix in found.items())


def _preference(suffix: str) -> tuple[int, str]:
    return AUDIO_SUFFIXES.index(suffix.lower()), suffix


def index_audio(paths: Iterable[str], identify: Callable[[str], str]) -> dict[str, str]:
    """Paths by what `identify` makes of their stems; files it raises ValueError for belong to something else."""
    index: dict[str, str] = {}
    for path in paths:
        try:
            index.setdefault(identify(PurePosixPath(path).stem), path)
        except ValueError:
            continue
    return index


def read_header(path: Path) -> AudioHeader:
    """Read the header of an audio file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds no audio that can be read; the message is the cause.
    """
    if path.stat().st_size == 0:
        raise ValueError("empty file")
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        hint = "; convert it to flac or wav first" if path.suffix.lower() == ".m4a" else ""
        raise ValueError(f"{error.error_string.strip().rstrip('.')}{hint}") from error
    if info.frames <= 0 or info.samplerate <= 0:
        raise ValueError("no samples")
    return AudioHeader(info.samplerate, info.channels, info.frames)


def _read_headers(root: Path, items: list[AudioItem], num_jobs: int) -> Iterator[tuple[AudioItem, AudioHeader | str]]:
    """Pairs of item and header, in the order of `items`; in place of a header the cause, empty for "no such file"."""

    def read(item: AudioItem) -> AudioHeader | str:
        if item.path is None:
            return ""
        try:
            header = read_header(root / item.path)
            item.seconds_in(header)
        except (OSError, ValueError) as error:
            return "" if isinstance(error, FileNotFoundError) else str(error)
        return header

    with ThreadPoolExecutor(num_jobs) as pool:
        for start in range(0, len(items), _CHUNK):
            chunk = items[start : start + _CHUNK]
            yield from zip(chunk, pool.map(read, chunk), strict=True)


# ---- writing --------------------------------------------------------------------------------------------------------


def preparation_parser(card: str | None) -> argparse.ArgumentParser:
    """The options that every `local/prepare_*.py` has; `card` is its docstring."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=card, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--corpus-dir", type=Path, required=True, help="where the corpus lies")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"), help="where the cuts are written")
    parser.add_argument("--corpora", type=Path, required=True, help="corpora.yaml: domain and expected counts")
    parser.add_argument("--num-jobs", type=int, default=4, help="threads that read audio headers")
    return parser


def corpus_row(corpus: str, args: argparse.Namespace) -> CorpusRow:
    """The corpus's row of `--corpora`, after a look whether its folder is there."""
    rows = load_corpora(args.corpora)
    if corpus not in rows:
        raise UserError(f"{args.corpora}: no row {corpus}; rows are {', '.join(rows)}")
    if not args.corpus_dir.is_dir():
        raise UserError(f"{args.corpus_dir}: no such folder; say in local/corpora.sh where {corpus} lies")
    return rows[corpus]


def write_classes(manifests_dir: Path, corpus: str, names: Iterable[str]) -> None:
    """Write `<corpus>_classes.txt`: the names in index order."""
    atomic_write_text(manifests_dir / f"{corpus}_classes.txt", "".join(f"{name}\n" for name in names))


def write_manifests(corpus: str, items: Iterable[AudioItem], skipped: SkipList, args: argparse.Namespace) -> None:
    """Read the headers, then write the cuts of every split, the report and the list of what was skipped.

    Args:
        corpus: its name in `corpora.yaml`.
        items: what it lists. Captions of equal keys are joined; labels are not: the first row counts.
        skipped: what the script notes while `items` is read.
        args: of `preparation_parser`.

    Raises:
        UserError: no folder, no row in `corpora.yaml`, or not one of the listed clips is on disk.
    """
    row = corpus_row(corpus, args)
    splits: dict[str, list[AudioItem]] = {split: [] for split in SPLITS if getattr(row.audio, split)}
    for item in join_items(items, skipped):
        splits.setdefault(item.split, []).append(item)
    found = {}
    for split, listed in splits.items():  # an expected split gets a file even if empty: no earlier run's may stay
        path = args.manifests_dir / f"{corpus}_{split}_cuts.jsonl.gz"
        found[split] = _write_split(path, corpus, row.domain, listed, skipped, args)
    report = {
        "corpus": corpus,
        "root": str(args.corpus_dir.resolve()),
        "expected": {"audio": asdict(row.audio), "captions": asdict(row.captions)},
        "found": found,
        **dict.fromkeys(("missing", "unreadable", "bad_row"), 0),
        **skipped.counts(),
    }
    atomic_write_text(
        args.manifests_dir / f"{corpus}_skipped.jsonl",
        # half a surrogate pair, which a bad row may hold, is written as JSON's escape of it
        "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in skipped.entries)
        .encode(errors="backslashreplace")
        .decode(),
    )
    atomic_write_text(args.manifests_dir / f"{corpus}_report.json", json.dumps(report, indent=1) + "\n")
    if not any(counts["audio"] for counts in found.values()):
        num_listed = sum(map(len, splits.values()))
        raise UserError(f"{args.corpus_dir}: none of the {num_listed:,} clips that {corpus} lists can be read there")
    _print_summary(corpus, row, found, skipped, args.manifests_dir)


def join_items(items: Iterable[AudioItem], skipped: SkipList) -> list[AudioItem]:
    """One item per key, sorted by key; rows that contradict an earlier one are noted in `skipped`.

    Captions of one key and file are joined. Of two files or two contents with one key the first counts, of two splits
    the one that is held out: training on a test clip would be worse than training on a clip less.
    """
    unique: dict[str, AudioItem] = {}
    for item in items:
        known = unique.setdefault(item.key, item)
        if known is item:
            continue
        details = {"key": item.key, **({"where": skipped.where} if skipped.where else {})}
        if item.split != known.split:
            kept, lost = sorted((item, known), key=lambda clip: SPLITS.index(clip.split), reverse=True)
            unique[item.key] = kept
            cause = f"the key is in the splits {lost.split} and {kept.split}; it stays in {kept.split} alone"
            skipped.add("contradiction", cause, split=lost.split, **details)
        elif item.path != known.path:
            path = {} if item.path is None else {"path": item.path}
            skipped.add("duplicate", "another file has the same key", split=item.split, **details, **path)
        elif isinstance(known, CaptionedAudio) and isinstance(item, CaptionedAudio):
            unique[item.key] = replace(known, captions=known.captions + item.captions)
        elif known == item:
            skipped.add("duplicate", "the row was there before", split=item.split, **details)
        else:
            cause = "the key was listed before, with other content"
            skipped.add("contradiction", cause, split=item.split, **details)
    return [unique[key] for key in sorted(unique)]


def _write_split(
    path: Path, corpus: str, domain: str, items: list[AudioItem], skipped: SkipList, args: argparse.Namespace
) -> dict[str, float]:
    counts = {"audio": 0, "captions": 0, "hours": 0.0}
    headers = _read_headers(args.corpus_dir, items, args.num_jobs)
    with jsonl_writer(path) as write:
        for item, header in tqdm(headers, desc=path.name, total=len(items), unit="clip", disable=None):
            if isinstance(header, str):
                cause = header or "no such file"
                details = {"key": item.key, "split": item.split, **({"path": item.path} if item.path else {})}
                skipped.add("unreadable" if header else "missing", cause, **details)
                continue
            cut = make_cut(item, header, corpus, domain)
            write(cut)
            counts["audio"] += 1
            counts["captions"] += len(item.captions) if isinstance(item, CaptionedAudio) else 0
            counts["hours"] += cut["duration"] / 3600
    return counts


def _print_summary(
    corpus: str, row: CorpusRow, found: dict[str, dict[str, float]], skipped: SkipList, manifests_dir: Path
) -> None:
    for split, counts in found.items():
        expected = getattr(row.audio, split)
        share = f" of {expected:,} ({counts['audio'] / expected:.1%})" if expected else ""
        captions = f", {counts['captions']:,} captions" if counts["captions"] else ""
        print(f"{corpus} {split}: {counts['audio']:,} clips{share}{captions}, {counts['hours']:.2f} h")
    if skipped.entries:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.counts().items())
        print(f"{corpus} left out: {reasons}; listed in {manifests_dir / f'{corpus}_skipped.jsonl'}")


def listed_keys(manifests_dir: Path, corpus: str, split: str) -> set[str]:
    """Every key of a split that could be told: the cuts, and what is listed but absent here or a bad row.

    A clip that the evaluation set lacks here may still lie in a source corpus, and has no place there.
    """
    keys = {cut["id"] for cut in read_jsonl(manifests_dir / f"{corpus}_{split}_cuts.jsonl.gz")}
    skipped = manifests_dir / f"{corpus}_skipped.jsonl"
    if skipped.is_file():
        with skipped.open(encoding="utf-8") as stream:
            keys |= {entry["key"] for entry in map(json.loads, stream) if entry.get("split") == split}
    return keys
