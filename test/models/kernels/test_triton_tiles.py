# SPDX-License-Identifier: Apache-2.0
"""Every element belongs to one program's tile, and to no other's."""

from __future__ import annotations

import pytest
import torch

tiles = pytest.importorskip("icefall_alp.models.kernels.triton_tiles")


@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (7, 5), (3, 1024), (2, 2500), (5000, 3)])
def test_tiles_cover_a_matrix(rows, channels):
    tile = tiles.tile_for(channels)
    (programs,) = tiles.programs_for(rows, channels, tile)
    assert tile["ROWS"] * tile["BLOCK"] == tiles.ELEMENTS
    blocks = -(-channels // tile["BLOCK"])
    assert programs == blocks * -(-rows // tile["ROWS"])


def test_whole_rows_are_in_one_tile():
    for channels in (1, 5, 1024, 1025, 4000):
        tile = tiles.whole_rows_for(channels)
        assert tile["BLOCK"] >= channels and tile["ROWS"] >= 1


def test_nothing_is_still_one_program():
    assert tiles.programs_for(0, 6, tiles.tile_for(6)) == (1,)
    assert tiles.sizes_of(torch.ones(3, 4, 5)) == (12, 5) and tiles.sizes_of(torch.ones(4, 0)) == (0, 1)
    assert tiles.as_one_row(torch.ones(3, 4)) == (1, 12) and tiles.as_one_row(torch.ones(0)) == (0, 1)
