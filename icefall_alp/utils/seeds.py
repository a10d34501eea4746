# SPDX-License-Identifier: Apache-2.0
"""Random numbers that can be repeated: seeds from names, and the state of every generator as JSON."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icefall_alp.utils.digests import sha256_text

RandomState = tuple[Any, Any, Tensor, Tensor | None]


def stable_seed(*parts: object) -> int:
    """Seed in [0, 2**32) that depends on the parts' text only, not on the machine, process or Python's hash."""
    return int(sha256_text("\x1f".join(map(str, parts)))[:8], 16)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """State of this process's generators as JSON values; `accelerator` is None where no GPU is in use."""
    (version, words, gauss), (name, keys, position, has_gauss, cached), host, accelerator = capture_rng()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, keys.tolist(), position, has_gauss, cached],
        "torch": host.numpy().tobytes().hex(),
        "accelerator": None if accelerator is None else accelerator.numpy().tobytes().hex(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators where `rng_state` found them."""
    version, words, gauss = state["python"]
    name, keys, position, has_gauss, cached = state["numpy"]
    accelerator = state["accelerator"]
    restore_rng(
        (
            (version, tuple(words), gauss),
            (name, np.array(keys, dtype=np.uint32), position, has_gauss, cached),
            _bytes_tensor(state["torch"]),
            None if accelerator is None else _bytes_tensor(accelerator),
        )
    )


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Put every generator back after the body, as if nothing had been drawn or seeded in it."""
    state = capture_rng()
    try:
        yield
    finally:
        restore_rng(state)


def capture_rng() -> RandomState:
    """State of Python's, NumPy's, PyTorch's and the device's generators, in memory: for `restore_rng`."""
    accelerator = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), accelerator


def restore_rng(state: RandomState) -> None:
    """Put every generator where `capture_rng` found it."""
    python, numpy, host, accelerator = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(host)
    if accelerator is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(accelerator)


def _bytes_tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
