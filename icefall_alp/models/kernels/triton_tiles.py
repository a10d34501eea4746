# SPDX-License-Identifier: Apache-2.0
"""How a matrix of rows is shared out over the programs of a Triton kernel: sizes on the host, indices in the kernel."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 1024  # of one program's tile
STEPS = 8  # tiles whose sums one program makes


@triton.jit
def own_tile(rows, channels, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """This program's rows (ROWS, 1), where each begins, its columns (1, BLOCK), and which of them are there."""
    program, blocks = tl.program_id(0), tl.cdiv(channels, BLOCK)
    row = (program // blocks * ROWS + tl.arange(0, ROWS))[:, None]
    first, step = program % blocks * BLOCK, tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (step < channels - first)  # the last column may lie past the largest number
    return row, row.to(tl.int64) * channels, first + step, inside


@triton.jit
def own_share(step, STEPS: tl.constexpr, ROWS: tl.constexpr):
    """Rows (ROWS, 1) of one of the STEPS tiles whose sum is this program's."""
    return ((tl.program_id(0) * STEPS + step) * ROWS + tl.arange(0, ROWS))[:, None]


def tile_for(channels: int) -> dict[str, int]:
    """Rows and columns of one program's tile: whole rows, if they are no longer than it."""
    block = min(ELEMENTS, triton.next_power_of_2(max(1, channels)))
    return {"ROWS": ELEMENTS // block, "BLOCK": block}


def whole_rows_for(channels: int) -> dict[str, int]:
    """A tile for sums over rows, however long these are."""
    block = triton.next_power_of_2(channels)
    return {"ROWS": max(1, ELEMENTS // block), "BLOCK": block}


def programs_for(rows: int, channels: int, tile: dict[str, int]) -> tuple[int]:
    """As many as there are tiles; nothing at all cannot be launched."""
    return (max(1, triton.cdiv(rows, tile["ROWS"]) * triton.cdiv(channels, tile["BLOCK"])),)


def as_one_row(x: Tensor) -> tuple[int, int]:
    """All elements as one row; none at all are no row."""
    return min(1, x.numel()), max(1, x.numel())


def sizes_of(x: Tensor) -> tuple[int, int]:
    """Rows and channels, at least one of these."""
    return x.numel() // max(1, x.shape[-1]), max(1, x.shape[-1])
