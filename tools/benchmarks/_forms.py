# SPDX-License-Identifier: Apache-2.0
"""Our form of a step or of encoding beside plain eager PyTorch: times, shares of limits, memory, and a profile."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec

import torch

from benchmarks import _workload
from benchmarks.timing import Contenders, Work, report, report_limits, report_memory, report_profile, take_turns
from benchmarks.traffic import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What both forms share, and what is printed of ours."""
    parser.add_argument("--bfloat16", action="store_true", help="autocast")
    parser.add_argument("--profile", action="store_true", help="print what ours spends its time on")


def compare(
    contenders: Contenders, counted: Callable[[], object], seconds: float, flops: int, arguments: argparse.Namespace
) -> None:
    """Take turns, then print.

    Args:
        contenders: "plain eager", "ours", and others.
        counted: what of ours is counted: without the optimizer, which would change weights by what is in memory.
        seconds: of audio that a call works on.
        flops: of a call.
        arguments: of the command line.
    """
    device = arguments.device
    times = take_turns(contenders, device, arguments.rounds, repeats=1)
    report(times, "plain eager")
    # a CUDA graph has its memory before it is called
    report_memory({name: contenders[name] for name in times if name in ("plain eager", "ours")}, seconds, device)
    if "ours" not in times:
        return
    if arguments.profile:
        report_profile(contenders["ours"], device)
    moved = count(_workload.same_draws(counted)).bytes.total() if find_spec("triton") else None
    dtype = torch.bfloat16 if arguments.bfloat16 else torch.float32
    report_limits(times["ours"], Work(seconds, flops, moved), device, dtype)
