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


@pytest.mark.parametrize(
    ("fault", "victim"), [("killed", 1), ("stopped", 1), ("hangs", 1), ("killed", 0), ("stopped", 0)]
)
def test_one_lost_process_is_named_by_all_and_all_leave(tmp_path, monkeypatch, fault, victim):
    monkeypatch.setattr(watchdog, "TICK", 0.1)

    def work():
        dog = Watchdog(hang_seconds=7.0, silence=5.0)
        with dog.watching():
            for step in range(4):
                distributed.all_reduce_sum(torch.ones(1))
                dog.beat()
                if step == 2 and distributed.rank() == victim:
                    (tmp_path / "there").touch()
                    if fault == "hangs":
                        time.sleep(300)
                    time.sleep(1.0)
                    os.kill(os.getpid(), signal.SIGKILL if fault == "killed" else signal.SIGSTOP)

    begin = time.monotonic()
    processes = forks.start(work, tmp_path / "log", world_size=3)
    lost = processes.pop(victim)
    statuses = forks.wait(processes)
    os.kill(lost, signal.SIGKILL)
    forks.wait([lost])
    assert time.monotonic() - begin < 60
    assert statuses == [1, 1] and (tmp_path / "there").exists()
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: rank ")]
    named = [line.split(": ", 2)[2].split()[1] for line in lines]
    assert set(named) == {str(victim)} and len(named) >= 2, lines


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
