# SPDX-License-Identifier: Apache-2.0
"""Masks against golden values."""

from __future__ import annotations

import torch

from icefall_alp.models.zipformer.masks import MASKED_SCORE, Context, chunk_mask, padding_mask


def test_chunk_mask(units):
    case = units("chunkmask")
    for left, key in ((2, "left2chunks"), (-1, "leftall")):
        mask = chunk_mask(14, 4, left, torch.device("cpu"))
        assert torch.equal(mask, case[f"mask_T14_chunk4_{key}"].bool())


def test_context_joins_padding_and_chunks():
    padding = padding_mask(torch.tensor([3, 2]), 3)
    assert padding.tolist() == [[False] * 3, [False, False, True]]
    chunks = chunk_mask(3, 1, -1, torch.device("cpu"))
    context = Context.build(padding, chunks, 1)
    assert torch.equal(context.keep[..., 0], (~padding).float())
    hidden = context.score_bias == MASKED_SCORE
    assert torch.equal(hidden, context.score_bias != 0)
    assert torch.equal(hidden[0], chunks)
    assert hidden[1].tolist() == [[False, True, True], [False, False, True], [False, False, True]]
    assert Context.build(None, None, -1) == Context(None, None, -1)
