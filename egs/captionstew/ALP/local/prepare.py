#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prepare every corpus of corpora.yaml that is on disk: one call of prepare_<corpus>.py each, skipped when unchanged.

A corpus without a folder is named and left out; one that --only names must be there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from icefall_alp.data.manifests import load_corpora
from icefall_alp.utils.errors import UserError, clean_exit

# corpora that name clips of another one without saying where these begin
NEEDS = {"wavcaps": "audioset", "audiosetcaps": "audioset", "fusionaudio": "audioset", "clothoaqa": "clotho"}


@clean_exit
def main() -> None:
    """Find the folders, then prepare in the order of corpora.yaml; stops at the first script that fails."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--corpora", type=Path, required=True, help="corpora.yaml")
    parser.add_argument("--roots", nargs="*", default=[], help="corpus=folder for every corpus on this machine")
    parser.add_argument("--only", default="", help="names of corpora; absent ones are an error")
    parser.add_argument("--num-jobs", type=int, default=2)
    options = parser.parse_args()
    roots = {name: folder for name, _, folder in (root.partition("=") for root in options.roots)}
    only = options.only.split()
    known = load_corpora(options.corpora)
    for name in [*only, *roots]:
        if name not in known:
            raise UserError(f"{name}: no such corpus in {options.corpora}; it has {', '.join(known)}")
    for name in only or known:
        if not Path(roots.get(name, "")).is_dir() or name not in roots:
            message = f"{name}: no folder {roots.get(name, 'is named')}; local/corpora.sh says where corpora lie"
            if only:
                raise UserError(message)
            print(f"left out: {message}", flush=True)
            continue
        prepare(name, roots, known[name].options, options)


def prepare(name: str, roots: dict[str, str], further: tuple[str, ...], options: argparse.Namespace) -> None:
    """Call the corpus's own script, with its further options, through run_once.py."""
    command = [f"local/prepare_{name}.py", "--corpus-dir", roots[name], "--corpora", str(options.corpora)]
    command += ["--num-jobs", str(options.num_jobs), *further]
    if (other := NEEDS.get(name)) in roots:
        command += [f"--{other}-dir", roots[other]]
    once = [
        "run_once.py",
        "--done",
        f"data/done/prepare_{name}.json",
        "--outputs",
        f"data/manifests/{name}_report.json",
    ]
    once += ["--inputs", roots[name], str(options.corpora), "--"]
    status = subprocess.run([*once, *command], check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
