#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prepare every corpus of corpora.yaml that is on disk: one call of prepare_<corpus>.py each, skipped when unchanged.

A corpus without a folder is named and left out; one that --only names must be there, with audio. A benchmark of which
only the lists are there is named too, and the merge keeps what it evaluates out of the sources; a source needs audio.
With --scan-parts the audio is first listed with its lengths (scan_audio.py), each corpus in so many parts; the lists
are then read without opening it.
Corpora and parts are jobs of --cmd (local/cmd.sh); those that fail do not stop the others.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from lookups import CLOTHO_LISTS, SEGMENT_LISTS

from icefall_alp.data.audio_scan import SCAN_NAME
from icefall_alp.data.manifests import load_corpora, read_report
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError, clean_exit

# corpora that name clips of another one without saying where these begin, and the lists of it that say so
_AUDIOSET = ("audioset", SEGMENT_LISTS)
NEEDS = dict.fromkeys(("wavcaps", "audiosetcaps", "fusionaudio"), _AUDIOSET) | {"clothoaqa": ("clotho", CLOTHO_LISTS)}
MANIFESTS = Path("data/manifests")
LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".gz", ".parquet")
Commands = dict[str, list[str]]


@clean_exit
def main() -> None:
    """Find the folders, scan if wanted, then prepare."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--corpora", type=Path, required=True, help="corpora.yaml")
    parser.add_argument("--roots", nargs="*", default=[], help="corpus=folder for every corpus on this machine")
    parser.add_argument("--only", default="", help="names of corpora; absent ones are an error")
    parser.add_argument("--num-jobs", type=int, default=2, help="jobs at the same time")
    parser.add_argument("--cmd", default="array_jobs.py", help="what runs the jobs, with its own options")
    parser.add_argument("--scan-parts", type=int, default=0, help="scan the audio first, in so many parts; 0 does not")
    options = parser.parse_args()
    roots = {name: folder for name, _, folder in (root.partition("=") for root in options.roots)}
    only = options.only.split()
    known = load_corpora(options.corpora)
    for name in [*only, *roots]:
        if name not in known:
            raise UserError(f"{name}: no such corpus in {options.corpora}; it has {', '.join(known)}")
    present = []
    for name in only or known:
        if name in roots and Path(roots[name]).is_dir():
            present.append(name)
            continue
        message = f"{name}: no folder {roots.get(name, 'is named')}; local/corpora.sh says where corpora lie"
        if only:
            raise UserError(message)
        print(f"left out: {message}", flush=True)
    if options.scan_parts > 0:
        scan([roots[name] for name in present], options)
    present.sort(key=lambda name: -sum(asdict(known[name].audio).values()))  # the largest takes longest: it begins
    commands = {name: prepare_command(name, roots, known[name].options, options) for name in present}
    run_jobs("prepare", commands, options)
    for name in only:
        if not any(counts["audio"] for counts in read_report(MANIFESTS / f"{name}_report.json")["found"].values()):
            raise UserError(f"{name}: {roots[name]} has its lists, and none of their audio")


def scan(folders: list[str], options: argparse.Namespace) -> None:
    """List the audio of every folder, in parts."""
    num_parts, jobs, joins = options.scan_parts, {}, {}
    for number, folder in enumerate(dict.fromkeys(folders)):
        command = ["local/scan_audio.py", "--corpus-dir", folder, "--num-parts", str(num_parts)]
        name = f"scan_{number}_{Path(folder).name}"
        jobs |= {f"{name}_{part}": [*command, "--part", str(part)] for part in range(1, num_parts + 1)}
        joins[name] = [*command, "--join"]
    run_jobs("scan", jobs, options)
    if num_parts > 1:
        run_jobs("scan_join", joins, options)


def prepare_command(
    name: str, roots: dict[str, str], further: tuple[str, ...], options: argparse.Namespace
) -> list[str]:
    """The corpus's own script, with its further options, through run_once.py."""
    command = [f"local/prepare_{name}.py", "--corpus-dir", roots[name], "--corpora", str(options.corpora)]
    command += ["--num-jobs", str(options.num_jobs), *further]
    made_from = [*inputs(Path(roots[name])), str(options.corpora)]
    other, lists = NEEDS.get(name, ("", ()))
    if other in roots:
        command += [f"--{other}-dir", roots[other]]
        made_from += [str(Path(roots[other]) / path) for path in lists]  # not its audio, of two million files
    done = ["--done", f"data/done/prepare_{name}.json", "--outputs", str(MANIFESTS / f"{name}_report.json")]
    return ["run_once.py", *done, "--inputs", *made_from, "--", *command]


def inputs(root: Path) -> list[str]:
    """What a corpus is made from: its folder or, where a scan stands for the audio, the scan and the lists.

    Lists lie in the folder or at most two folders below it.
    """
    if not (root / SCAN_NAME).is_file():
        return [str(root)]
    lists = (path for depth in ("*", "*/*", "*/*/*") for path in root.glob(depth) if path.suffix in LIST_SUFFIXES)
    return sorted(map(str, lists))  # the scan among them


def run_jobs(name: str, jobs: Commands, options: argparse.Namespace) -> None:
    """Run all of them through --cmd; leave with its status if one failed."""
    if not jobs:
        return
    logs = Path("data/logs") / name
    lines = (json.dumps({"name": job, "command": command}) + "\n" for job, command in jobs.items())
    atomic_write_text(logs / "jobs.jsonl", "".join(lines))
    command = [*shlex.split(options.cmd), "--jobs", str(logs / "jobs.jsonl"), "--logs", str(logs)]
    status = subprocess.run([*command, "--max-running", str(options.num_jobs)], check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
