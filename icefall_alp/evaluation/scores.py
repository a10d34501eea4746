# SPDX-License-Identifier: Apache-2.0
"""Scores of the paper's tables and what chance would score: pure functions.

mAP is between 0 and 1; accuracy, R@k and ROUGE-L are percentages, as in the paper. Shapes: N clips, K classes,
Q captions (several captions may belong to one clip).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from icefall_alp.utils.errors import UserError


def _finite(scores: np.ndarray, what: str) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise UserError(f"{what}: {bad} of {scores.size} scores are not finite; the head diverged: lower base_lr")
    return scores


def average_precision(scores: np.ndarray, positives: np.ndarray) -> float:
    """Area under the precision-recall steps of one class, equal scores sharing one threshold.

    Args:
        scores: (N,) any monotone score.
        positives: (N,) true where the clip has the class; at least one is.

    Returns:
        Average precision, 0 to 1.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positives[order])
    threshold_ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    precision = hits[threshold_ends] / (threshold_ends + 1)
    new_recall = np.diff(hits[threshold_ends], prepend=0) / hits[-1]
    return float(precision @ new_recall)


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the average precisions of the classes that have a positive clip.

    Args:
        scores: (N, K).
        targets: (N, K) multi-hot.

    Returns:
        mAP, 0 to 1.

    Raises:
        UserError: No class has a positive clip, or a score is not finite.
    """
    scores, targets = _finite(scores, "mAP"), np.asarray(targets) > 0.5
    classes = _scored_classes(targets)
    return float(np.mean([average_precision(scores[:, k], targets[:, k]) for k in classes]))


def chance_average_precision(targets: np.ndarray) -> float:
    """The expected mAP of random scores: the mean share of positives over the scored classes."""
    targets = np.asarray(targets) > 0.5
    return float(targets[:, _scored_classes(targets)].mean())


def _scored_classes(targets: np.ndarray) -> np.ndarray:
    classes = np.flatnonzero(targets.any(axis=0))
    if not len(classes):
        raise UserError("mAP: no test clip has a label of the class list; check class_list against the test cuts")
    return classes


def accuracy(answers: np.ndarray, targets: np.ndarray) -> float:
    """Percentage of clips that were given their one class.

    Args:
        answers: (N,) class of the highest score.
        targets: (N,) class of the clip.
    """
    return 100.0 * float((np.asarray(answers) == np.asarray(targets)).mean())


def chance_accuracy(targets: np.ndarray) -> float:
    """Percentage that always answering the most frequent class would score."""
    return 100.0 * float(np.bincount(targets).max() / len(targets))


def text_to_audio_ranks(similarity: np.ndarray, clip_of_caption: np.ndarray) -> np.ndarray:
    """Rank of each caption's clip among all clips; every caption is one query.

    Args:
        similarity: (Q, N), caption by clip.
        clip_of_caption: (Q,) index of the clip a caption belongs to.

    Returns:
        (Q,) ranks from 1; clips of equal similarity count as ranked before the right one.
    """
    similarity = _finite(similarity, "retrieval")
    own = similarity[np.arange(len(similarity)), clip_of_caption]
    return (similarity >= own[:, None]).sum(axis=1)


def audio_to_text_ranks(similarity: np.ndarray, clip_of_caption: np.ndarray) -> np.ndarray:
    """Rank of each clip's best caption among all captions.

    Args:
        similarity: (Q, N), caption by clip.
        clip_of_caption: (Q,) index of the clip a caption belongs to.

    Returns:
        (N,) ranks from 1; other clips' captions of equal similarity count as ranked before.
    """
    similarity = _finite(similarity, "retrieval")
    is_own = clip_of_caption[:, None] == np.arange(similarity.shape[1])[None, :]
    best_own = np.where(is_own, similarity, -np.inf).max(axis=0)
    return 1 + ((similarity >= best_own[None, :]) & ~is_own).sum(axis=0)


def recall_at_k(ranks: np.ndarray, k: int) -> float:
    """Percentage of queries whose rank is at most k."""
    return 100.0 * float((np.asarray(ranks) <= k).mean())


def chance_text_to_audio(num_clips: int, k: int) -> float:
    """Percentage of captions that a random order of the clips answers within k."""
    return 100.0 * min(k, num_clips) / num_clips


def chance_audio_to_text(captions_per_clip: Sequence[int], k: int) -> float:
    """Percentage of clips with one of their own captions among the first k of a random order of all captions.

    Args:
        captions_per_clip: Number of captions of each clip.
        k: Cut-off.
    """
    own = np.asarray(captions_per_clip, dtype=np.float64)
    total = own.sum()
    drawn = np.arange(min(k, int(total)))
    all_foreign = np.prod(np.clip((total - own[:, None] - drawn) / (total - drawn), 0.0, None), axis=1)
    return 100.0 * float((1.0 - all_foreign).mean())


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean over clips of the ROUGE-L F1 against the clip's best-matching reference, in percent.

    Words are lower-cased and not stemmed (`rouge-score`'s default tokenizer). The paper does not say how several
    references are combined; the best one is what `rouge-score`'s `score_multi` and most toolkits take.

    Args:
        hypotheses: One caption per clip.
        references: The captions of each clip.
    """
    # named, because the scorer would log that it takes it, and with that give every later message a second handler
    scorer = RougeScorer(["rougeL"], tokenizer=DefaultTokenizer(use_stemmer=False))
    best = [
        scorer.score_multi(list(own), text)["rougeL"].fmeasure for text, own in zip(hypotheses, references, strict=True)
    ]
    return 100.0 * float(np.mean(best))


def chance_rouge_l(references: Sequence[Sequence[str]], seed: int) -> float:
    """ROUGE-L of answering each clip with the first reference of another clip, in percent.

    Args:
        references: The captions of each clip.
        seed: Of the order; the clips form one random cycle, so none is answered with its own caption.
    """
    order = np.random.default_rng(seed).permutation(len(references))
    shuffled = {int(clip): references[int(donor)][0] for clip, donor in zip(order, np.roll(order, 1), strict=True)}
    return rouge_l([shuffled[i] for i in range(len(references))], references)
