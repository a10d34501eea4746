#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 3: check the merged cuts and describe them (paper, Tables 1, 4 and 5) in report.md.

A cut that breaks a rule makes the command fail, after the report is written.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from icefall_alp.data.audio_keys import AudioKey
from icefall_alp.data.captions import CutDict, captions_of, check_cut, read_jsonl
from icefall_alp.data.manifests import read_report
from icefall_alp.data.statistics import CaptionStatistics, Lexicon
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit

TOTAL = "CaptionStew"


class Description:
    """What one pass over the merged cuts collects."""

    def __init__(self, max_seconds: float) -> None:
        self.captions: dict[str, CaptionStatistics] = defaultdict(CaptionStatistics)
        self.audio: dict[str, int] = defaultdict(int)
        self.hours: dict[str, float] = defaultdict(float)
        self.problems: list[str] = []
        self._max_seconds = max_seconds

    def add(self, cut: CutDict, last: str, elsewhere: set[str]) -> None:
        """Count a cut and check it against the one before and the recordings of the other split."""
        if problem := check_cut(cut):
            self.problems.append(f"{cut.get('id')}: {problem}")
            return
        if cut["id"] <= last:
            self.problems.append(f"{cut['id']}: not after {last}")
        if cut["duration"] > self._max_seconds:
            self.problems.append(f"{cut['id']}: {cut['duration']:.2f} s is over the limit of {self._max_seconds:g} s")
        if AudioKey.parse(cut["id"]).origin in elsewhere:
            self.problems.append(f"{cut['id']}: the same recording is in train and valid")
        sources = {caption["source"] for caption in captions_of(cut)}
        for name in [*sorted(sources), TOTAL]:
            self.audio[name] += 1
            self.hours[name] += cut["duration"] / 3600
        for caption in captions_of(cut):
            self.captions[caption["source"]].add(caption["text"])
            self.captions[TOTAL].add(caption["text"])


def describe(captionstew_dir: Path, summary: dict[str, Any]) -> Description:
    """Read both splits once."""
    description = Description(summary["max_seconds"])
    valid_recordings: set[str] = set()
    for split in ("valid", "train"):
        last, num_cuts = "", 0
        for cut in read_jsonl(captionstew_dir / f"captionstew_{split}_cuts.jsonl.gz"):
            description.add(cut, last, valid_recordings if split == "train" else set())
            last, num_cuts = cut.get("id", last), num_cuts + 1
            if split == "valid":
                valid_recordings.add(AudioKey.parse(last).origin)
        if num_cuts != summary[split]["audio"]:
            description.problems.append(
                f"{split}: {num_cuts:,} cuts, but summary.json says {summary[split]['audio']:,}"
            )
    return description


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; columns after the first are numbers."""
    names = header.split("|")
    lines = [names, ["---", *["--:"] * (len(names) - 1)], *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def found_table(reports: list[dict[str, Any]]) -> str:
    """Found against expected, and what was left out."""
    rows = []
    for report in reports:
        for split, found in report["found"].items():
            expected = report["expected"]["audio"][split]
            against = (f"{expected:,}", f"{found['audio'] / expected:.1%}") if expected else ("", "")
            captions = f"{found['captions']:,}" if found["captions"] else ""
            clips, hours = f"{found['audio']:,}", f"{found['hours']:.2f}"
            rows.append((f"{report['corpus']} {split}", clips, *against, captions, hours))
    return table("corpus|clips|expected|share|captions|hours", rows)


def skipped_table(reports: list[dict[str, Any]]) -> str:
    """What stage 0 left out, by reason."""
    rows = ((r["corpus"], r["missing"], r["unreadable"], r["bad_row"], r.get("duplicate", 0)) for r in reports)
    return table("corpus|missing|unreadable|bad rows|duplicate ids", rows)


def source_table(description: Description, names: list[str]) -> str:
    """Size and words of every source."""

    def row(name: str) -> list[str]:
        lexicon: Lexicon = description.captions[name].lexicon()
        distinct = [f"{share:.3f}" for share in lexicon.distinct]
        size = [f"{description.audio[name]:,}", f"{lexicon.num_captions:,}", f"{description.hours[name]:.2f}"]
        return [name, *size, f"{lexicon.vocabulary:,}", f"{lexicon.words_per_caption:.2f}", *distinct]

    header = "source|audio|captions|hours|vocabulary|words per caption|Distinct-1|Distinct-2|Distinct-3|Distinct-4"
    return table(header, map(row, [*names, TOTAL]))


def removal_table(summary: dict[str, Any]) -> str:
    """What stage 1 did with the clips of every source."""
    columns = ("audio_in", "too_long", "leak", "merged", "audio_out", "duplicate_caption")
    rows = ([name, *(f"{counts[column]:,}" for column in columns)] for name, counts in summary["sources"].items())
    return table("source|clips in|over the limit|leaks|merged into another|clips out|duplicate captions", rows)


def render(description: Description, summary: dict[str, Any], reports: list[dict[str, Any]]) -> str:
    """The report in Markdown."""
    evaluated = ", ".join(f"{name} ({count:,})" for name, count in summary["evaluated"].items())
    sections = [
        f"# {TOTAL}: what is in it\n\nA clip that several sources describe counts for each of them. Words are "
        "lower-cased runs of letters and digits.\nDistinct-n is the number of different n-grams over all n-grams, and "
        "falls with size.\n",
        source_table(description, list(summary["sources"])),
        "## Found on disk\n\nExpected is what the publishers count.\n",
        found_table(reports),
        "Left out, each listed in `data/manifests/<corpus>_skipped.jsonl`:\n",
        skipped_table(reports),
        f"## Merged\n\nEach removal is a line of `removed.jsonl.gz`. Limit: {summary['max_seconds']:g} s. Kept out: "
        f"{evaluated or 'nothing'}.\nCorpora without manifests: {', '.join(summary['absent']) or 'none'}.\n",
        removal_table(summary),
        f"## Checks\n\n{summary['train']['audio']:,} training and {summary['valid']['audio']:,} validation cuts are "
        "sorted, unique, well-formed and within the limit,\nand share no recording: "
        f"{len(description.problems):,} problems.\n",
        "".join(f"- {problem}\n" for problem in description.problems[:20]),
    ]
    return "\n".join(section for section in sections if section)


@clean_exit
def main() -> None:
    """Read the command line, write the report, fail if a check did."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"))
    parser.add_argument("--captionstew-dir", type=Path, default=Path("data/captionstew"))
    args = parser.parse_args()
    path = args.captionstew_dir / "summary.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run stage 1")
    summary = json.loads(path.read_text(encoding="utf-8"))
    reports = [read_report(report) for report in sorted(args.manifests_dir.glob("*_report.json"))]
    description = describe(args.captionstew_dir, summary)
    text = render(description, summary, reports)
    atomic_write_text(args.captionstew_dir / "report.md", text)
    print(text)
    if problems := description.problems:
        raise UserError(f"{args.captionstew_dir}: {len(problems):,} problems, the first: {problems[0]}; see report.md")


if __name__ == "__main__":
    main()
