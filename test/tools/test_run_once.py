# SPDX-License-Identifier: Apache-2.0
"""A command runs once per set of inputs: an edit of any of them, or a lost output, runs it again."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "run_once.py"


@pytest.fixture
def once(tmp_path):
    (tmp_path / "input.txt").write_text("one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "helper.py").write_text("WORD = 'hello'\n")
    (tmp_path / "loops.c").write_text("")
    script = "import helper, pathlib, sys\npathlib.Path('log.txt').open('a').write(helper.WORD)\n"
    script += "sys.exit(int(sys.argv[1]))\n"
    (tmp_path / "script.py").write_text(script)

    def call(*extra, status=0):
        command = [
            sys.executable,
            TOOL,
            "--done",
            "done/x.json",
            "--inputs",
            "input.txt",
            "folder",
            "absent",
            "--outputs",
        ]
        command += ["log.txt", "--", sys.executable, "script.py", str(status), *extra]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    call.folder = tmp_path
    return call


def test_second_time_is_skipped(once):
    assert "not done yet" in once().stdout
    assert "skip: x is done" in once().stdout
    assert (once.folder / "log.txt").read_text() == "hello"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda f: (f / "input.txt").write_text("two"), "input.txt changed"),
        (lambda f: (f / "folder/new").write_text(""), "folder changed"),
        (lambda f: (f / "absent").write_text(""), "absent changed"),
        (lambda f: (f / "script.py").open("a").write("# edited\n"), "script.py changed"),
        (lambda f: (f / "helper.py").open("a").write("# edited\n"), "helper.py changed"),
        (lambda f: (f / "loops.c").open("a").write("// edited\n"), "loops.c changed"),
        (lambda f: (f / "log.txt").unlink(), "log.txt is missing"),
        (lambda f: (f / "done/x.json").write_text("{"), "is damaged"),
    ],
)
def test_any_edit_runs_it_again(once, edit, reason):
    once()
    edit(once.folder)
    assert reason in once().stdout
    assert "skip" in once().stdout


def test_other_arguments_run_it_again_but_not_another_number_of_jobs(once):
    once("--num-jobs", "1")
    assert "skip" in once("--num-jobs", "8").stdout
    assert "the command changed" in once("--seed", "8").stdout


def test_failure_keeps_its_status_and_is_not_marked_done(once):
    assert once(status=7).returncode == 7
    assert not (once.folder / "done/x.json").exists()


def test_no_command_is_refused(once):
    assert subprocess.run([sys.executable, TOOL, "--done", "x"], capture_output=True).returncode == 2


def test_the_command_dies_with_a_killed_runner(once):
    (once.folder / "script.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    command = [sys.executable, TOOL, "--done", "done/y.json", "--", sys.executable, "script.py"]
    runner = subprocess.Popen(command, cwd=once.folder)
    pid = once.folder / "pid"
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.02)
    runner.kill()
    runner.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid.read_text()}/stat").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid.read_text()}/stat").exists()


def test_a_signal_to_stop_reaches_the_command_and_its_status_comes_back(once):
    (once.folder / "script.py").write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "open('ready', 'w').close()\ntime.sleep(60)\n"
    )
    command = [sys.executable, TOOL, "--done", "done/y.json", "--", sys.executable, "script.py"]
    runner = subprocess.Popen(command, cwd=once.folder)
    while not (once.folder / "ready").exists():
        time.sleep(0.02)
    runner.terminate()
    assert runner.wait(timeout=30) == 75
