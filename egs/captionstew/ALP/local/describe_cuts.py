#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 3: check the merged cuts and describe them in report.md, beside the paper's Tables 1, 4 and 5 and its Figure 3.

A cut that breaks a rule makes the command fail, after the report is written.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from description import tables
from description.collect import TOTAL, Description, describe
from description.figures import draw_durations, draw_map

from icefall_alp.config.loader import read_yaml
from icefall_alp.data.caption_map import NUM_NEIGHBOURS, embed, measure_purity, project
from icefall_alp.data.manifests import read_report
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit


@clean_exit
def main() -> None:
    """Read the command line, write the report, fail if a check did."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--paper", type=Path, required=True, help="paper.yaml: what the paper states of its corpora")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"))
    parser.add_argument("--captionstew-dir", type=Path, default=Path("data/captionstew"))
    parser.add_argument("--sentence-encoder", type=Path, help="Hugging Face folder for the map; TF-IDF without one")
    parser.add_argument("--map-captions", type=int, default=150, help="captions of each source on the map")
    parser.add_argument("--seed", type=int, default=42, help="of samples and of the map")
    args = parser.parse_args()
    path = args.captionstew_dir / "summary.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run stage 1")
    summary = json.loads(path.read_text(encoding="utf-8"))
    description = describe(args.captionstew_dir, summary, args.map_captions, args.seed)
    sections = [
        word_sections(description, list(summary["sources"]), read_yaml(args.paper)["corpora"], args.seed),
        map_section(description, args),
        preparation_section(summary, args),
        check_section(description, summary),
    ]
    draw_durations(description.seconds, args.captionstew_dir / "figures/durations.png")
    text = f"# {TOTAL}: what is in it\n\n" + "\n".join(sections)
    atomic_write_text(args.captionstew_dir / "report.md", text)
    print(text)
    if problems := description.problems:
        count = description.num_problems
        raise UserError(f"{args.captionstew_dir}: {count:,} problems, the first: {problems[0]}; see report.md")


def word_sections(description: Description, names: list[str], paper: tables.Paper, seed: int) -> str:
    """Sizes and words, ours beside the paper's, and words at equal size."""
    lexicons = tables.all_lexicons(description, names)
    num_words = min((lexicons[name].num_words for name in names if lexicons[name].num_words), default=0)
    matched = {name: description.captions.sample(name, num_words, seed) for name in names if lexicons[name].num_words}
    return "\n".join([
        "A clip that several sources describe counts for each of them, and once in the last line. The paper's columns "
        "are what its\nTables 1, 4 and 5 (T1, T4, T5) print of the whole corpora.\n",
        tables.size_table(description, lexicons, paper),
        "## Words\n\nWords are lower-cased runs of letters and digits, with apostrophes and hyphens inside; the paper "
        "states neither its words nor\nits sample. Distinct-n is the number of different n-grams over all n-grams, and "
        "falls with size:\n",
        tables.word_table(lexicons, paper),
        f"At equal size, captions drawn (seed {seed}) until they have the words of the smallest source:\n",
        tables.matched_table(matched),
        "## Lengths\n\n![clips by seconds](figures/durations.png)\n",
    ])  # fmt: skip


def map_section(description: Description, args: argparse.Namespace) -> str:
    """Draw the map and say in numbers how far the sources lie apart."""
    captions, sources = description.sample.drawn()
    title = "## Captions by source (paper, Figure 3)\n\n"
    if len(set(sources)) < 2:
        return f"{title}Fewer than two sources have captions: there is nothing to tell apart.\n"
    embeddings, how = embed(captions, args.sentence_encoder, args.seed)
    plane = project(embeddings, args.seed)
    draw_map(plane, sources, args.captionstew_dir / "figures/captions.png")
    purity, drawn = measure_purity(embeddings, sources), measure_purity(plane, sources, "euclidean")
    rows = [(name, f"{width:.3f}", f"{share:.3f}") for name, (width, share) in purity.by_source.items()]
    rows.append((f"all, in {embeddings.shape[1]} dimensions", f"{purity.silhouette:.3f}", f"{purity.neighbours:.3f}"))
    rows.append(("all, in the plane", f"{drawn.silhouette:.3f}", f"{drawn.neighbours:.3f}"))
    rows.append(("chance", "0", f"{purity.chance:.3f}"))
    return (
        f"{title}{len(captions):,} captions, equally many of each source (seed {args.seed}). Embeddings: {how}.\n"
        "Silhouette: 1 where sources are apart, 0 where they are mixed. Neighbours: share of the nearest "
        f"{NUM_NEIGHBOURS} that are of the same source.\nDistances are cosine, in the plane Euclidean. The paper shows "
        "the picture and states no number.\n\n"
        f"![captions by source](figures/captions.png)\n\n" + tables.table("source|silhouette|neighbours", rows)
    )


def preparation_section(summary: dict[str, Any], args: argparse.Namespace) -> str:
    """What stages 0 and 1 found, left out, merged and chose."""
    reports = [read_report(report) for report in sorted(args.manifests_dir.glob("*_report.json"))]
    evaluated = ", ".join(f"{name} ({count:,})" for name, count in summary["evaluated"].items())
    sections = [
        "## Found on disk\n\nExpected is what the publishers count.\n",
        tables.found_table(reports),
        "Left out, each listed in `data/manifests/<corpus>_skipped.jsonl`:\n",
        tables.skipped_table(reports),
        f"## Merged\n\nEach removal is a line of `removed.jsonl.gz`. Limit: {summary['max_seconds']:g} s. Kept out: "
        f"{evaluated or 'nothing'}.\nCorpora without manifests: {', '.join(summary['absent']) or 'none'}.\n",
        tables.removal_table(summary),
    ]
    subsets = args.captionstew_dir / "subsets.json"
    if subsets.is_file():
        sections += [
            "## Subsets\n\nRules over the training cuts (`data/fbank/captionstew_<subset>/subset.json`).\n",
            tables.subset_table(json.loads(subsets.read_text(encoding="utf-8"))),
        ]
    return "\n".join(sections)


def check_section(description: Description, summary: dict[str, Any]) -> str:
    """How many cuts were checked and which broke a rule."""
    return (
        f"## Checks\n\n{summary['train']['audio']:,} training and {summary['valid']['audio']:,} validation cuts are "
        "sorted, unique, well-formed and within the limit,\nand share no recording: "
        f"{description.num_problems:,} problems.\n" + "".join(f"- {problem}\n" for problem in description.problems)
    )


if __name__ == "__main__":
    main()
