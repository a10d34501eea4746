# SPDX-License-Identifier: Apache-2.0
"""Who is lost is named, and nobody waits for ever: on forked processes that really die, stop or hang."""

import os
import signal
import time

import pytest
import torch
from faults import forks

from icefall_alp.utils import distributed, watchdog
from icefall_alp.utils.watchdog import Watchdog


def test_it_does_nothing_alone():
    with Watchdog(0.0).watching():
        pass


@pytest.mark.parametrize("fault", ["killed", "stopped", "hangs"])
def test_one_lost_process_is_named_and_all_leave(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(watchdog, "TICK", 0.1)
    monkeypatch.setattr(watchdog, "SILENCE", 12.0)

    def work():
        dog = Watchdog(hang_seconds=15.0)
        with dog.watching():
            for step in range(3):
                distributed.all_reduce_sum(torch.ones(1))
                dog.beat()
                if step == 1 and distributed.rank() == 1:
                    (tmp_path / "there").touch()
                    if fault == "hangs":
                        time.sleep(300)
                    time.sleep(1.0)
                    os.kill(os.getpid(), signal.SIGKILL if fault == "killed" else signal.SIGSTOP)

    begin = time.monotonic()
    processes = forks.start(work, tmp_path / "log", world_size=3)
    survivors = [processes[0], processes[2]]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in survivors]
    os.kill(processes[1], signal.SIGKILL)
    forks.wait([processes[1]])
    assert time.monotonic() - begin < 120
    assert statuses == [1, 1] and (tmp_path / "there").exists()
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: rank ")]
    lost = [line.split(": ", 2)[2].split()[1] for line in lines]
    # rank 0 holds the store: where it left first, another finds that gone
    assert "1" in lost and set(lost) <= {"0", "1"}, lines


def test_ordinary_work_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "TICK", 0.05)

    def work():
        dog = Watchdog(hang_seconds=30.0)
        with dog.watching():
            for _ in range(10):
                distributed.all_reduce_sum(torch.ones(1))
                dog.beat()
                time.sleep(0.05)

    forks.run(work, tmp_path / "log", world_size=2)
