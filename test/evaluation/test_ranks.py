# SPDX-License-Identifier: Apache-2.0
"""Ranks against a plain loop, hand-computed cases and simulation; ties and blocks change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from icefall_alp.evaluation import ranks
from icefall_alp.utils.errors import UserError

FIVE = np.repeat(np.arange(20), 5)


def embeddings(num_captions=100, num_clips=20, dim=3, seed=0):
    """Few small whole numbers, so that many similarities are equal."""
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(-2, 3, (n, dim))).float() for n in (num_captions, num_clips)]


def by_hand(queries, items, right):
    """First rank and average precision of one query after the other."""
    first, precision = [], []
    for query, own in zip(queries.numpy(), right, strict=True):
        scored = [(float(query @ item), i in own) for i, item in enumerate(items.numpy())]
        scored.sort(key=lambda pair: (-pair[0], pair[1]))  # wrong ones first among equals
        places = [place for place, (_, is_right) in enumerate(scored, 1) if is_right]
        first.append(places[0])
        hits = [number / place for number, place in enumerate(places, 1) if place <= 10]
        precision.append(sum(hits) / min(10, len(own)))
    return first, precision


@pytest.mark.parametrize("block", [1, 50, 1 << 25])
def test_ranks_are_those_of_a_loop_in_blocks_of_any_size(monkeypatch, block):
    monkeypatch.setattr(ranks, "BLOCK", block)
    text, audio = embeddings()
    clip = np.random.default_rng(1).permutation(np.append(FIVE[:-1], 3))  # unequal numbers of captions, any order
    own_captions = [np.flatnonzero(clip == n).tolist() for n in range(20)]
    for found, queries, items, right in (
        (ranks.text_to_audio(text, audio, clip), text, audio, [[n] for n in clip]),
        (ranks.audio_to_text(text, audio, clip), audio, text, own_captions),
    ):
        first, precision = by_hand(queries, items, right)
        assert found.first.tolist() == first
        np.testing.assert_allclose(found.precision, precision, rtol=1e-12)


def test_no_block_holds_more_similarities_than_allowed(monkeypatch):
    sizes = []
    plain = ranks._block_ranks
    monkeypatch.setattr(ranks, "BLOCK", 300)
    monkeypatch.setattr(ranks, "_block_ranks", lambda block, *rest: sizes.append(block.numel()) or plain(block, *rest))
    text, audio = torch.randn(100, 3), torch.randn(20, 3)
    ranks.text_to_audio(text, audio, FIVE)
    ranks.audio_to_text(text, audio, FIVE)
    assert max(sizes) == 300 and len(sizes) == 7 + 7


def test_five_captions_by_hand():
    # clip 0's captions at similarities 9, 5, 1; clip 1's at 8, 4, 0, seen from clip 0
    text = torch.tensor([[9.0], [5], [1], [8], [4], [0]])
    found = ranks.audio_to_text(text, torch.tensor([[1.0], [1]]), np.array([0, 0, 0, 1, 1, 1]))
    assert found.first.tolist() == [1, 2]
    assert found.precision[0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert found.precision[1] == pytest.approx((1 / 2 + 2 / 4 + 3 / 6) / 3)


def test_median_and_recall_by_hand():
    found = ranks.Ranks(np.array([1, 2, 5, 11]), np.zeros(4))
    assert (found.recall_at(1), found.recall_at(5), found.recall_at(10)) == (25.0, 75.0, 75.0)
    assert found.median() == 3.5


@pytest.mark.parametrize("clip", [np.arange(20), FIVE])
def test_a_perfect_model_scores_100_and_a_constant_one_nothing(clip):
    audio = torch.eye(20)
    for direction in (ranks.text_to_audio, ranks.audio_to_text):
        perfect = direction(audio[clip], audio, clip)
        assert (perfect.recall_at(1), perfect.median(), perfect.mean_average_precision()) == (100.0, 1.0, 1.0)
        constant = direction(torch.ones(len(clip), 4), torch.ones(20, 4), clip)
        # all is equal, and every tie counts against us: a right answer comes after all the wrong ones
        wrong = 19 if direction is ranks.text_to_audio else len(clip) - np.bincount(clip)[0]
        assert set(constant.first) == {wrong + 1}
        assert constant.recall_at(10) == constant.mean_average_precision() == 0.0


def test_equal_rows_tie_whatever_the_rounding():
    rng = np.random.default_rng(0)
    audio = torch.from_numpy(rng.normal(size=(301, 64))).float()
    audio = torch.nn.functional.normalize(audio, dim=1)
    audio[150] = audio[300] = audio[7]
    found = ranks.text_to_audio(audio[[7, 150, 300]], audio, np.array([7, 150, 300]))
    assert found.first.tolist() == [3, 3, 3]


@pytest.mark.parametrize("num_right", [(1, 1, 1), (2, 3, 5)])
def test_chance_is_what_random_orders_score(num_right):
    rng, chance = np.random.default_rng(0), ranks.Chance(num_right, 30)
    first, precision = [], []
    for _ in range(8000):
        for count in num_right:
            places = np.sort(rng.permutation(30)[:count]) + 1
            first.append(places[0])
            precision.append((np.arange(1, count + 1) / places)[places <= 10].sum() / count)
    simulated = ranks.Ranks(np.array(first), np.array(precision))
    for k in (1, 5, 10):
        assert chance.recall_at(k) == pytest.approx(simulated.recall_at(k), abs=1.0)
    assert chance.median() == pytest.approx(simulated.median(), abs=1.0)
    assert chance.mean_average_precision() == pytest.approx(simulated.mean_average_precision(), abs=0.004)


def test_an_embedding_that_is_not_finite_is_refused():
    text, audio = embeddings()
    audio[3, 1] = torch.nan
    with pytest.raises(UserError, match="an item embedding is not finite"):
        ranks.text_to_audio(text, audio, FIVE)


def test_a_clip_without_captions_is_refused_where_captions_are_searched():
    vectors = torch.eye(3)
    with pytest.raises(UserError, match="clip 1 has no caption"):
        ranks.audio_to_text(vectors[:2], vectors, np.array([0, 2]))
    assert ranks.text_to_audio(vectors[:2], vectors, np.array([0, 2])).recall_at(1) == 50.0
