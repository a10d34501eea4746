#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 1: make the subsets of subsets.yaml (sizes in caption pairs, and all but one source) from the merged cuts.

Each is a folder below --fbank-dir with a rule (icefall_alp/data/subsets.py), which data.train_cuts may name. Their
sizes stand in subsets.json and in the report of stage 3.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.subsets import Census, load_plan
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit


@clean_exit
def main() -> None:
    """Read the command line, count the cuts, write the rules and their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--subsets", type=Path, required=True, help="subsets.yaml")
    parser.add_argument("--cuts", type=Path, default=Path("data/captionstew/captionstew_train_cuts.jsonl.gz"))
    parser.add_argument("--fbank-dir", type=Path, default=Path("data/fbank"), help="where stage 2 keeps features")
    parser.add_argument("--output", type=Path, default=Path("data/captionstew/subsets.json"))
    args = parser.parse_args()
    plan = load_plan(args.subsets)
    census = Census(tqdm(read_jsonl(args.cuts), desc="counting", unit="cut", disable=None), plan.seed)
    if not census.sources:
        raise UserError(f"{args.cuts}: no captions; run stages 0 and 1")
    sizes = {}
    whole = args.cuts.name.removesuffix("_cuts.jsonl.gz")
    for name, subset in census.plan(plan, whole).items():
        subset.write(args.fbank_dir / f"{whole.removesuffix('_train')}_{name}")
        sizes[name] = {"wanted": plan.pairs.get(name), **census.count(subset)}
        print("{}: {audio:,} clips, {captions:,} captions, {hours:,.2f} h".format(name, **sizes[name]))
    atomic_write_text(args.output, json.dumps(sizes, indent=1) + "\n")


if __name__ == "__main__":
    main()
