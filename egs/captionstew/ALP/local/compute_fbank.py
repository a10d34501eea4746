#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage 2: store the fbank of cutsets in shards, a folder each, or their audio; what is there already is kept.

local/compute_fbank.py --cuts data/manifests/nsynth_{train,test}_cuts.jsonl.gz --output-dir data/fbank
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from icefall_alp.data.feature_storage import store_features
from icefall_alp.data.manifests import corpus_roots
from icefall_alp.data.shards import AUDIO, FBANK
from icefall_alp.utils.errors import clean_exit

SMALL = 1 << 16  # bytes; such a cutset has about one shard, so it is one process that stores it


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


@clean_exit
def main() -> None:
    """Read the options and run; small sets are stored at the same time, large ones by all processes in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=Path, nargs="+", required=True, help="cutsets, <name>_cuts.jsonl.gz")
    parser.add_argument("--output-dir", type=Path, required=True, help="the shards go to folders <name> in it")
    parser.add_argument("--manifests-dir", type=Path, default=Path("data/manifests"), help="what stage 0 wrote")
    parser.add_argument("--shard-size", type=_positive, default=1000, help="cuts per shard")
    parser.add_argument("--num-jobs", type=_positive, default=1, help="processes")
    parser.add_argument("--features", choices=("stored", "on_the_fly"), default="stored", help="fbank, or FLAC")
    parser.add_argument("--max-skipped-share", type=float, default=0.1, help="of the cuts; more bad audio is an error")
    options = parser.parse_args()
    small = [cuts for cuts in options.cuts if not (cuts.is_file() and cuts.stat().st_size > SMALL)]
    for cuts in options.cuts:
        if cuts not in small:
            print(store(cuts, options, options.num_jobs), flush=True)
    context = multiprocessing.get_context("fork")  # torch is loaded once
    jobs = min(options.num_jobs, max(1, len(small)))
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,)) as pool:  # threads of several would quarrel
        for line in pool.map(partial(store, options=options, num_jobs=1), small):
            print(line, flush=True)


def store(cuts: Path, options: argparse.Namespace, num_jobs: int) -> str:
    """Store one set; returns what there is to say about it."""
    folder = options.output_dir / cuts.name.removesuffix("_cuts.jsonl.gz")
    kind = FBANK if options.features == "stored" else AUDIO
    roots = corpus_roots(options.manifests_dir)
    report = store_features(cuts, folder, roots, options.shard_size, num_jobs, kind, options.max_skipped_share)
    return (
        f"{folder}: {report.num_cuts} cuts, {report.num_seconds / 3600:.2f} h "
        f"({report.num_computed} computed now); {len(report.skipped)} skipped, "
        f"listed in {folder / 'skipped.jsonl'}"
    )


if __name__ == "__main__":
    main()
