# SPDX-License-Identifier: Apache-2.0
"""What a training step of an encoder moves through a GPU's memory, counted without one: Triton form and plain eager.

Every operation is counted with the tensors that it reads and writes, each once, as if nothing stayed in a cache, and
with what it launches; views are free. Parameters and their gradients are left out, since a large batch shares them:
counted is what more clips add. Last what an H200's memory allows if nothing else took time: a bound, no measurement.
Where the two differ by device other than in their chains, a CPU's way is counted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import _workload
from benchmarks.kernels import BYTES, recorded
from icefall_alp.models.kernels import closed_modifiers
from icefall_alp.models.zipformer.panel import Panel

PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward"}
FREE = {
    "alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "new_empty",
    "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold",
    "unsqueeze", "view", "_unsafe_view",
}  # fmt: skip
FILLING = {"fill_", "full_like", "new_full", "new_ones", "new_zeros", "ones_like", "rand_like", "zero_", "zeros_like"}
OURS, ELEMENTWISE, MULTIPLIED = "Triton kernels", "PyTorch, element by element", "matrix products and convolutions"


class Traffic(TorchDispatchMode):
    """Counts bytes and launches of PyTorch's operations by group."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Compute, and count."""
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        if name not in FREE:
            group = MULTIPLIED if name in PRODUCTS else ELEMENTWISE
            moved = result if name in FILLING else (args, kwargs) if name == "copy_" else (args, kwargs, result)
            self.bytes[group] += sum(_size(x) for x in tree_leaves(moved) if isinstance(x, Tensor))
            self.launches[group] += 1
        return result


def _size(x: Tensor) -> int:
    """Bytes in memory: an axis that is expanded is there once."""
    return x[tuple(slice(None) if stride else slice(1) for stride in x.stride())].numel() * x.element_size()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of which encoder."""
    parser.add_argument("--encoder", type=Path, help="YAML with audio_encoder; default: zipformer_m")
    parser.add_argument("--layers", type=int, nargs="+", help="of each stack instead of the encoder's own")
    parser.add_argument("--clip-seconds", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--recorded", action="store_true", help="a step that is recorded; every regulariser looks")


def run(arguments: argparse.Namespace) -> None:
    """Count both forms with few clips and with more; print what the difference adds."""
    totals = {}
    for name, counted in {"Triton form": count, "plain eager": _plain}.items():
        few, many = (counted(_step(arguments, clips)) for clips in (2, 6))
        seconds = 4 * arguments.clip_seconds
        print(f"{name:12} {'':34} launches  MB for a second of audio")
        for group in many.launches:
            added = (many.bytes[group] - few.bytes[group]) / seconds / 1e6
            print(f"{'':12} {group:34} {many.launches[group]:8} {added:24.1f}")
        totals[name] = (many.bytes.total() - few.bytes.total()) / seconds
        print(f"{'':12} {'together':34} {many.launches.total():8} {totals[name] / 1e6:24.1f}")
    ours, plain = totals.values()
    print(f"an H200's memory allows {BYTES / ours:,.0f} audio-s/s; plain eager moves {plain / ours:.2f} times as much")


def _step(arguments: argparse.Namespace, clips: int) -> Callable[[], None]:
    """Forward and backward in bfloat16, late in training, with lengths and padding as on a GPU."""
    frames = int(arguments.clip_seconds * _workload.FRAMES_PER_SECOND)
    arguments.device = torch.device("cpu")
    encoder = _workload.build_encoder(arguments).train()
    lens = torch.full((clips,), frames)
    lens[0] = frames - 10

    def step() -> None:
        encoder.clock.panel = Panel(arguments.device) if arguments.recorded else None
        with torch.autocast("cpu", torch.bfloat16):
            encoder_out, _ = encoder(torch.randn(clips, frames, encoder.config.feature_dim), lens)
        encoder_out.float().sum().backward()

    return _workload.same_draws(step)


def count(step: Callable[[], object]) -> Traffic:
    """What a step moves and launches in Triton's form; its results are whatever lay in memory."""
    traffic = Traffic()

    def counted() -> None:
        with traffic, patch.object(closed_modifiers, "FREE_TO_LOOK", ()):
            step()

    launches = recorded(counted)
    traffic.bytes[OURS] = sum(launch.bytes for launch in launches)
    traffic.launches[OURS] = len(launches)
    return traffic


def _plain(step: Callable[[], None]) -> Traffic:
    with _workload.plain_eager(), Traffic() as traffic:
        step()
    return traffic
