#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure one part against its baseline, in turns within one run.

  tools/benchmark.py scaled_adam --threads 2
  tools/benchmark.py scaled_adam --device DEVICE

Every contender is warmed up, then all are timed in turn (A B A B ...). Printed are the median time, and the median and
range over the rounds of its ratio to the first baseline; the machine; and the share of what memory traffic allows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from icefall_alp.training.scaled_adam import ScaledAdam
from icefall_alp.utils.errors import UserError, clean_exit

ROOT = Path(__file__).resolve().parent.parent
ZIPFORMER_M = ROOT / "test" / "golden" / "names_shapes_icefall_at_M.json"

Contenders = dict[str, Callable[[], object]]


@clean_exit
def main() -> None:
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    command = commands.add_parser("scaled_adam", help="one optimizer step over a model's tensors")
    command.add_argument("--shapes", type=Path, default=ZIPFORMER_M, help="JSON with name -> shape under 'shapes'")
    command.set_defaults(run=scaled_adam)
    for command in commands.choices.values():
        command.add_argument("--rounds", type=int, default=7, help="at least 5 (default: %(default)s)")
        command.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")
        command.add_argument("--device", type=torch.device, default="cpu", help="as PyTorch names it")
    arguments = parser.parse_args()
    if arguments.rounds < 5:
        parser.error("--rounds must be at least 5")
    torch.set_num_threads(arguments.threads)
    print(describe_machine(arguments.device))
    arguments.run(arguments)


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


def scaled_adam(arguments: argparse.Namespace) -> None:
    """ScaledAdam against AdamW (foreach) and against the same update written as a loop over parameters."""
    shapes = _read_shapes(arguments.shapes)
    device = arguments.device
    params = {name: _random_parameters(shapes, device) for name in ("AdamW foreach", "ScaledAdam", "loop")}
    memory = torch.empty(2, sum(p.numel() for p in params["loop"]), device=device)
    contenders = {
        "AdamW foreach": torch.optim.AdamW(params["AdamW foreach"], foreach=True).step,
        "ScaledAdam": ScaledAdam(params["ScaledAdam"]).step,
        "loop": reference_scaled_adam(params["loop"]),
        "copy": lambda: memory[0].copy_(memory[1]),
    }
    print(f"{len(shapes)} tensors, {memory.shape[1]:,} elements")
    times = take_turns(contenders, device, arguments.rounds, repeats=4)  # every fourth step updates the sizes
    report(times, "AdamW foreach")
    # Gradient read; parameter and two moments read and written: 7 accesses per element where a copy has 2.
    least = 7 / 2 * statistics.median(times["copy"])
    print(f"ScaledAdam reaches {least / statistics.median(times['ScaledAdam']):.0%} of what memory traffic allows")


def _read_shapes(path: Path) -> list[list[int]]:
    if not path.exists():
        raise UserError(f"{path}: no such file; give --shapes a JSON file with name -> shape under 'shapes'")
    return list(json.loads(path.read_text())["shapes"].values())


def _random_parameters(shapes: list[list[int]], device: torch.device) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(42)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(device) * 0.05) for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator).to(device) * 0.01
    return params


def reference_scaled_adam(params: list[torch.nn.Parameter], lr: float = 0.045) -> Callable[[], None]:
    """The update of `icefall_alp.training.scaled_adam` as its formulas read, parameter by parameter."""
    states = [
        {"v": torch.zeros_like(p), "m": torch.zeros_like(p), "rms": _rms(p), "sums": [], "sv": 0.0} for p in params
    ]
    norms: list[Tensor] = []
    threshold = torch.inf

    @torch.no_grad()
    def step() -> None:
        nonlocal threshold
        squares = [
            (p.grad * (0.1 if p.numel() == 1 else state["rms"])).square().sum()
            for p, state in zip(params, states, strict=True)
        ]
        norms.append(torch.stack(squares).sum().sqrt() if norms else torch.zeros_like(squares[0]))
        done = len(norms) - 1
        if done in (10, 20, 40) or (done and done % 100 == 0):
            early = done < 100
            count = done if early else 100
            ordered = torch.stack(norms[-100:]).sort().values[-count:]
            threshold = 2.0 * float(ordered[min(count - 1, 2 * (count // 4))]) * (2.0 if early else 1.0)
        factor = min(1.0, threshold / (float(norms[-1]) + 1e-20))
        for p, state in zip(params, states, strict=True):
            _reference_update(p, p.grad * factor, state, lr, done)

    return step


def _reference_update(p: Tensor, g: Tensor, state: dict, lr: float, done: int) -> None:
    state["v"] = 0.98 * state["v"] + 0.02 * g.square()
    correction = 1 - 0.98 ** (done + 1)
    v = state["v"] / correction if correction < 0.99 else state["v"]
    scalar = p.numel() == 1
    d = -lr * (0.1 if scalar else 1.0) * g / (v.sqrt() + 1e-8)
    if not scalar:
        state["sums"].append((p * g).sum())
        if done % 4 == 3:
            state["rms"] = _rms(p)
        d = d * state["rms"].clamp(min=1e-5)
        if done % 4 == 3:
            sums, decay = torch.stack(state["sums"]), 0.98**4
            state["sv"] = decay * state["sv"] + (1 - decay) * sums.square().mean()
            correction = (1 - decay ** ((done + 1) // 4)) ** 0.5
            q = -0.1 * lr * correction * sums.sum() / (state["sv"].sqrt() + 1e-8)
            q = torch.where(state["rms"] < 1e-5, 0.0, q).clamp(-0.1, 0.1)
            d = d + p * torch.minimum(q, (3.0 - state["rms"]) / state["rms"])
            state["sums"] = []
    state["m"] = 0.9 * state["m"] + 0.1 * d
    p += state["m"]
    if scalar:
        p.clamp_(-10.0, 10.0)


def _rms(p: Tensor) -> Tensor:
    return p.detach().square().mean().sqrt()


if __name__ == "__main__":
    main()
