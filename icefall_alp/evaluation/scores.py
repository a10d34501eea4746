# SPDX-License-Identifier: Apache-2.0
"""Scores of classification and what chance would score: pure functions.

mAP is between 0 and 1, accuracy a percentage, as in the paper. Shapes: N clips, K classes.
"""

from __future__ import annotations

import numpy as np

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
