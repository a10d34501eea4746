# SPDX-License-Identifier: Apache-2.0
"""Timing in turns, the printed comparison, and the machine in one line: what every benchmark shares."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from icefall_alp.training.recording import lacks_memory
from icefall_alp.utils.errors import UserError

Contenders = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Work:
    """What a call does.

    Attributes:
        seconds: of audio.
        flops: of matrix products and convolutions, two for each multiplication and addition.
        bytes: that operations read and write in the form of a GPU; None where they cannot be counted.
    """

    seconds: float
    flops: int
    bytes: int | None


def take_turns(contenders: Contenders, device: torch.device, rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per call of each contender, one value per round, each the mean of `repeats` calls in a row.

    Before that all warm up, on a GPU three times: a CUDA graph is recorded at the second. One that the device has too
    little memory for is named and left out.
    """
    warm_ups = 1 if device.type == "cpu" else 3
    times: dict[str, list[float]] = {
        name: [] for name, call in contenders.items() if _time_if_it_fits(name, call, device, warm_ups) is not None
    }
    for _ in range(rounds):
        for name in list(times):
            seconds = _time_if_it_fits(name, contenders[name], device, repeats)
            if seconds is None:  # it fitted alone, not beside what the others keep
                del times[name]
            else:
                times[name].append(seconds)
    return times


def _time_if_it_fits(name: str, call: Callable[[], object], device: torch.device, repeats: int) -> float | None:
    try:
        return _timed(call, device, repeats)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        print(f"{name}: out of memory")
    except UserError as error:  # of a recording
        print(f"{name}: {error}")
    if device.type != "cpu":
        torch.accelerator.empty_cache()  # after the error, whose traceback holds what was computed
    return None


def _timed(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    _wait(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return (time.perf_counter() - begin) / repeats


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def report(times: dict[str, list[float]], baseline: str) -> None:
    """Print one line per contender: median time, ratio to the baseline of the same round with its range."""
    width = max(map(len, times), default=0)
    for name, seconds in times.items():
        if baseline not in times:
            print(f"{name:{width}}  {1e3 * statistics.median(seconds):9.2f} ms")
            continue
        ratios = [own / other for own, other in zip(seconds, times[baseline], strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {len(seconds)} rounds"
        ratio = f"{statistics.median(ratios):6.3f} x {baseline} ({spread})"
        print(f"{name:{width}}  {1e3 * statistics.median(seconds):9.2f} ms   {ratio}")


def count_flops(call: Callable[[], object]) -> int:
    """Operations of the matrix products and convolutions of a call, two for each multiplication and addition."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def report_limits(times: list[float], work: Work, device: torch.device, dtype: torch.dtype) -> None:
    """Print how fast a call computes, against a large matrix product and a large copy timed here.

    Args:
        times: seconds per call.
        work: of a call.
        device: where.
        dtype: that matrices are multiplied in.
    """
    median = statistics.median(times)
    side, numbers = (1024, 1 << 23) if device.type == "cpu" else (8192, 1 << 28)  # some milliseconds, past the caches
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    memory = torch.empty(2, numbers, device=device)
    limits = {"product": lambda: matrix @ matrix, "copy": lambda: memory[0].copy_(memory[1])}
    measured = {name: statistics.median(t) for name, t in take_turns(limits, device, rounds=5, repeats=2).items()}
    peak, bandwidth = 2 * side**3 / measured["product"], 2 * memory[0].nbytes / measured["copy"]
    kind = str(dtype).removeprefix("torch.")
    print(
        f"{work.seconds / median:,.0f} audio-s/s\n"
        f"{work.flops / 1e9:,.1f} GFLOP per call, {work.flops / median / 1e9:,.0f} GFLOP/s = "
        f"{work.flops / median / peak:.0%} of a large {kind} product's {peak / 1e9:,.0f}"
    )
    if work.bytes is None:
        print("bytes are not counted: Triton is not installed")
        return
    print(
        f"{work.bytes / 1e9:,.2f} GB per call as the GPU's form counts them, {work.bytes / median / 1e9:,.1f} GB/s = "
        f"{work.bytes / median / bandwidth:.0%} of a large copy's {bandwidth / 1e9:,.1f}"
    )


def report_profile(call: Callable[[], object], device: torch.device) -> None:
    """Print what a call spends its time on: operations on a CPU, where our loops have no names, kernels on a GPU."""
    with profile(acc_events=True) as seen:
        call()
        _wait(device)
    order = "self_cpu_time_total" if device.type == "cpu" else "self_device_time_total"
    print(seen.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=60))


def report_memory(contenders: Contenders, seconds: float, device: torch.device) -> None:
    """Print the most memory that each contender needs above what it begins with, also for each second of audio."""
    for name, call in contenders.items():
        peak = (_cpu_peak(call) if device.type == "cpu" else _device_peak(call, device)) / 2**20
        print(f"{name}: peak memory {peak:,.0f} MiB, {peak / seconds:.2f} MiB for each second of audio")


def _device_peak(call: Callable[[], object], device: torch.device) -> int:
    torch.accelerator.reset_peak_memory_stats(device)
    before = torch.accelerator.memory_allocated(device)
    call()
    _wait(device)
    return torch.accelerator.max_memory_allocated(device) - before


def _cpu_peak(call: Callable[[], object]) -> int:
    with profile(profile_memory=True, acc_events=True) as seen:
        call()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())), default=0)


def describe_machine(device: torch.device) -> str:
    """One line: processor, cores, threads in use, accelerator, versions."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.open() if "model name" in line] if info.exists() else []
    parts = [models[0] if models else platform.machine(), f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    if device.type != "cpu":
        parts.append(torch.get_device_module(device).get_device_name(device))
    return ", ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])
