# SPDX-License-Identifier: Apache-2.0
"""Random numbers that can be repeated: seeds from names, and the state of every generator as JSON."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from icefall_alp.utils.digests import sha256_text


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
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    accelerator = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, keys.tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "accelerator": None if accelerator is None else accelerator.numpy().tobytes().hex(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators where `rng_state` found them."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_bytes_tensor(state["torch"]))
    if state["accelerator"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes_tensor(state["accelerator"]))


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Run the body from `seed`, then put every generator back, as if nothing had been drawn."""
    state = rng_state()
    seed_everything(seed)
    try:
        yield
    finally:
        set_rng_state(state)


def _bytes_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
