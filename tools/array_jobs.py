#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run many commands, a few at a time, here or as one Slurm array; each has its log.

  array_jobs.py --jobs jobs.jsonl --logs data/logs --max-running 4
  array_jobs.py --jobs jobs.jsonl --logs data/logs --max-running 40 --slurm="--partition=cpu --mem=8G --time=24:00:00"

A line of the jobs is {"name": ..., "command": [...]}. A job that fails does not stop the others. The exit status is 0
if all ended with 0; otherwise every job that did not is named with its log. local/cmd.sh says which way a recipe takes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

Job = dict[str, "str | list[str]"]


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=Path, required=True, help="JSON lines: name and command")
    parser.add_argument("--logs", type=Path, required=True, help="folder of <name>.log and <name>.status")
    parser.add_argument("--max-running", type=int, default=1, help="jobs at the same time")
    parser.add_argument("--slurm", metavar="OPTIONS", help="submit an array with these options of sbatch")
    parser.add_argument("--only", type=int, help="run this job alone, counted from 1: what a task of the array does")
    args = parser.parse_args()
    jobs = [json.loads(line) for line in args.jobs.read_text(encoding="utf-8").splitlines()]
    args.logs.mkdir(parents=True, exist_ok=True)
    if args.only:
        return run(jobs[args.only - 1], args.logs)
    for job in jobs:
        status_path(job, args.logs).unlink(missing_ok=True)
    finished = run_here(jobs, args) if args.slurm is None else run_as_array(jobs, args)
    failed = 0
    for job in finished:
        log, status = log_path(job, args.logs), status_of(job, args.logs)
        print(log.read_text(encoding="utf-8", errors="replace") if log.exists() else "", end="", flush=True)
        if status != "0":
            failed += 1
            ending = f"ended with status {status}" if status else "left no exit status: it was killed or never started"
            print(f"error: {job['name']} {ending}; its log is {log}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def log_path(job: Job, logs: Path) -> Path:
    """Where a job's output goes."""
    return logs / f"{job['name']}.log"


def status_path(job: Job, logs: Path) -> Path:
    """Where a job's exit status goes."""
    return logs / f"{job['name']}.status"


def status_of(job: Job, logs: Path) -> str:
    """The exit status of a job; empty when there is none."""
    path = status_path(job, logs)
    return path.read_text(encoding="ascii") if path.exists() else ""


def run(job: Job, logs: Path) -> int:
    """Run one job to its end; its output goes to the log, its exit status beside it."""
    with log_path(job, logs).open("wb") as log:
        try:
            status = subprocess.run(job["command"], stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            log.write(f"error: {job['command'][0]}: {error.strerror}\n".encode())
            status = 127
    status_path(job, logs).write_text(str(status), encoding="ascii")
    return status


def run_here(jobs: list[Job], args: argparse.Namespace) -> Iterator[Job]:
    """Yield each job when it has ended."""
    with ThreadPoolExecutor(max(1, args.max_running)) as pool:
        running = {pool.submit(run, job, args.logs): job for job in jobs}
        for future in as_completed(running):
            yield running[future]


def run_as_array(jobs: list[Job], args: argparse.Namespace) -> list[Job]:
    """Submit one array and wait for its end."""
    script = args.logs / "array.sh"
    task = [sys.executable, str(Path(__file__).resolve()), "--jobs", str(args.jobs.resolve())]
    task += ["--logs", str(args.logs.resolve()), "--only"]
    script.write_text(f'#!/usr/bin/env bash\nexec {shlex.join(task)} "$SLURM_ARRAY_TASK_ID"\n', encoding="utf-8")
    command = ["sbatch", "--wait", "--parsable", f"--array=1-{len(jobs)}%{max(1, args.max_running)}"]
    command += [f"--job-name={args.logs.name}", f"--output={args.logs / 'slurm.%a.out'}", *shlex.split(args.slurm)]
    try:
        submitted = subprocess.Popen([*command, str(script)], stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        sys.exit("error: sbatch is not on PATH; local/cmd.sh says how jobs are run")
    number = submitted.stdout.readline().strip().partition(";")[0]  # type: ignore[union-attr]
    print(f"{len(jobs)} jobs as Slurm array {number}; logs in {args.logs}", flush=True)
    try:
        submitted.wait()  # what failed is read from the jobs themselves
    except KeyboardInterrupt:
        subprocess.run(["scancel", number], check=False)
        raise
    return jobs


if __name__ == "__main__":
    sys.exit(main())
