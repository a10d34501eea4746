# SPDX-License-Identifier: Apache-2.0
"""Retrieval scores from embeddings: exact ranks, ties counted against us, in bounded memory.

With several captions per clip, text to audio asks for the clip of every caption, and audio to text for the best of a
clip's own captions, as LAION-CLAP and WavCaps count them; with one caption per clip both are N x N.
Shapes: N clips, Q captions, E the embeddings' size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icefall_alp.utils.errors import UserError

BLOCK = 1 << 25  # similarities held at a time: 128 MiB in float32
DEPTH = 10  # of mAP@10


@dataclass(frozen=True)
class Ranks:
    """Where the right answers of every query stand.

    Attributes:
        first: (queries,) rank of the best right answer, from 1.
        precision: (queries,) average precision within the first ten.
    """

    first: np.ndarray
    precision: np.ndarray

    def recall_at(self, k: int) -> float:
        """Percentage of queries with a right answer among the first k."""
        return 100.0 * float((self.first <= k).mean())

    def median(self) -> float:
        """Median rank of the best right answer."""
        return float(np.median(self.first))

    def mean_average_precision(self) -> float:
        """mAP@10, 0 to 1."""
        return float(self.precision.mean())


def text_to_audio(text: Tensor, audio: Tensor, clip_of_caption: np.ndarray) -> Ranks:
    """Every caption is a query among all clips.

    Args:
        text: (Q, E) embeddings of captions.
        audio: (N, E) embeddings of clips.
        clip_of_caption: (Q,) the clip that a caption belongs to.
    """
    return rank(text, audio, np.asarray(clip_of_caption)[:, None])


def audio_to_text(text: Tensor, audio: Tensor, clip_of_caption: np.ndarray) -> Ranks:
    """Every clip is a query among all captions, several of which may be right; arguments as for `text_to_audio`.

    Raises:
        UserError: A clip has no caption, or see `rank`.
    """
    clip_of_caption = np.asarray(clip_of_caption)
    counts = np.bincount(clip_of_caption, minlength=len(audio))
    if counts.min() == 0:
        raise UserError(f"retrieval: clip {counts.argmin()} has no caption to be found; leave such clips out")
    right = np.full((len(audio), counts.max()), -1)
    order = np.argsort(clip_of_caption, kind="stable")
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    right[clip_of_caption[order], place] = order
    return rank(audio, text, right)


@torch.no_grad()
def rank(queries: Tensor, items: Tensor, right: np.ndarray) -> Ranks:
    """Rank items by their inner product with each query.

    Args:
        queries: (Q, E).
        items: (M, E).
        right: (Q, R) the right items of each query, padded with -1; at least one each.

    Returns:
        Ranks; wrong items of equal similarity count as ranked before a right one.

    Raises:
        UserError: An embedding is not finite.
    """
    for what, vectors in (("a query", queries), ("an item", items)):
        if not torch.isfinite(vectors).all():
            raise UserError(f"retrieval: {what} embedding is not finite; the head diverged: lower base_lr")
    first, precision = [], []
    # Equal items share a column: products of equal rows may differ in the last bit, which would break their tie.
    distinct, column_of_item, copies = _distinct_rows(items)
    answers = torch.from_numpy(right).to(items.device)
    step = min(len(queries), max(1, BLOCK // len(distinct)))
    similarity = queries.new_empty(step, len(distinct))
    not_below = torch.empty_like(similarity, dtype=torch.float32)
    for start in range(0, len(queries), step):
        block, answer = queries[start : start + step], answers[start : start + step]
        products = torch.mm(block, distinct.T, out=similarity[: len(block)])
        own = products.gather(1, column_of_item[answer.clamp(min=0)]).masked_fill(answer < 0, -torch.inf)
        ranks = _block_ranks(products, own.sort(dim=1, descending=True).values, copies, not_below[: len(block)])
        first.append(ranks[:, 0].cpu().numpy())
        precision.append(_average_precision(ranks).cpu().numpy())
    return Ranks(np.concatenate(first).astype(np.int64), np.concatenate(precision))


def _block_ranks(similarity: Tensor, own: Tensor, copies: Tensor, not_below: Tensor) -> Tensor:
    """Ranks (q, R) of the right answers, rising; infinite where there are fewer than R.

    Args:
        similarity: (q, columns).
        own: (q, R) similarities of the right answers, falling; -inf where there are fewer than R.
        copies: (columns,) how many items share a column; float32 counts exactly up to 16 million.
        not_below: (q, columns) that is written over.
    """
    all_before = [torch.ge(similarity, column[:, None], out=not_below) @ copies for column in own.T]
    right_before = (own[:, None, :] >= own[:, :, None]).sum(dim=2)
    wrong_before = torch.stack(all_before, dim=1) - right_before
    ranks = wrong_before + torch.arange(1, own.size(1) + 1, device=own.device)
    return ranks.double().masked_fill(own == -torch.inf, torch.inf)


def _average_precision(ranks: Tensor) -> Tensor:
    """(q,) from the rising ranks (q, R) of the right answers."""
    found = torch.arange(1, ranks.size(1) + 1, device=ranks.device) / ranks
    possible = torch.isfinite(ranks).sum(dim=1).clamp(max=DEPTH)
    return found.masked_fill(ranks > DEPTH, 0.0).sum(dim=1) / possible


def _distinct_rows(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct rows (D, E) of (M, E), which of them each row is (M,), and how often each occurs (D,)."""
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in vectors.cpu().numpy())
    which = torch.tensor([seen.setdefault(digest, len(seen)) for digest in digests])
    copies = torch.bincount(which).float()
    first = torch.full((len(seen),), len(vectors)).scatter_reduce(0, which, torch.arange(len(vectors)), reduce="amin")
    device = vectors.device
    return vectors if len(seen) == len(vectors) else vectors[first.to(device)], which.to(device), copies.to(device)


@dataclass(frozen=True)
class Chance:
    """What a random order of all items scores, for queries with `num_right` right answers each among `num_items`."""

    num_right: Sequence[int]
    num_items: int

    def _none_within(self, k: int) -> np.ndarray:
        """Probability, for each number of right answers, that none is among the first k."""
        right = np.asarray(self.num_right, dtype=np.float64)
        drawn = np.arange(min(k, self.num_items))
        wrong = self.num_items - right[:, None]
        return np.prod(np.clip((wrong - drawn) / (self.num_items - drawn), 0.0, None), axis=1)

    def recall_at(self, k: int) -> float:
        """Expected percentage of queries with a right answer among the first k."""
        return 100.0 * float((1.0 - self._none_within(k)).mean())

    def median(self) -> float:
        """The lowest rank within which half of all queries find a right answer."""
        low, high = 1, self.num_items
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.recall_at(middle) >= 50.0 else (middle + 1, high)
        return float(low)

    def mean_average_precision(self) -> float:
        """Expected mAP@10."""
        right = np.asarray(self.num_right, dtype=np.float64)[:, None]
        place = np.arange(1, min(DEPTH, self.num_items) + 1)
        others_before = (place - 1) * (right - 1) / max(1, self.num_items - 1)
        expected = (right / self.num_items * (1 + others_before) / place).sum(axis=1)
        return float((expected / np.minimum(right[:, 0], DEPTH)).mean())
