# SPDX-License-Identifier: Apache-2.0
"""One or many processes: ranks from torchrun's environment, the device, and the few collectives training needs.

Without torchrun everything here is the identity of a world of one. This is the only place that knows which kind of
device the work runs on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from icefall_alp.utils.errors import UserError
from icefall_alp.utils.exact_arithmetic import compute_exactly

_ENVIRONMENT = (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))
_alone = False  # inside `single_process()`
_collectives = 0  # that this process has come to


@dataclass(frozen=True)
class Ranks:
    """Place of this process: `rank` of `world_size`, and `local_rank` on this machine."""

    rank: int
    local_rank: int
    world_size: int


def setup() -> Ranks:
    """Join the other processes of torchrun (gloo on CPU, NCCL beside it on GPU); alone where there is no torchrun.

    Raises:
        UserError: more processes than GPUs on this machine.
    """
    ranks = Ranks(*(int(os.environ.get(name, default)) for name, default in _ENVIRONMENT))
    place = device()
    if place.type != "cpu":
        torch.cuda.set_device(place)
    if ranks.world_size > 1 and not dist.is_initialized():
        dist.init_process_group("gloo" if place.type == "cpu" else "cpu:gloo,cuda:nccl")
    return ranks


def cleanup() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 for the first."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def place() -> tuple[int, int]:
    """`rank()` and `world_size()`."""
    return rank(), world_size()


def is_main() -> bool:
    """True in the process that writes files and speaks, also inside `single_process()`."""
    return not dist.is_initialized() or dist.get_rank() == 0


def device() -> torch.device:
    """GPU number `LOCAL_RANK`, which then computes exactly, or the CPU where there is none or `ALP_DEVICE=cpu`.

    Raises:
        UserError: `ALP_DEVICE` is neither empty, cpu nor cuda, or this machine has no such GPU.
    """
    wanted = os.environ.get("ALP_DEVICE", "")
    if wanted not in ("", "cpu", "cuda"):
        raise UserError(f"ALP_DEVICE={wanted} is unknown; use cpu or cuda")
    if wanted == "cpu" or (not wanted and not torch.cuda.is_available()):
        return torch.device("cpu")
    compute_exactly()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine finds only {torch.cuda.device_count()} GPUs; "
            "start at most that many processes, or set ALP_DEVICE=cpu"
        )
    return torch.device("cuda", local_rank)


@contextmanager
def single_process() -> Iterator[None]:
    """Let the body act as a world of one: no collective is called, so processes need not keep in step."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def num_collectives() -> int:
    """How many collectives this process has come to: who hangs has come to fewer than the others."""
    return _collectives


def come() -> None:
    """Count a collective that this process comes to; for those that are not this module's."""
    global _collectives
    _collectives += 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum of `tensor` over all processes, as a new tensor without gradient; same shape everywhere."""
    total = tensor.detach().clone()
    if world_size() > 1:
        come()
        dist.all_reduce(total)
    return total


def gather_json(value: Any) -> list[Any]:
    """The JSON value of every process, in the order of their ranks (no pickle)."""
    if world_size() == 1:
        return [value]
    encoded = torch.frombuffer(bytearray(json.dumps(value).encode("utf-8")), dtype=torch.uint8)
    return [json.loads(block.numpy().tobytes()) for block in gather_blocks(encoded)]


def on_main(function: Callable[[], Any]) -> Any:
    """Run `function` in the first process and hand its JSON result to all.

    A failure ends all of them together: the first process raises it, the others leave quietly with status 1.
    """
    if not is_main():
        outcome = gather_json(None)[0]
        if not outcome["ok"]:
            raise SystemExit(1)
        return outcome["result"]
    try:
        result = function()
    except Exception:
        gather_json({"ok": False})
        raise
    gather_json({"ok": True, "result": result})
    return result


def gather_blocks(tensor: Tensor) -> list[Tensor]:
    """Rows (n, ...) of every process; blocks travel padded to the longest because collectives want equal shapes."""
    come()
    length = torch.tensor([len(tensor)])  # on the CPU: no process waits for its GPU to know how much will come
    lengths = [torch.empty_like(length) for _ in range(world_size())]
    dist.all_gather(lengths, length)
    sizes = torch.cat(lengths).tolist()
    padded = tensor.new_zeros(max(sizes), *tensor.shape[1:])
    padded[: len(tensor)] = tensor.detach()
    blocks = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(blocks, padded)
    return [block[:size] for block, size in zip(blocks, sizes, strict=True)]
