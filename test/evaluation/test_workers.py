# SPDX-License-Identifier: Apache-2.0
"""Jobs are shared among processes; where one fills a GPU, there are no more processes than GPUs."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import torch

from icefall_alp.evaluation import question_answering, workers

ROOT = str(Path(__file__).resolve().parents[2])


def _on_gpus(monkeypatch, count):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(workers.distributed, "device", lambda: torch.device("cuda", int(os.environ["LOCAL_RANK"])))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


def test_workers_take_the_gpus_in_turn(monkeypatch):
    _on_gpus(monkeypatch, 2)
    current = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda device: current.append(device.index))
    num_begun = multiprocessing.Value("i", 0)
    for _ in range(3):
        workers._begin(num_begun, torch.get_num_threads())
    assert current == [0, 1, 0] and os.environ["LOCAL_RANK"] == "0"


def test_what_fills_a_gpu_runs_here_where_there_is_one_gpu(monkeypatch):
    assert question_answering.PROTOCOL.fills_gpu
    _on_gpus(monkeypatch, 1)
    here = []
    workers.for_each(here.append, [("one",), ("two",)], num_jobs=2, fills_gpu=True)
    assert here == ["one", "two"]


def _in_two_processes(job, folder):
    """Three jobs from a process of their own: this one has threads, which its forks would wait for."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from icefall_alp.evaluation.workers import for_each\n"
        f"{job}\n"
        "for_each(job, [('a',), ('b',), ('c',)], 2, False)\n"
        "print(os.getpid())"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT, "ALP_DEVICE": "cpu"}
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=environment)


def test_two_processes_do_every_job_once(tmp_path):
    done = _in_two_processes("def job(name): Path(sys.argv[1], name).write_text(str(os.getpid()))", tmp_path)
    by = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(by) == ["a", "b", "c"]
    assert 1 <= len(set(by.values())) <= 2 and done.stdout.strip() not in by.values()


def test_a_job_that_fails_ends_the_command(tmp_path):
    done = _in_two_processes("def job(name): raise ValueError(f'no {name}')", tmp_path)
    assert done.returncode != 0 and "ValueError: no a" in done.stderr and not done.stdout
