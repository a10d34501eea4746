#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 2: compute the fbank of one cutset and store it in shards; what is there already is kept.

local/compute_fbank.py --cuts data/captionstew/train_cuts.jsonl.gz --output-dir data/fbank/captionstew_train
"""

from __future__ import annotations

import argparse
from pathlib import Path

from icefall_alp.data.fbank import store_fbank
from icefall_alp.data.manifests import corpus_roots
from icefall_alp.utils.errors import clean_exit


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


@clean_exit
def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=Path, required=True, help="cutset, jsonl.gz")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"), help="what stage 0 wrote")
    parser.add_argument("--shard-size", type=_positive, default=1000, help="cuts per shard")
    parser.add_argument("--num-jobs", type=_positive, default=1, help="processes")
    options = parser.parse_args()
    report = store_fbank(
        options.cuts, options.output_dir, corpus_roots(options.manifests_dir), options.shard_size, options.num_jobs
    )
    print(
        f"{options.output_dir}: {report.num_cuts} cuts, {report.num_seconds / 3600:.2f} h "
        f"({report.num_computed} computed now); {len(report.skipped)} skipped, "
        f"listed in {options.output_dir / 'skipped.jsonl'}"
    )


if __name__ == "__main__":
    main()
