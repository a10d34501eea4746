# SPDX-License-Identifier: Apache-2.0
"""Each kind of fault, a few of them; tools/inject_faults.py runs the same by the hundred."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults import corruptions, elastic, forks, kills, lost_rank, signals, soak
from faults.workbench import OBJECTIVES, Workbench

from icefall_alp.config import TrainingConfig

ROOT = Path(__file__).parents[2]


def test_twenty_kills_and_no_trace_of_them(tmp_path):
    seen = kills.run(SimpleNamespace(objective="contrastive", num_processes=1, rounds=20), tmp_path)
    assert seen.startswith("20 kills, ") and int(seen.split()[2]) >= 1


def test_signals_to_every_process_save_and_lose_nothing(tmp_path):
    """With processes of the loader, which a job's end reaches as well."""
    seen = signals.run(SimpleNamespace(objective="tagging", num_processes=1, num_workers=2, rounds=2), tmp_path)
    assert seen.startswith("2 signals in ")


def test_a_lost_process_is_named_and_a_new_start_ends_in_the_same_bits(tmp_path):
    options = SimpleNamespace(objective="tagging", num_processes=2, rounds=1, silence=4.0, hang_seconds=45.0)
    options.kinds = ("frozen",)
    seen = lost_rank.run(options, tmp_path)
    assert seen.startswith("1 losses: always named")


@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_killed_after_ten_steps_and_started_again_equals_unbroken(tmp_path, objective, num_processes):
    """20 steps = 10 + kill -9 + 10, bit for bit."""
    bench = Workbench.build(tmp_path)
    training = TrainingConfig(num_steps=20, log_every=4, valid_every=10, save_every=10, average_every=5)

    def unbroken():
        bench.trainer(objective, tmp_path / "unbroken", training).fit()

    def broken():
        bench.trainer(objective, tmp_path / "broken", training).fit()

    forks.run(unbroken, tmp_path / "log", num_processes)
    kills.kill_when(forks.start(broken, tmp_path / "log", num_processes), tmp_path / "broken/checkpoints/step_10")
    assert not (tmp_path / "broken/checkpoints/step_20").exists()
    forks.run(broken, tmp_path / "log", num_processes)
    assert "continuing from" in (tmp_path / "log").read_text()
    for path in (tmp_path / "unbroken/checkpoints/step_20").iterdir():
        assert (tmp_path / "broken/checkpoints/step_20" / path.name).read_bytes() == path.read_bytes(), path.name
    assert (tmp_path / "broken/losses.jsonl").read_bytes() == (tmp_path / "unbroken/losses.jsonl").read_bytes()


def test_sixty_corruptions_are_all_named(tmp_path):
    seen = corruptions.run(SimpleNamespace(rounds=60), tmp_path)
    assert all(f" {kind}" in seen for kind in corruptions.DAMAGES) and " 0 " not in seen


def test_processes_and_workers_change_and_no_clip_is_lost_or_repeated(tmp_path):
    seen = elastic.run(SimpleNamespace(objective="tagging", steps=5), tmp_path)
    assert int(seen.split()[0]) >= 3


def test_memory_stays_flat(tmp_path):
    seen = soak.run(SimpleNamespace(steps=150, num_workers=1, max_growth=8.0), tmp_path)
    assert seen.startswith("150 steps")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_needs_no_network(tmp_path, monkeypatch, objective):
    bench = Workbench.build(tmp_path)

    def refuse(*arguments):
        raise AssertionError(f"asked the network for {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("ALP_DEVICE", "cpu")
    bench.trainer(objective, None, TrainingConfig(num_steps=2, valid_every=0, save_every=0)).fit()


def test_the_command_lists_its_faults():
    result = subprocess.run(
        [sys.executable, ROOT / "tools/inject_faults.py", "--help"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    names = ("corruptions", "elastic", "kills", "lost_rank", "signals", "soak")
    assert result.returncode == 0 and set(names) <= set(result.stdout.split())
