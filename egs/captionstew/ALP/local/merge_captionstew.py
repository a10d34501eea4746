#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 1: merge the training splits of the sources into CaptionStew, without audio of the evaluated splits.

A corpus of corpora.yaml that has not been prepared is named here and in summary.json, and left out. Evaluated clips
that only a list of names knows are in evaluated_names/ beside corpora.yaml (see icefall_alp/data/leaks.py).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from icefall_alp.data.leaks import LeakFilter, evaluated_keys, matrix
from icefall_alp.data.manifests import load_corpora, read_report
from icefall_alp.data.merge import MergeSummary, merge_sources
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit

MAX_VALID_SHARE = 0.05


@clean_exit
def main() -> None:
    """Read the command line, merge, write summary.json and print it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--corpora", type=Path, required=True, help="corpora.yaml: roles and evaluated splits")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"))
    parser.add_argument("--output-dir", type=Path, default=Path("data/captionstew"))
    parser.add_argument("--max-seconds", type=float, default=60.0, help="longer clips leave")
    parser.add_argument("--num-valid", type=int, default=1000, help="about so many cuts for validation, at most 5 %%")
    parser.add_argument("--strict", action="store_true", help="drop all of a video or sound that is evaluated")
    parser.add_argument("--seed", type=int, default=42, help="of the choice for validation")
    args = parser.parse_args()

    rows = load_corpora(args.corpora)
    prepared = {name: row for name, row in rows.items() if (args.manifests_dir / f"{name}_report.json").is_file()}
    sources = [name for name, row in prepared.items() if row.role == "source"]
    if not sources:
        raise UserError(f"{args.manifests_dir}: none of the sources in {args.corpora} is prepared; run stage 0")
    evaluated = evaluated_keys(args.corpora, args.manifests_dir)
    reports = (read_report(args.manifests_dir / f"{name}_report.json") for name in sources)
    num_clips = sum(report["found"]["train"]["audio"] for report in reports)
    summary = merge_sources(
        {name: args.manifests_dir / f"{name}_train_cuts.jsonl.gz" for name in sources},
        LeakFilter(evaluated, args.strict),
        args.output_dir,
        max_seconds=args.max_seconds,
        valid_share=min(MAX_VALID_SHARE, args.num_valid / max(1, num_clips)),
        seed=args.seed,
    )
    absent = [name for name in rows if name not in prepared]
    content = summary.to_dict() | {
        "absent": absent,
        "evaluated": {name: len(keys) for name, keys in evaluated.items()},
        "max_seconds": args.max_seconds,
        "strict": args.strict,
        "seed": args.seed,
    }
    atomic_write_text(args.output_dir / "summary.json", json.dumps(content, indent=1) + "\n")
    print_summary(summary, absent, list(evaluated))


def print_summary(summary: MergeSummary, absent: list[str], benchmarks: list[str]) -> None:
    """One line for each source and split, and how many clips collided with each benchmark."""
    for corpus, counts in summary.sources.items():
        print(
            f"{corpus}: {counts.audio_in:,} clips in, {counts.too_long:,} too long, {counts.leak:,} leaks, "
            f"{counts.merged:,} merged, {counts.duplicate_caption:,} duplicate captions, {counts.audio_out:,} clips out"
        )
    for split, totals in (("train", summary.train), ("valid", summary.valid)):
        print(f"{split}: {totals['audio']:,} clips, {totals['captions']:,} captions, {totals['hours']:,.2f} h")
    print("clips of each source that shared audio with a benchmark, and were removed:")
    print("\n".join(matrix(summary.leaks, benchmarks)))
    for corpus in absent:
        print(f"absent: {corpus} is not prepared; neither its audio nor its leaks are known")


if __name__ == "__main__":
    main()
