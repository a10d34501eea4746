# SPDX-License-Identifier: Apache-2.0
"""Counts by hand, and Distinct-n against sets of tuples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icefall_alp.data.statistics import CaptionStatistics, words_of


def lexicon(captions):
    statistics = CaptionStatistics()
    for caption in captions:
        statistics.add(caption)
    return statistics.lexicon()


def test_counts_by_hand():
    # words: a dog barks a dog | a dog runs; bigrams: a-dog x3, dog-barks, barks-a, dog-runs; trigrams: 4 different;
    # four-grams: a-dog-barks-a, dog-barks-a-dog
    result = lexicon(["A dog barks; a DOG.", "a dog runs"])
    assert (result.num_captions, result.num_words, result.vocabulary, result.words_per_caption) == (2, 8, 4, 4.0)
    assert result.distinct == pytest.approx((4 / 8, 4 / 6, 4 / 4, 2 / 2))


def test_words_keep_apostrophes_and_hyphens_inside():
    assert words_of("The dog's high-pitched 'yip' -- at 3 o’clock_sharp!") == [
        "the", "dog's", "high-pitched", "yip", "at", "3", "o’clock", "sharp",
    ]  # fmt: skip


def test_nothing_and_short_captions():
    assert lexicon([]).distinct == (0.0,) * 4
    assert lexicon([]).words_per_caption == 0.0
    assert lexicon(["rain", "!?"]).distinct == (1.0, 0.0, 0.0, 0.0)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=9), max_size=9))
def test_distinct_equals_sets_of_tuples(captions):
    result = lexicon([" ".join(words) for words in captions])
    for order in range(1, 5):
        grams = [tuple(words[i : i + order]) for words in captions for i in range(len(words) - order + 1)]
        assert result.distinct[order - 1] == (len(set(grams)) / len(grams) if grams else 0.0)
