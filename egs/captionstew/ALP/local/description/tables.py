# SPDX-License-Identifier: Apache-2.0
"""The tables of the report in Markdown, ours beside the paper's (conf/paper.yaml, `corpora`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from description.collect import TOTAL, Description
from icefall_alp.data.statistics import MAX_ORDER, Lexicon

Paper = dict[str, dict[str, Any]]


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; columns after the first are numbers."""
    names = header.split("|")
    lines = [names, ["---", *["--:"] * (len(names) - 1)], *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def number(value: float | None, form: str = ",") -> str:
    """A number of the paper, or nothing where it has none."""
    return "" if value is None else format(value, form)


def size_table(description: Description, lexicons: dict[str, Lexicon], paper: Paper) -> str:
    """Clips, captions and hours beside Tables 1 and 5."""

    def row(name: str) -> list[str]:
        theirs = paper.get(name, {})
        audio = [f"{description.audio[name]:,}", number(theirs.get("audio"))]
        captions = [f"{lexicons[name].num_captions:,}", number(theirs.get("captions")), number(theirs.get("pairs"))]
        return [name, *audio, *captions, f"{description.hours[name]:,.2f}", number(theirs.get("hours"))]

    header = "source|audio|paper T5|captions|paper T5|paper T1 (pairs)|hours|paper"
    return table(header, map(row, lexicons))


def word_table(lexicons: dict[str, Lexicon], paper: Paper) -> str:
    """Vocabulary, words per caption and Distinct-n beside Tables 1 and 4."""

    def row(name: str) -> list[str]:
        ours, theirs = lexicons[name], paper.get(name, {})
        cells = [f"{ours.vocabulary:,}", number(theirs.get("vocabulary")), number(theirs.get("vocabulary_table_1"))]
        cells += [f"{ours.words_per_caption:.2f}", number(theirs.get("words_per_caption"), ".2f")]
        for share, published in zip(ours.distinct, theirs.get("distinct", [None] * MAX_ORDER), strict=True):
            cells += [f"{share:.3f}", number(published, ".3f")]
        return [name, *cells]

    orders = "".join(f"|Distinct-{order}|paper" for order in range(1, MAX_ORDER + 1))
    return table(f"source|vocabulary|paper T4|paper T1|words per caption|paper{orders}", map(row, lexicons))


def matched_table(lexicons: dict[str, Lexicon]) -> str:
    """Words of equally large samples."""
    rows = (
        [name, f"{ours.num_words:,}", f"{ours.vocabulary:,}", *(f"{share:.3f}" for share in ours.distinct)]
        for name, ours in lexicons.items()
    )
    return table("source|words|vocabulary|Distinct-1|Distinct-2|Distinct-3|Distinct-4", rows)


def found_table(reports: list[dict[str, Any]]) -> str:
    """Found against expected, and what was left out."""
    rows = []
    for report in reports:
        for split, found in report["found"].items():
            expected = report["expected"]["audio"][split]
            against = (f"{expected:,}", f"{found['audio'] / expected:.1%}") if expected else ("", "")
            texts = (f"{found[kind]:,}" if found.get(kind) else "" for kind in ("captions", "questions"))
            rows.append(
                (f"{report['corpus']} {split}", f"{found['audio']:,}", *against, *texts, f"{found['hours']:.2f}")
            )
    return table("corpus|clips|expected|share|captions|questions|hours", rows)


def skipped_table(reports: list[dict[str, Any]]) -> str:
    """What stage 0 left out, by every reason that occurs; reasons are what a report counts by whole numbers."""
    usual = dict.fromkeys(("missing", "unreadable", "bad_row", "duplicate"))
    further = sorted({name for report in reports for name, value in report.items() if isinstance(value, int)})
    reasons = list(usual | dict.fromkeys(further))
    rows = ([report["corpus"], *(f"{report.get(reason, 0):,}" for reason in reasons)] for report in reports)
    return table("|".join(["corpus", *(reason.replace("_", " ") for reason in reasons)]), rows)


def removal_table(summary: dict[str, Any]) -> str:
    """What stage 1 did with the clips of every source."""
    columns = ("audio_in", "too_long", "leak", "merged", "audio_out", "duplicate_caption")
    rows = ([name, *(f"{counts[column]:,}" for column in columns)] for name, counts in summary["sources"].items())
    return table("source|clips in|over the limit|leaks|merged into another|clips out|duplicate captions", rows)


def subset_table(subsets: dict[str, Any]) -> str:
    """Sizes of the subsets; one that has fewer pairs than wanted is everything there is."""
    rows = (
        [name, number(size["wanted"]), f"{size['captions']:,}", f"{size['audio']:,}", f"{size['hours']:,.2f}"]
        for name, size in subsets.items()
    )
    return table("subset|wanted pairs|pairs|clips|hours", rows)


def all_lexicons(description: Description, names: list[str]) -> dict[str, Lexicon]:
    """The statistics of every source and of all together."""
    return {name: description.captions.lexicon(name) for name in names} | {TOTAL: description.captions.lexicon()}
