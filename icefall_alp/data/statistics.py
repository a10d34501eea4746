# SPDX-License-Identifier: Apache-2.0
"""Lexical statistics of captions: vocabulary, words per caption, Distinct-1 to 4 (paper, Tables 1 and 4).

Distinct-n is the number of different n-grams over the number of n-grams, within captions and over all of them. It
falls with the size of a corpus, so corpora are also compared at the same number of words. The paper does not state its
words; here they are lower-cased runs of letters and digits, with apostrophes and hyphens inside (`dog's`,
`high-pitched`). N-grams are told apart by 64-bit hashes, which confuse two of a hundred million in one run of four
thousand.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
MAX_ORDER = 4
BLOCK = 1 << 22  # words looked at together
PASS = 1 << 25  # n-grams sorted together


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
    """Collects the captions of several sources at four bytes a word, 1.4 GB for the paper's corpus."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: dict[str, array[int]] = {}
        self._lengths: dict[str, array[int]] = {}

    @property
    def sources(self) -> list[str]:
        """Whose captions there are, in the order in which they came."""
        return list(self._words)

    def add(self, source: str, caption: str) -> None:
        """Take one caption."""
        ids, words = self._ids, words_of(caption)
        self._words.setdefault(source, array("i")).extend([ids.setdefault(word, len(ids)) for word in words])
        self._lengths.setdefault(source, array("i")).append(len(words))

    def lexicon(self, *sources: str) -> Lexicon:
        """The statistics of the captions of some sources together; of all of them when none is named."""
        return self._count([self._part(source) for source in sources or self.sources])

    def sample(self, source: str, num_words: int, seed: int) -> Lexicon:
        """The statistics of as many captions, drawn in random order, as make up about `num_words` words."""
        words, lengths = self._part(source)
        order = np.random.default_rng(seed).permutation(len(lengths))
        order = order[: int(np.searchsorted(np.cumsum(lengths[order]), num_words)) + 1]
        begins = np.cumsum(lengths) - lengths
        drawn = [words[begins[i] : begins[i] + lengths[i]] for i in order]
        return self._count([(np.concatenate([np.zeros(0, np.int32), *drawn]), lengths[order])])

    def _part(self, source: str) -> tuple[np.ndarray, np.ndarray]:
        """Word numbers and caption lengths of one source."""
        if source not in self._words:
            return np.zeros(0, np.int32), np.zeros(0, np.int64)
        lengths = np.frombuffer(self._lengths[source], dtype=np.int32).astype(np.int64)
        words = self._words[source]
        return (np.frombuffer(words, dtype=np.int32) if words else np.zeros(0, np.int32)), lengths

    def _count(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> Lexicon:
        used = np.zeros(len(self._ids), dtype=bool)
        for words, _ in parts:
            used[words] = True
        num_captions = sum(len(lengths) for _, lengths in parts)
        num_words = sum(len(words) for words, _ in parts)
        mean = num_words / num_captions if num_captions else 0.0
        distinct = tuple(_distinct(parts, order) for order in range(1, MAX_ORDER + 1))
        return Lexicon(num_captions, num_words, int(used.sum()), mean, distinct)


def _distinct(parts: list[tuple[np.ndarray, np.ndarray]], order: int) -> float:
    """Different n-grams over all n-grams; each pass counts those whose hash has one of so many remainders."""
    total = sum(int(np.maximum(lengths - order + 1, 0).sum()) for _, lengths in parts)
    num_passes = -(-total // PASS)
    different = 0
    for remainder in range(num_passes):
        found = [
            grams[grams % np.uint64(num_passes) == remainder]
            for words, lengths in parts
            for grams in _grams(words, lengths, order)
        ]
        different += len(np.unique(np.concatenate(found)))
    return different / total if total else 0.0


def _grams(words: np.ndarray, lengths: np.ndarray, order: int) -> Iterator[np.ndarray]:
    """Hashes of all n-grams, a block of captions at a time."""
    ends = np.cumsum(lengths)
    first, begin = 0, 0
    while first < len(lengths):
        last = max(first + 1, int(np.searchsorted(ends, begin + BLOCK, side="right")))
        end = int(ends[last - 1])
        # words from each position to the end of its caption, itself included
        left = np.repeat(ends[first:last], lengths[first:last]) - np.arange(begin, end)
        starts = np.flatnonzero(left >= order)
        block = words[begin:end].astype(np.uint64)
        grams = np.zeros(len(starts), dtype=np.uint64)
        for k in range(order):
            grams = _mix(grams ^ block[starts + k])
        yield grams
        first, begin = last, end


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread 64-bit numbers evenly, one to one (the finaliser of splitmix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
