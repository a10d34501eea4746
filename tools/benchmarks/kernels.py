# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels compiled for an H200, which need not be there: what they ask of its memory and of its arithmetic.

For every kernel that a training step of Zipformer-M launches: registers, memory that registers are spilt to, calls of
subroutines, such as divisions of long integers, and per element its bytes and instructions. Last the time that issuing
these takes over the time that moving the bytes takes: below 1 memory is the limit.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import _workload
from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.panel import Panel
from icefall_alp.utils.errors import UserError

BYTES, INSTRUCTIONS = 4.8e12, 33.5e12  # per second: the maker's memory bandwidth, and half of its float32 operations
CAPABILITY, WARP = 90, 32
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.uint8: "u8", torch.int8: "i8", torch.int64: "i64"}
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?\w+ )?(\w[\w.]*)(.*)", re.M)


@dataclass(frozen=True)
class Block:
    """What matters of a tensor, which is not kept: a step's would be three times what a step holds."""

    address: int
    numbers: int
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Of all its numbers."""
        return self.numbers * self.dtype.itemsize


@dataclass
class Launch:
    """One launch, whose arguments decide what is compiled."""

    kernel: Any
    arguments: dict[str, Any]
    constants: dict[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from launches of the same kernel for other sizes."""
        flags = [name for name, value in self.constants.items() if value is True]
        flags += [f"{name}={self.constants[name]}" for name in ("FACTOR", "HIGH") if self.constants.get(name, 1) > 1]
        types = sorted({TYPES[x.dtype] for x in self.arguments.values() if isinstance(x, Block)})
        return (self.kernel.__name__, *types, *flags)

    @property
    def elements(self) -> int:
        """Rows times columns."""
        return max(
            x.numbers
            for name, x in self.arguments.items()
            if name in ("y_at", "weights_at", "x_at", "original_at", "grad_x_at", "sums_at")
        )

    @property
    def bytes(self) -> int:
        """Of all tensors, each read or written once."""
        return sum({x.address: x.bytes for x in self.arguments.values() if isinstance(x, Block)}.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of which encoder."""
    parser.add_argument("--encoder", type=Path, help="YAML with audio_encoder; default: zipformer_m")
    parser.add_argument("--layers", type=int, nargs="+", default=[1] * 6, help="of each stack (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Record the launches of a step in both precisions, and of a recorded one; compile, print a line each."""
    if os.environ.get("TRITON_INTERPRET"):
        raise UserError("TRITON_INTERPRET is set: Triton interprets its kernels instead of compiling them; unset it")
    launches: dict[tuple[str, ...], Launch] = {}
    for half, told in ((False, False), (True, False), (True, True)):
        step = _workload.same_draws(partial(_step, arguments, half, told))
        for launch in recorded(step):
            if launch.key not in launches or launch.elements > launches[launch.key].elements:
                launches[launch.key] = launch
    print(f"{'kernel':72} registers spilt calls  bytes instructions  arithmetic / memory")
    for key, launch in sorted(launches.items()):
        registers, spilt, calls, instructions = compiled(launch)
        size = launch.bytes / launch.elements
        ratio = instructions / INSTRUCTIONS / (size / BYTES)
        spent = f"{instructions:12.1f} {ratio:20.2f}"
        if "PRECISION" in launch.constants:
            spent = "matrix products"
        elif "WIDE" in launch.constants:
            spent = f"{instructions:.1f} for each tap"
        print(f"{' '.join(key):72} {registers:9} {spilt:5} {calls:5} {size:6.1f} {spent:>33}")


def _step(arguments: argparse.Namespace, half: bool, told: bool) -> None:
    arguments.device = torch.device("cpu")
    encoder = _workload.build_encoder(arguments).train()
    encoder.set_batch_count(0.0)
    encoder.clock.panel = Panel(arguments.device) if told else None
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        encoder_out, _ = encoder(torch.randn(2, 1000, 80), torch.tensor([1000, 990]))
    encoder_out.float().sum().backward()


def recorded(call: Callable[[], object]) -> list[Launch]:
    """What `call` would launch on a GPU; nothing is, so that all results are whatever lay in memory."""
    try:
        from triton.runtime import KernelInterface

        from icefall_alp.models.kernels import (
            triton_balancer,
            triton_convolutions,
            triton_forms,
            triton_kernels,
            triton_whiten,
        )
    except ImportError as error:
        raise UserError(f"Triton is not installed: {error}") from error
    launches: list[Launch] = []

    def recorder(kernel: Any) -> Any:
        def launch(*arguments: Any, **constants: Any) -> None:
            names = kernel.arg_names[: len(arguments)]
            launches.append(Launch(kernel, dict(zip(names, map(_noted, arguments), strict=True)), constants))

        class Grid:
            def __getitem__(self, programs: tuple[int, ...]) -> Callable[..., None]:
                return launch

        return Grid()

    with ExitStack() as patches:
        for module in (triton_balancer, triton_convolutions, triton_kernels, triton_whiten):
            kernels = {name: value for name, value in vars(module).items() if isinstance(value, KernelInterface)}
            fakes = {name: recorder(kernel) for name, kernel in kernels.items() if not name.startswith("_")}
            patches.enter_context(patch.multiple(module, **fakes))
        patches.enter_context(patch.object(chains, "form_for", lambda device: triton_forms))
        call()
    return launches


def _noted(value: Any) -> Any:
    return Block(value.data_ptr(), value.numel(), value.dtype) if isinstance(value, Tensor) else value


def compiled(launch: Launch) -> tuple[int, int, int, float]:
    """Registers, bytes of spilt registers, calls, and instructions for each element, loops counted as often as run.

    Of a convolution for each product of a tap, in the loop of these.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    names = launch.kernel.arg_names
    signature = {name: _type(value) for name, value in launch.arguments.items()}
    options = {name: value for name, value in launch.constants.items() if name not in names}
    signature |= dict.fromkeys(launch.constants.keys() - options, "constexpr")
    constants = {(names.index(name),): value for name, value in launch.constants.items() if name in names}
    even = {(names.index(name),): [["tt.divisibility", 16]] for name, x in launch.arguments.items() if _is_even(x)}
    source = triton.compiler.ASTSource(launch.kernel, signature, constants, even)
    made = triton.compile(source, target=GPUTarget("cuda", CAPABILITY, WARP), options=options)
    usage, listing = _inspect(made.asm["cubin"])
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    steps = launch.constants.get("STEPS", 1)
    per_thread = launch.constants["ROWS"] * launch.constants["BLOCK"] / (made.metadata.num_warps * WARP)
    per_thread *= launch.constants.get("FACTOR", 1) if "STEPS" in launch.constants else 1  # rows of each row of a sum
    once, loops = _executed([(int(place, 16), name, rest) for place, name, rest in INSTRUCTION.findall(listing)])
    calls = sum(name.startswith("CALL") for name in once)
    if "WIDE" in launch.constants:
        sums = [loop for loop in (once, *loops) if _products(loop)]
        return registers, stack, calls, min(len(loop) / _products(loop) for loop in sums)
    return registers, stack, calls, (len(once) + (steps - 1) * sum(map(len, loops))) / steps / per_thread


def _executed(found: list[tuple[int, str, str]]) -> tuple[list[str], list[list[str]]]:
    """Instructions up to the end of the program, and those of each loop: between a jump backwards and its target."""
    last = next(place for place, name, _ in reversed(found) if name == "EXIT")
    loops = []
    for place, name, rest in found:
        target = re.search(r"0x([0-9a-f]+)", rest) if name == "BRA" else None
        if target and (start := int(target[1], 16)) < place <= last:
            loops.append([other for at, other, _ in found if start <= at <= place])
    return [name for place, name, _ in found if place <= last], loops


def _products(names: list[str]) -> int:
    """Multiplications and additions in one."""
    return sum(name.startswith("FFMA") for name in names)


def _type(value: Any) -> str:
    if isinstance(value, Block):
        return f"*{TYPES[value.dtype]}"
    return "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"


def _is_even(value: Any) -> bool:
    return isinstance(value, Block) or (isinstance(value, int) and value % 16 == 0)


def _inspect(binary: bytes) -> tuple[str, str]:
    """What NVIDIA's tools, which come with Triton, say of a program: its resources and its instructions."""
    import triton.backends.nvidia as nvidia

    tools = Path(nvidia.__file__).parent / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        commands = ([tools / "cuobjdump", "--dump-resource-usage"], [tools / "cuobjdump", "-sass"])
        usage, listing = (
            subprocess.run([*command, file.name], capture_output=True, text=True, check=True).stdout
            for command in commands
        )
    return usage, listing
