# SPDX-License-Identifier: Apache-2.0
"""From what a corpus lists to `<corpus>_<split>_cuts.jsonl.gz`, with a line for everything that was left out.

A preparation script yields items (`captions.AudioItem`); here they are sorted and joined (`listing`), the audio headers
are read in threads or taken from a scan (`audio_scan`), and the cuts, a report of found against expected and the list
of what was skipped are written, in memory that does not grow with the corpus:

    <corpus>_<split>_cuts.jsonl.gz   one cut per clip, sorted by key
    <corpus>_report.json             root folder, counts per split, counts per reason
    <corpus>_skipped.jsonl           reason (missing, unreadable, bad_row, duplicate, contradiction, ...), cause
                                     and key or place; here is the id of every clip that is listed and missing
    <corpus>_classes.txt             label names in index order, where the corpus has a class list

A benchmark of which only the lists are there gets a warning and no cuts: what it evaluates is known all the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from icefall_alp.config.loader import config_from_dict, read_yaml
from icefall_alp.data.audio_scan import find_audio as find_audio  # what a preparation script needs comes from here
from icefall_alp.data.audio_scan import index_audio as index_audio
from icefall_alp.data.audio_scan import kept_scan, read_header
from icefall_alp.data.captions import (
    DOMAINS,
    SPLITS,
    AudioHeader,
    AudioItem,
    CaptionedAudio,
    QuestionedAudio,
    heard_key,
    jsonl_writer,
    make_cut,
    read_jsonl,
)
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.listing import joined_items
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError

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
        UserError: no folder, no row in `corpora.yaml`, no clip listed or, of a source, not one of them on disk.
    """
    row = corpus_row(corpus, args)
    listed = joined_items(items, skipped, args.manifests_dir)
    found, num_listed = _write_cuts(listed, corpus, row, skipped, args)
    report = {
        "corpus": corpus,
        "root": str(args.corpus_dir.resolve()),
        "expected": {"audio": asdict(row.audio), "captions": asdict(row.captions)},
        "found": found,
        **dict.fromkeys(("missing", "unreadable", "bad_row"), 0),
        **skipped.counts(),
    }
    skipped.write(args.manifests_dir / f"{corpus}_skipped.jsonl")
    atomic_write_text(args.manifests_dir / f"{corpus}_report.json", json.dumps(report, indent=1) + "\n")
    if not any(counts["audio"] for counts in found.values()):
        nothing = f"{args.corpus_dir}: none of the {num_listed:,} clips that {corpus} lists can be read there"
        if row.role == "source" or not num_listed:
            raise UserError(nothing)
        for split in found:  # an empty cutset would pass for a prepared one
            (args.manifests_dir / f"{corpus}_{split}_cuts.jsonl.gz").unlink()
        print(f"warning: {nothing}; no source may hold what it evaluates, and no stage can use it", file=sys.stderr)
    _print_summary(corpus, row, found, skipped, args.manifests_dir)


def _write_cuts(
    items: Iterator[AudioItem], corpus: str, row: CorpusRow, skipped: SkipList, args: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], int]:
    """Write the cuts of every split; returns what was found of each, and how many clips were listed."""
    # an expected split gets a file even if empty: no earlier run's may stay
    found = {split: {"audio": 0, "captions": 0, "questions": 0, "hours": 0.0} for split in SPLITS}
    num_listed, written = 0, set()
    with ExitStack() as stack:
        paths = {split: args.manifests_dir / f"{corpus}_{split}_cuts.jsonl.gz" for split in SPLITS}
        write = {split: stack.enter_context(jsonl_writer(path)) for split, path in paths.items()}
        headers = _read_headers(args.corpus_dir, items, args.num_jobs)
        for item, header in tqdm(headers, desc=corpus, unit="clip", disable=None):
            num_listed += 1
            written.add(item.split)
            if isinstance(header, str):
                cause = header or "no such file"
                details = {"key": item.key, "split": item.split, **({"path": item.path} if item.path else {})}
                skipped.add("unreadable" if header else "missing", cause, **details)
                continue
            cut = make_cut(item, header, corpus, row.domain)
            write[item.split](cut)
            counts = found[item.split]
            counts["audio"] += 1
            counts["captions"] += len(item.captions) if isinstance(item, CaptionedAudio) else 0
            counts["questions"] += len(item.questions) if isinstance(item, QuestionedAudio) else 0
            counts["hours"] += cut["duration"] / 3600
    for split in [split for split in SPLITS if split not in written and not getattr(row.audio, split)]:
        paths[split].unlink()
        del found[split]
    return found, num_listed


def _read_headers(
    root: Path, items: Iterator[AudioItem], num_jobs: int
) -> Iterator[tuple[AudioItem, AudioHeader | str]]:
    """Pairs of item and header, in the order of `items`; in place of a header the cause, empty for "no such file"."""
    scan = kept_scan(root)

    def read(item: AudioItem) -> AudioHeader | str:
        if item.path is None:
            return ""
        try:
            header = scan.header(item.path) if scan else read_header(root / item.path)
            item.seconds_in(header)
        except (OSError, ValueError) as error:
            return "" if isinstance(error, FileNotFoundError) else str(error)
        return header

    if scan:
        yield from ((item, read(item)) for item in items)
        return
    with ThreadPoolExecutor(num_jobs) as pool:
        while chunk := list(itertools.islice(items, _CHUNK)):
            yield from zip(chunk, pool.map(read, chunk), strict=True)


def _print_summary(
    corpus: str, row: CorpusRow, found: dict[str, dict[str, float]], skipped: SkipList, manifests_dir: Path
) -> None:
    for split, counts in found.items():
        expected = getattr(row.audio, split)
        share = f" of {expected:,} ({counts['audio'] / expected:.1%})" if expected else ""
        captions = "".join(f", {counts[kind]:,} {kind}" for kind in ("captions", "questions") if counts[kind])
        print(f"{corpus} {split}: {counts['audio']:,} clips{share}{captions}, {counts['hours']:.2f} h")
    if skipped.counts():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.counts().items())
        print(f"{corpus} left out: {reasons}; listed in {manifests_dir / f'{corpus}_skipped.jsonl'}")


def listed_keys(manifests_dir: Path, corpus: str, split: str) -> set[str]:
    """Every key of a split that could be told: the cuts, and what is listed but absent here or a bad row.

    A clip that the evaluation set lacks here may still lie in a source corpus, and has no place there.
    """
    found = read_report(manifests_dir / f"{corpus}_report.json")["found"]
    has_cuts = split not in found or found[split]["audio"]
    path = manifests_dir / f"{corpus}_{split}_cuts.jsonl.gz"
    keys = {heard_key(cut["id"], cut["duration"]) for cut in read_jsonl(path)} if has_cuts else set()
    skipped = manifests_dir / f"{corpus}_skipped.jsonl"
    if skipped.is_file():
        with skipped.open(encoding="utf-8") as stream:
            entries = (entry for entry in map(json.loads, stream) if entry.get("split") == split)
            keys |= {entry["key"] for entry in entries if "key" in entry}
    return keys
