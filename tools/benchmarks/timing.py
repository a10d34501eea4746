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
from torch.utils.flop_counter import FlopCounterMode

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


def count_flops(call: Callable[[], object]) -> int:
    """Operations of the matrix products and convolutions of a call, two for each multiplication and addition."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def report_limits(times: list[float], flops: int, seconds: float, device: torch.device) -> None:
    """Print how fast a call computes, against a large matrix product and a large copy timed here.

    Args:
        times: seconds per call.
        flops: of a call; training has three times those of forward.
        seconds: of audio that it works on.
        device: where.
    """
    median = statistics.median(times)
    matrix = torch.randn(1024, 1024, device=device)
    memory = torch.empty(2, 1 << 23, device=device)
    limits = {"product": lambda: matrix @ matrix, "copy": lambda: memory[0].copy_(memory[1])}
    measured = {name: statistics.median(t) for name, t in take_turns(limits, device, rounds=5, repeats=2).items()}
    peak, bandwidth = 2 * 1024**3 / measured["product"], 2 * memory[0].nbytes / measured["copy"]
    print(
        f"{seconds / median:,.0f} audio-s/s; {flops / 1e9:,.1f} GFLOP per call, "
        f"{flops / median / 1e9:,.0f} GFLOP/s = {flops / median / peak:.0%} of a large float32 product's "
        f"{peak / 1e9:,.0f}; the machine copies {bandwidth / 1e9:,.1f} GB/s"
    )


def report_memory(contenders: Contenders, seconds: float, device: torch.device) -> None:
    """Print each contender's peak memory for each second of audio, where the device counts it."""
    if device.type == "cpu":
        print("peak memory is counted on accelerators only")
        return
    for name, call in contenders.items():
        torch.accelerator.reset_peak_memory_stats(device)
        call()
        _wait(device)
        peak = torch.accelerator.max_memory_allocated(device) / 2**20
        print(f"{name}: peak memory {peak:,.0f} MiB, {peak / seconds:.2f} MiB for each second of audio")


def describe_machine(device: torch.device) -> str:
    """One line: processor, cores, threads in use, accelerator, versions."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.open() if "model name" in line] if info.exists() else []
    parts = [models[0] if models else platform.machine(), f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    if device.type != "cpu":
        parts.append(torch.get_device_module(device).get_device_name(device))
    return ", ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])
