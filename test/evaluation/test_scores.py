# SPDX-License-Identifier: Apache-2.0
"""Scores against hand-computed cases, scikit-learn and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score

from icefall_alp.evaluation import scores
from icefall_alp.utils.errors import UserError


def test_average_precision_by_hand():
    # order of scores: hit, miss, hit -> (1/1 + 2/3) / 2
    assert scores.average_precision(np.array([0.9, 0.5, 0.1]), np.array([1, 0, 1])) == pytest.approx((1 + 2 / 3) / 2)


def test_map_perfect_inverted_constant():
    targets = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    assert scores.mean_average_precision(targets.astype(float), targets) == 1.0
    # inverted with ties: every positive shares the last threshold, where precision is 2/4
    assert scores.mean_average_precision(-targets.astype(float), targets) == pytest.approx(0.5)
    # strictly inverted: ranks 3 and 4 are the hits -> (1/3 + 2/4) / 2
    strict = np.array([[4.0, 1], [3, 2], [2, 3], [1, 4]])
    assert scores.mean_average_precision(-strict, targets) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert scores.mean_average_precision(np.zeros((4, 2)), targets) == scores.chance_average_precision(targets) == 0.5


def test_map_equals_sklearn_with_ties_and_empty_classes():
    rng = np.random.default_rng(0)
    targets = rng.random((200, 12)) < 0.1
    targets[:, 3] = False
    values = np.round(rng.normal(size=(200, 12)), 1)  # one decimal: many ties
    kept = [k for k in range(12) if k != 3]
    expected = np.mean([average_precision_score(targets[:, k], values[:, k]) for k in kept])
    assert scores.mean_average_precision(values, targets) == pytest.approx(expected, abs=1e-12)
    assert scores.chance_average_precision(targets) == pytest.approx(targets[:, kept].mean())


def test_map_of_random_scores_is_near_chance():
    rng = np.random.default_rng(1)
    targets = rng.random((4000, 5)) < 0.2
    value = scores.mean_average_precision(rng.random((4000, 5)), targets)
    assert value == pytest.approx(scores.chance_average_precision(targets), abs=0.02)


def test_map_refuses_no_positive_and_nan():
    with pytest.raises(UserError, match="class_list"):
        scores.mean_average_precision(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(UserError, match="not finite"):
        scores.mean_average_precision(np.full((2, 2), np.nan), np.eye(2))


def test_accuracy_and_its_chance():
    targets = np.array([0, 0, 0, 1, 2])
    assert scores.accuracy(targets, targets) == 100.0 * accuracy_score(targets, targets) == 100.0
    assert scores.accuracy((targets + 1) % 3, targets) == 0.0  # never right
    assert scores.accuracy(np.zeros(5, int), targets) == pytest.approx(
        100.0 * accuracy_score(targets, np.zeros(5, int))
    )
    assert scores.accuracy(np.zeros(5, int), targets) == pytest.approx(60.0)
    answers, truth = np.random.default_rng(0).integers(0, 4, (2, 8000))
    assert scores.accuracy(answers, truth) == pytest.approx(scores.chance_accuracy(truth), abs=2.0)
    assert scores.chance_accuracy(targets) == pytest.approx(60.0)
