#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which clips of other corpora MusicQA's are, by their sound: its file names are counters (stage 8).

  local/map_musicqa.py --queries data/fbank/musicqa_train --sets data/fbank/magnatagatune_* --output data/musicqa.json

MusicQA's training clips are MagnaTagATune's. Written are the clip that each is, where one is similar enough, and how
many belong to each of the other sets: what the adaptor trains on and a benchmark then asks about, or a linear probe
tests on, is so reported. The encoder is frozen, so nothing is taken out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from icefall_alp.data.fingerprints import fingerprints, nearest
from icefall_alp.data.shards import FeatureShards
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import clean_exit


@clean_exit
def main() -> None:
    """Fingerprint all sets, compare, write, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=Path, required=True, help="stage 2's folder of MusicQA")
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="stage 2's folders of the other corpora")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--threshold", type=float, default=0.97, help="similarity from which two clips are one")
    options = parser.parse_args()
    queries = FeatureShards(options.queries)
    prints = fingerprints(queries)
    report: dict[str, dict[str, list[str | float]]] = {}
    for folder in options.sets:
        if not (folder / "skipped.jsonl").is_file():
            print(f"left out: {folder} has no features", flush=True)
            continue
        shards = FeatureShards(folder)
        found = zip(queries.cuts, *nearest(prints, fingerprints(shards)), strict=True)
        same = {
            cut.id: [shards.cuts[place].id, round(float(value), 4)]
            for cut, place, value in found
            if value >= options.threshold
        }
        report[folder.name] = same
        print(f"{options.queries.name}: {len(same):,} of {len(queries):,} clips are in {folder.name}", flush=True)
    counts = {name: len(same) for name, same in report.items()}
    content = {"clips": len(queries), "threshold": options.threshold, "found": counts, "clips_found": report}
    atomic_write_text(options.output, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
