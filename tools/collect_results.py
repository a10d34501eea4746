#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the results of all runs beside the paper's, and print the table of what was run.

  collect_results.py --exp-dir exp --paper conf/paper.yaml --provenance data/corpora/provenance.json

Reads `<exp-dir>/*/results/<protocol>/*.json`, writes `<exp-dir>/RESULTS.md` and a figure below `<exp-dir>/figures`;
`--publish RESULTS.md` copies the report there, so that nothing tracked changes unless asked for. Which run and number
belongs beside which published cell stands in the file of `--paper`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from icefall_alp.evaluation.encoders import present_digests
from icefall_alp.evaluation.figures import draw_over_chance
from icefall_alp.evaluation.published import load_published
from icefall_alp.evaluation.report import Numbers, main_table, render_report, text_table
from icefall_alp.evaluation.results import Result, read_results
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit


def without_stale(results: list[Result], exp_root: Path) -> list[Result]:
    """Those numbers that belong to the encoders as they are now; the others are named on standard error."""
    folders = {run: exp_root / run for run in {result.run for result in results}}
    present = {run: present_digests(folder) for run, folder in folders.items() if (folder / "encoder").is_dir()}
    fresh = [result for result in results if result.encoder_digest in present.get(result.run, {result.encoder_digest})]
    for run in sorted({result.run for result in results if result not in fresh}):
        print(f"left out: {run} has numbers of an earlier encoder; run stages 6 and 7 again", file=sys.stderr)
    return fresh


@clean_exit
def main() -> None:
    """Collect, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--exp-dir", type=Path, default=Path("exp"), help="folder that holds one folder per run")
    parser.add_argument("--paper", type=Path, required=True, help="YAML file of published tables")
    parser.add_argument("--provenance", type=Path, help="JSON file on where the recordings came from, if there is one")
    parser.add_argument("--publish", type=Path, help="copy the report to this file")
    options = parser.parse_args()

    published = load_published(options.paper)
    results = without_stale(read_results(options.exp_dir), options.exp_dir)
    if not results:
        raise UserError(f"{options.exp_dir}: no results (*/results/*/*.json); run the evaluation stages first")
    numbers = Numbers(results)
    provenance = options.provenance if options.provenance and options.provenance.exists() else None
    report = render_report(published, numbers, options.exp_dir, provenance)
    atomic_write_text(options.exp_dir / "RESULTS.md", report)
    draw_over_chance(published, numbers, options.exp_dir / "figures" / "over_chance.png")
    print(text_table(*main_table(published, numbers)))
    print(f"written: {options.exp_dir / 'RESULTS.md'}", file=sys.stderr)
    if options.publish:
        atomic_write_text(options.publish, report)


if __name__ == "__main__":
    main()
