# SPDX-License-Identifier: Apache-2.0
"""Activation checkpointing: a layer keeps its input only, and runs again when its gradient is needed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_activations(layers: Iterable[nn.Module]) -> None:
    """From now on, do so in each of `layers` wherever gradients are on; results stay the same to the bit."""
    for layer in layers:
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, context_fn=_same_python_random, determinism_check="none"
        )


def _same_python_random() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """PyTorch repeats its own random numbers; regularisers decide by Python's."""
    state: list[Any] = []

    @contextmanager
    def first() -> Iterator[None]:
        state.append(random.getstate())
        yield

    @contextmanager
    def again() -> Iterator[None]:
        present = random.getstate()
        random.setstate(state[0])
        try:
            yield
        finally:
            random.setstate(present)

    return first(), again()
