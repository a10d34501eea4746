# SPDX-License-Identifier: Apache-2.0
"""The relative positional table against golden values."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.zipformer.positions import RelativePositions, positional_table


@pytest.mark.parametrize("frames", [1, 2, 7, 60])
def test_positional_table(units, close, frames):
    close(positional_table(frames, 48), units("relpos")[f"dim48_T{frames}"][0], rtol=0, atol=1e-5)


def test_positional_table_far_away_and_with_left_context(units, close):
    case = units("relpos")
    table = positional_table(2000, 48)
    assert torch.equal(case["T2000_rows_index"], case["T2000_rows_offset"] + 1999)
    close(table[case["T2000_rows_index"]], case["T2000_rows"], rtol=0, atol=1e-5)
    close(positional_table(9, 16, left_context=4), case["dim16_T9_left_context4"][0], rtol=0, atol=1e-5)


def test_table_is_cut_out_of_the_longest():
    module = RelativePositions(16).eval()
    for frames in (3, 9, 4, 1):
        assert torch.equal(module(torch.zeros(2, frames, 5)), positional_table(frames, 16))
    assert not module.state_dict()
    dropped = module.train()(torch.zeros(1, 50, 5))
    assert 0.1 < (dropped == 0).float().mean() < 0.2
