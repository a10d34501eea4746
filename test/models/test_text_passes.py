# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import pytest
import torch

from icefall_alp.models.text_passes import TOGETHER, pass_bounds, similar_lengths


@pytest.mark.parametrize("budget", [0, 1000, 4096])
def test_a_pass_holds_as_many_captions_as_its_budget_but_no_fewer_than_the_least(budget):
    lengths = torch.randint(6, 78, (300,)).sort().values.tolist()
    bounds = pass_bounds(lengths, budget)
    assert bounds[0] == 0 and bounds[-1] == len(lengths)
    for start, stop in pairwise(bounds):
        size, longest = stop - start, lengths[stop - 1]
        assert size <= TOGETHER or size * longest <= budget
        if stop < len(lengths):
            assert size >= TOGETHER and (size + 1) * lengths[stop] > budget


def test_every_caption_is_in_one_pass_without_more_padding_than_its_longest_needs():
    lens = torch.randint(3, 50, (200,))
    ids = torch.arange(200)[:, None].expand(-1, 60) * 60 + torch.arange(60)
    passes, places = similar_lengths(ids, lens)
    assert len(passes) == 7
    for tokens, alike in passes:
        assert tokens.shape == (len(alike), alike.max())
    first = torch.cat([tokens[:, 0] for tokens, _ in passes])
    assert torch.equal(first[places], ids[:, 0])
    assert torch.equal(torch.cat([alike for _, alike in passes])[places], lens)
    assert all((tokens % 60 == torch.arange(tokens.shape[1])).all() for tokens, _ in passes)
