# SPDX-License-Identifier: Apache-2.0
"""A few items of a batch at a time, where that keeps what is made of them in the cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icefall_alp.models.kernels import chains, plain

CACHED_NUMBERS = 2**19  # that a function makes at once


def in_slices(function: Callable[..., Tensor], widest: int, x: Tensor, *others: Tensor | None) -> Tensor:
    """`function` of tensors (N, ...) or None: on a CPU, where no graph keeps what it makes, of some items at a time.

    The definitions, with which all else is compared, take the whole batch at once.

    Args:
        function: makes (N, ...) of them, each item of its own.
        widest: numbers that it makes of one item at once, at least 1.
        x: on whose device it computes.
        others: its further arguments, of as many items.
    """
    whole = torch.is_grad_enabled() or x.device.type != "cpu" or chains.form_for("cpu") is plain
    size = len(x) if whole else max(1, CACHED_NUMBERS // widest)
    if size >= len(x):
        return function(x, *others)
    slices = [[None] * -(-len(x) // size) if tensor is None else tensor.split(size) for tensor in (x, *others)]
    return torch.cat([function(*arguments) for arguments in zip(*slices, strict=True)])
