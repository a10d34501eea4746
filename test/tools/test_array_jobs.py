# SPDX-License-Identifier: Apache-2.0
"""Jobs run here and through a stand-in for sbatch; each has its log, and one that fails or vanishes is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "array_jobs.py"
# What sbatch does with `--wait --array=1-N%M script`: prints the array's number, runs the tasks, waits.
SBATCH = """#!/usr/bin/env python3
import os, subprocess, sys
assert "--wait" in sys.argv and "--parsable" in sys.argv, sys.argv
(array,) = [word for word in sys.argv if word.startswith("--array=")]
numbers, _, at_once = array.removeprefix("--array=").partition("%")
print("4711;cluster", flush=True)
first, last = map(int, numbers.split("-"))
open("sbatch.txt", "w").write(" ".join(sys.argv[1:-1]))
for task in range(first, last + 1):
    if task == int(os.environ.get("LOST_TASK", 0)):
        continue
    subprocess.run(["bash", sys.argv[-1]], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(task)})
"""


def jobs_of(*commands):
    return [{"name": f"job {number}", "command": list(command)} for number, command in enumerate(commands, start=1)]


@pytest.fixture
def call(tmp_path):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "sbatch").write_text(SBATCH.replace("/usr/bin/env python3", sys.executable))
    (bin_dir / "sbatch").chmod(0o755)

    def run(jobs, *options, path=f"{bin_dir}:{os.environ['PATH']}", **environment):
        (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
        command = [sys.executable, TOOL, "--jobs", "jobs.jsonl", "--logs", "logs", *options]
        environment = {**os.environ, "PATH": path, **environment}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    run.folder = tmp_path
    return run


@pytest.mark.parametrize("options", [("--max-running", "2"), ("--max-running", "2", "--slurm=--mem=8G -p 'a b'")])
def test_every_job_runs_and_failures_are_named(call, options):
    script = 'echo said "$1"; exit "$2"'
    jobs = jobs_of(
        *(
            ["bash", "-c", script, "bash", text, status]
            for text, status in (("a;$(touch canary)", "0"), ("b", "3"), ("c", "0"))
        )
    )
    result = call([*jobs, *[{"name": "job 4", "command": ["no_such_program"]}]], *options)
    assert result.returncode == 1
    for text in ("said a;$(touch canary)", "said b", "said c"):
        assert f"{text}\n" in result.stdout
    assert "error: job 2 ended with status 3; its log is logs/job 2.log" in result.stderr
    assert "error: job 4 ended with status 127" in result.stderr and "job 1" not in result.stderr
    assert (call.folder / "logs/job 3.log").read_text() == "said c\n"
    assert not (call.folder / "canary").exists()
    if len(options) == 3:
        assert "4 jobs as Slurm array 4711" in result.stdout
        submitted = (call.folder / "sbatch.txt").read_text()
        assert "--array=1-4%2" in submitted and "--mem=8G -p a b" in submitted
    assert call(jobs[:1], *options).returncode == 0


def test_a_task_that_never_ran_is_an_error_even_after_an_earlier_success(call):
    jobs = jobs_of(["true"], ["true"])
    assert call(jobs, "--slurm=").returncode == 0
    result = call(jobs, "--slurm=", LOST_TASK="2")
    assert result.returncode == 1 and "error: job 2 left no exit status" in result.stderr


def test_no_more_jobs_run_at_once_than_allowed(call):
    count = "import os, pathlib, time; p = pathlib.Path(f'run{os.getpid()}'); p.touch(); time.sleep(0.3); "
    count += "print(len(list(pathlib.Path().glob('run*')))); p.unlink()"
    result = call(jobs_of(*[[sys.executable, "-c", count]] * 4), "--max-running", "1")
    assert result.stdout.split() == ["1"] * 4


def test_no_sbatch_is_one_line(call):
    result = call(jobs_of(["true"]), "--slurm=", path=str(call.folder))
    assert (
        result.returncode == 1 and result.stderr == "error: sbatch is not on PATH; local/cmd.sh says how jobs are run\n"
    )
