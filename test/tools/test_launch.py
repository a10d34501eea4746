# SPDX-License-Identifier: Apache-2.0
"""tools/launch.sh: exit codes and signals pass through torchrun; a stand-in sbatch sees what Slurm would."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "tools/launch.sh"


@pytest.fixture
def environment(tmp_path):
    """A PATH with this interpreter as python3, and stand-ins of Slurm's commands."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "python3").write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    (bin_dir / "scontrol").write_text(
        '#!/bin/bash\nif [ "$1" = requeue ]; then echo "$2" >"$LOG/requeued"; else echo "node a"; fi\n'
    )
    (bin_dir / "nproc").write_text("#!/bin/bash\necho ${CORES:-2}\n")
    # Runs the job at once, on one node, and again as often as it was queued again; as sbatch --wait and srun would.
    (bin_dir / "sbatch").write_text(
        '#!/bin/bash\nprintf "%s\\n" "$*" >>"$LOG/sbatch"\ncat >"$LOG/job"\n'
        "export SLURM_JOB_ID=7 SLURM_JOB_NODELIST=n SLURM_NNODES=1 SLURM_NODEID=0 CORES=64\n"
        'while bash "$LOG/job"; status=$?; [ "$(cat "$LOG/requeued" 2>&1)" = 7 ]; do rm "$LOG/requeued"; done\n'
        "exit $status\n"
    )
    (bin_dir / "srun").write_text('#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\n"$@"\n')
    for path in bin_dir.iterdir():
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "LOG": str(tmp_path), "PYTHONPATH": str(ROOT)}


def script(tmp_path, body):
    path = tmp_path / "a script;.py"
    path.write_text(f"import os, signal, sys, time\nfrom pathlib import Path\nlog = Path({str(tmp_path)!r})\n{body}\n")
    return str(path)


def launch(environment, *arguments, **more):
    return subprocess.run(
        ["bash", LAUNCH, *map(str, arguments)], env={**environment, **more}, capture_output=True, text=True, timeout=120
    )


def test_a_slurm_job_is_queued_again_on_75_and_on_no_other_code(environment, tmp_path):
    name = script(
        tmp_path,
        "lives = log / 'lives'\n"
        "lives.write_text(lives.read_text() + 'x' if lives.exists() else 'x')\n"
        "(log / 'words').write_text(repr(sys.argv[1:]))\n"
        "sys.exit(75 if len(lives.read_text()) < 3 else int(sys.argv[1]))",
    )
    words = ["3", "two words", "$(touch canary)", ";", "-x"]
    result = launch(environment, 1, name, *words, ALP_LAUNCHER="slurm")
    assert result.returncode == 3, result.stderr
    (submission,) = (tmp_path / "sbatch").read_text().splitlines()
    assert "--wait --nodes=1" in submission and "--requeue" in submission and "--signal=USR1@180" in submission
    assert (tmp_path / "lives").read_text() == "xxx"
    assert (tmp_path / "words").read_text() == repr(words) and not (tmp_path / "canary").exists()


def test_a_slurm_job_counts_the_cores_of_its_node_not_of_the_machine_that_submits_it(environment, tmp_path):
    name = script(tmp_path, "(log / 'threads').write_text(os.environ['OMP_NUM_THREADS'])")
    environment.pop("OMP_NUM_THREADS", None)
    result = launch(environment, 1, name, ALP_LAUNCHER="slurm", CORES="4")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "threads").read_text() == "64"


def test_several_nodes_must_be_full(environment, tmp_path):
    name = script(tmp_path, "")
    assert "do not fill 2 nodes evenly" in launch(environment, 9, name, ALP_LAUNCHER="slurm").stderr
    result = launch(environment, 16, name, ALP_LAUNCHER="elsewhere")
    assert result.returncode == 2 and "use here or slurm" in result.stderr


STOPPABLE = """
from icefall_alp.utils.signals import StopRequest, leave_stopped
stop = StopRequest()
with stop.listening():
    (log / f"ready{os.environ['RANK']}").touch()
    while not stop.received:
        time.sleep(0.01)
    leave_stopped()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_workers_and_their_75_comes_back(environment, tmp_path, number):
    command = ["bash", LAUNCH, "2", script(tmp_path, STOPPABLE)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not all((tmp_path / f"ready{rank}").exists() for rank in range(2)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors


def test_a_failing_worker_is_not_taken_for_a_stopped_one(environment, tmp_path):
    body = "sys.exit(4 if os.environ['RANK'] == '1' else 0)"
    result = launch(environment, 2, script(tmp_path, body))
    assert result.returncode not in (0, 75)


def test_a_several_node_job_gives_each_node_its_place(environment, tmp_path):
    body = "(log / f\"rank{os.environ['RANK']}of{os.environ['WORLD_SIZE']}\").touch()"
    nodes = {"ALP_LAUNCHER": "node", "SLURM_NNODES": "2", "SLURM_JOB_ID": "41", "ALP_MASTER": "127.0.0.1"}
    command = ["bash", LAUNCH, "4", script(tmp_path, body)]
    running = [subprocess.Popen(command, env={**environment, **nodes, "SLURM_NODEID": node}) for node in "01"]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert {path.name for path in tmp_path.glob("rank*")} == {f"rank{rank}of4" for rank in range(4)}
