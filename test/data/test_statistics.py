# SPDX-License-Identifier: Apache-2.0
"""Counts by hand, and Distinct-n against sets of tuples."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data import statistics
from icefall_alp.data.statistics import CaptionStatistics, words_of


def lexicon(captions):
    collected = CaptionStatistics()
    for caption in captions:
        collected.add("all", caption)
    return collected.lexicon()


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


def distinct_by_sets(captions):
    shares = []
    for order in range(1, 5):
        grams = [tuple(words[i : i + order]) for words in captions for i in range(len(words) - order + 1)]
        shares.append(len(set(grams)) / len(grams) if grams else 0.0)
    return tuple(shares)


CAPTIONS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9), max_size=9)


@settings(deadline=None)
@given(sources=st.dictionaries(st.sampled_from(["one", "two", "three"]), CAPTIONS), block=st.integers(1, 20))
def test_distinct_equals_sets_of_tuples_for_each_source_and_for_all(sources, block):
    collected = CaptionStatistics()
    for source, captions in sources.items():
        for words in captions:
            collected.add(source, " ".join(words))
    with pytest.MonkeyPatch.context() as patch:  # many blocks and passes, as a large corpus has
        patch.setattr(statistics, "BLOCK", block)
        patch.setattr(statistics, "PASS", block)
        for source, captions in sources.items():
            result = collected.lexicon(source)
            assert result.distinct == distinct_by_sets(captions)
            assert result.vocabulary == len({word for words in captions for word in words})
        together = [words for captions in sources.values() for words in captions]
        result = collected.lexicon()
        assert result.distinct == distinct_by_sets(together)
        assert (result.num_captions, result.num_words) == (len(together), sum(map(len, together)))


def test_a_sample_has_the_wanted_size_and_is_seeded():
    collected = CaptionStatistics()
    for number in range(300):
        collected.add("long", f"caption {number} has six words here")
        collected.add("short", f"{number % 7}")
    drawn = collected.sample("long", 90, seed=1)
    assert (drawn.num_captions, drawn.num_words) == (15, 90)
    assert drawn.vocabulary == 5 + 15 and drawn.distinct[0] == pytest.approx(20 / 90)
    assert collected.sample("long", 90, seed=1) == drawn
    assert collected.sample("short", 10**6, seed=1) == collected.lexicon("short")
