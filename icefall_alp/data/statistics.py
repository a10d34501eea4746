# SPDX-License-Identifier: Apache-2.0
"""Lexical statistics of captions: vocabulary, words per caption, Distinct-1 to 4 (paper, Tables 1 and 4).

Distinct-n is the number of different n-grams over the number of n-grams, within captions and over all of them. It
falls with the size of a corpus. The paper does not state its words; here they are lower-cased runs of letters and
digits, with apostrophes and hyphens inside (`dog's`, `high-pitched`).
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
MAX_ORDER = 4


@dataclass(frozen=True)
class Lexicon:
    """Statistics of a set of captions.

    Attributes:
        num_captions: how many there are.
        num_words: running words.
        vocabulary: different words.
        words_per_caption: mean; 0 without captions.
        distinct: Distinct-1 to Distinct-4; 0 where no caption is that long.
    """

    num_captions: int
    num_words: int
    vocabulary: int
    words_per_caption: float
    distinct: tuple[float, ...]


def words_of(caption: str) -> list[str]:
    """The words of a caption, in lower case."""
    return _WORD.findall(caption.lower())


class CaptionStatistics:
    """Collects captions at four bytes a word and counts exactly at the end."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words = array("i")
        self._lengths = array("i")

    def add(self, caption: str) -> None:
        """Take one caption."""
        words = words_of(caption)
        self._words.extend([self._ids.setdefault(word, len(self._ids)) for word in words])
        self._lengths.append(len(words))

    def lexicon(self) -> Lexicon:
        """The statistics of what was added so far."""
        num_captions, num_words = len(self._lengths), len(self._words)
        return Lexicon(
            num_captions=num_captions,
            num_words=num_words,
            vocabulary=len(self._ids),
            words_per_caption=num_words / num_captions if num_captions else 0.0,
            distinct=self._distinct(),
        )

    def _distinct(self) -> tuple[float, ...]:
        """Number the different n-grams from those of n - 1: no tuple is ever built, and nothing is hashed."""
        words = np.asarray(self._words, dtype=np.int64)
        lengths = np.asarray(self._lengths, dtype=np.int64)
        # words from each position to the end of its caption, itself included
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
        grams = words.copy()
        shares = []
        for order in range(1, MAX_ORDER + 1):
            starts = np.flatnonzero(left >= order)
            if order > 1:
                grams[starts] = grams[starts] * len(self._ids) + words[starts + order - 1]
            different, numbers = np.unique(grams[starts], return_inverse=True)
            grams[starts] = numbers
            shares.append(len(different) / len(starts) if len(starts) else 0.0)
        return tuple(shares)
