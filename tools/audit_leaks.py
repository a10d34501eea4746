#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Count the clips of any Lhotse cutset that share audio with an evaluated clip, as a matrix source x benchmark.

    audit_leaks.py --cuts data/captionstew/captionstew_train_cuts.jsonl.gz \\
        --corpora conf/corpora.yaml --manifests-dir data/manifests
    audit_leaks.py --cuts theirs.jsonl.gz --scheme youtube --evaluated vggsound_test_cuts.jsonl.gz more_names.tsv

What is evaluated is given as in the merge (--corpora, --manifests-dir), as cutsets of anyone, or as lists
`<scheme><TAB><name>`, which ids need that tell no archive, such as plain numbers.
The exit status is 0 when nothing collides and 1 when something does.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from icefall_alp.data.audio_keys import SCHEMES
from icefall_alp.data.captions import jsonl_writer
from icefall_alp.data.leaks import (
    AuditCounts,
    LeakFilter,
    audit,
    cutset_keys,
    evaluated_keys,
    matrix,
    name_of,
    read_names,
)
from icefall_alp.utils.errors import UserError, clean_exit


@clean_exit
def main() -> None:
    """Read the command line, audit, print."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--cuts", type=Path, nargs="+", required=True, help="cutsets to audit, .jsonl or .jsonl.gz")
    parser.add_argument("--scheme", default="auto", choices=["auto", *SCHEMES], help="how their clips are named")
    parser.add_argument("--corpora", type=Path, help="corpora.yaml, whose evaluated splits count")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"), help="where these are prepared")
    parser.add_argument("--evaluated", type=Path, nargs="*", default=[], help="cutsets, or .tsv lists of names")
    parser.add_argument("--strict", action="store_true", help="count the whole video or sound as evaluated")
    parser.add_argument("--output", type=Path, help=".jsonl.gz that gets a line for each collision")
    args = parser.parse_args()

    evaluated = evaluated_keys(args.corpora, args.manifests_dir) if args.corpora else {}
    for path in args.evaluated:
        evaluated[name_of(path)] = read_names(path) if path.suffix == ".tsv" else cutset_keys(path)
    if not any(evaluated.values()):
        raise UserError("nothing is evaluated: give --corpora with prepared manifests, or --evaluated")
    leaks = LeakFilter(evaluated, args.strict)
    totals: dict[str, AuditCounts] = {}
    writer = jsonl_writer(args.output) if args.output else nullcontext(lambda collision: None)
    with writer as write:
        for path in args.cuts:
            for source, counts in audit(path, leaks, args.scheme, write).items():
                totals[source] = totals[source] + counts if source in totals else counts
    print_report(totals, leaks.benchmarks)
    if any(counts.leaking for counts in totals.values()):
        sys.exit(1)


def print_report(totals: dict[str, AuditCounts], benchmarks: tuple[str, ...]) -> None:
    """The matrix, then a line for each source."""
    print("\n".join(matrix({source: counts.benchmarks for source, counts in totals.items()}, benchmarks)))
    for source, counts in totals.items():
        unknown = f", {counts.unrecognised:,} of unknown name (try --scheme)" if counts.unrecognised else ""
        print(f"{source}: {counts.leaking:,} of {counts.clips:,} clips collide with an evaluated clip{unknown}")


if __name__ == "__main__":
    main()
