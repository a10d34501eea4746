# SPDX-License-Identifier: Apache-2.0
"""One optimizer step over a model's tensors: ScaledAdam, AdamW, and ScaledAdam as a loop over parameters."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import report, take_turns
from icefall_alp.training.scaled_adam import ScaledAdam
from icefall_alp.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ZIPFORMER_M = ROOT / "test" / "golden" / "names_shapes_icefall_at_M.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose tensors."""
    parser.add_argument("--shapes", type=Path, default=ZIPFORMER_M, help="JSON with name -> shape under 'shapes'")


def run(arguments: argparse.Namespace) -> None:
    """Time ScaledAdam against AdamW (foreach) and against the same update written as a loop over parameters."""
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
