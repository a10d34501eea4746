# SPDX-License-Identifier: Apache-2.0
"""Captions of similar length together: the longest of a batch would pad all others."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from icefall_alp.utils.transfer import send

TOGETHER = 32  # captions that go through the transformer in one pass, at least but for the last
# On another device a pass takes more captions while it holds at most so many tokens, padding included. One layer of
# BERT-base over them is 58 GFLOP, about as long for a GPU as its kernels take to launch: fewer tokens leave it waiting
# for the CPU, more only add padding.
TOKENS_TOGETHER = 4096


def similar_lengths(ids: Tensor, lens: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Divide captions among passes through a transformer, shortest first.

    Args:
        ids: tokens (N, U).
        lens: (N,) on the CPU.

    Returns:
        Of each pass tokens (n, longest of them) and lens (n,), and the places (N,) that restore the order of captions;
        all on the device of `ids`.
    """
    order = lens.argsort(stable=True)
    plan = torch.stack([order, order.argsort(), lens[order]])
    lengths = plan[2].tolist()
    rows, places, lens = send(plan, ids.device)  # once for all passes
    ids = ids[rows]
    bounds = pairwise(pass_bounds(lengths, 0 if ids.device.type == "cpu" else TOKENS_TOGETHER))
    return [(ids[start:stop, : lengths[stop - 1]], lens[start:stop]) for start, stop in bounds], places


def pass_bounds(lengths: list[int], budget: int) -> list[int]:
    """Where passes begin, and the end of the last: each of at least `TOGETHER` captions, and of more within a budget.

    Args:
        lengths: of the captions in tokens, ascending.
        budget: tokens of a pass, padding included.
    """
    bounds = [0]
    for place, length in enumerate(lengths):
        size = place - bounds[-1]
        if size >= TOGETHER and (size + 1) * length > budget:
            bounds.append(place)
    return [*bounds, len(lengths)]
