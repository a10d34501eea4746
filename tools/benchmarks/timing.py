# SPDX-License-Identifier: Apache-2.0
"""Timing in turns, the printed comparison, and the machine in one line: what every benchmark shares."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Contenders = dict[str, Callable[[], object]]


def take_turns(contenders: Contenders, device: torch.device, rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per call of each contender, one value per round, each the mean of `repeats` calls in a row."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-1, rounds):
        for name, call in contenders.items():
            _wait(device)
            begin = time.perf_counter()
            for _ in range(repeats):
                call()
            _wait(device)
            if turn >= 0:  # the turn before the first warms up
                times[name].append((time.perf_counter() - begin) / repeats)
    return times


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def report(times: dict[str, list[float]], baseline: str) -> None:
    """Print one line per contender: median time, ratio to the baseline of the same round with its range."""
    width = max(map(len, times))
    for name, seconds in times.items():
        ratios = [own / other for own, other in zip(seconds, times[baseline], strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {len(seconds)} rounds"
        ratio = f"{statistics.median(ratios):6.3f} x {baseline} ({spread})"
        print(f"{name:{width}}  {1e3 * statistics.median(seconds):9.2f} ms   {ratio}")


def describe_machine(device: torch.device) -> str:
    """One line: processor, cores, threads in use, accelerator, versions."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.open() if "model name" in line] if info.exists() else []
    parts = [models[0] if models else platform.machine(), f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    if device.type != "cpu":
        parts.append(torch.get_device_module(device).get_device_name(device))
    return ", ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])
