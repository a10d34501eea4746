# SPDX-License-Identifier: Apache-2.0
"""A signal is remembered, not obeyed at once; outside the block the earlier handler is back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icefall_alp.utils.signals import STOPPED, StopRequest, held_back

ROOT = Path(__file__).parents[2]
WORKER = "import time; from icefall_alp.utils.signals import obey_parent_only; obey_parent_only(); time.sleep(60)"
TRAINER = """
import time, torch
from icefall_alp.data.datamodule import _load
batches = _load(list(range(1000)), range(1000), 1)
print(batches._workers[0].pid, int(next(batches)), flush=True)
"""


def start(code):
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_remembered(number):
    stop, before = StopRequest(), signal.getsignal(number)
    with stop.listening():
        assert not stop.received
        os.kill(os.getpid(), number)
        assert stop.received
    assert signal.getsignal(number) == before
    assert STOPPED == 75


def test_a_signal_held_back_arrives_afterwards():
    stop = StopRequest()
    with stop.listening():
        with held_back():
            signal.raise_signal(signal.SIGUSR1)  # to this thread; others may take what comes to the process
            assert not stop.received
        assert stop.received


def test_a_worker_obeys_its_parent_and_nobody_else():
    with held_back():
        worker = start(WORKER)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        subprocess.run(["kill", f"-{number.value}", str(worker.pid)], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1)
    worker.terminate()
    assert worker.wait(30) == 0


@pytest.mark.parametrize("end", ["raise RuntimeError", "import os; os.kill(os.getpid(), 9)"])
def test_no_loader_process_outlives_its_trainer_however_that_ends(end):
    trainer = start(TRAINER + end)
    output, _ = trainer.communicate(timeout=60)
    worker, item = map(int, output.split())
    assert item == 0 and trainer.returncode != 0
    deadline = time.monotonic() + 20
    while _lives(worker):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _lives(process):
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
