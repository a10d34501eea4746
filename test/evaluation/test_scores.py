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


def test_retrieval_one_caption_by_hand():
    similarity = np.array([[3.0, 1, 2], [5, 4, 1], [0, 9, 1]])  # caption by clip
    clip = np.arange(3)
    assert scores.text_to_audio_ranks(similarity, clip).tolist() == [1, 2, 2]
    assert scores.audio_to_text_ranks(similarity, clip).tolist() == [2, 2, 3]  # clip 2: one above, one equal
    assert scores.recall_at_k(np.array([1, 2, 2]), 1) == pytest.approx(100 / 3)


def test_retrieval_ties_count_against_us():
    clip = np.arange(4)
    assert scores.text_to_audio_ranks(np.zeros((4, 4)), clip).tolist() == [4] * 4
    assert scores.audio_to_text_ranks(np.zeros((4, 4)), clip).tolist() == [4] * 4


def test_retrieval_five_captions():
    clip = np.repeat(np.arange(2), 5)
    similarity = np.zeros((10, 2))
    similarity[0, 0] = 1.0  # one of clip 0's five captions is right, its other four tie
    similarity[5:, 1] = 1.0
    ranks = scores.text_to_audio_ranks(similarity, clip)
    assert scores.recall_at_k(ranks, 1) == pytest.approx(60.0)  # 6 hits of 5N = 10 queries
    assert scores.audio_to_text_ranks(similarity, clip).tolist() == [1, 1]  # best of the five, own ties do not matter


def test_retrieval_perfect_and_inverted():
    clip = np.repeat(np.arange(20), 5)
    similarity = np.eye(20)[clip]
    assert scores.recall_at_k(scores.text_to_audio_ranks(similarity, clip), 1) == 100.0
    assert scores.recall_at_k(scores.audio_to_text_ranks(similarity, clip), 1) == 100.0
    assert scores.recall_at_k(scores.text_to_audio_ranks(-similarity, clip), 10) == 0.0
    assert scores.recall_at_k(scores.audio_to_text_ranks(-similarity, clip), 10) == 0.0


def test_retrieval_chance_equals_random_scores():
    rng = np.random.default_rng(2)
    counts = [1, 5, 5, 3, 5, 5, 2, 5]
    clip = np.repeat(np.arange(len(counts)), counts)
    trials = [rng.random((len(clip), len(counts))) for _ in range(3000)]
    for k in (1, 5):
        text_to_audio = np.mean([scores.recall_at_k(scores.text_to_audio_ranks(s, clip), k) for s in trials])
        audio_to_text = np.mean([scores.recall_at_k(scores.audio_to_text_ranks(s, clip), k) for s in trials])
        assert text_to_audio == pytest.approx(scores.chance_text_to_audio(len(counts), k), abs=1.0)
        assert audio_to_text == pytest.approx(scores.chance_audio_to_text(counts, k), abs=1.5)
    assert scores.chance_audio_to_text([5, 5], 10) == 100.0
    assert scores.chance_audio_to_text([1] * 50, 1) == pytest.approx(2.0)


def test_rouge_l_by_hand():
    references = [["a dog barks", "rain falls on a roof"], ["a car passes"]]
    assert scores.rouge_l(["rain falls on a roof", "a car passes"], references) == pytest.approx(100.0)
    assert scores.rouge_l(["x y z", "x y z"], references) == 0.0
    # longest common subsequence "a barks": precision 2/2, recall 2/3, F1 0.8; the second clip shares nothing
    assert scores.rouge_l(["a barks", ""], references) == pytest.approx(40.0)
    assert scores.rouge_l(["A DOG barks.", "a car passes"], references) == pytest.approx(100.0)


def test_rouge_l_chance_never_uses_the_clips_own_caption():
    references = [[f"word{i}"] for i in range(7)]
    assert scores.chance_rouge_l(references, seed=0) == 0.0
    assert scores.chance_rouge_l([["same"]] * 7, seed=0) == pytest.approx(100.0)
    varied = [[" ".join(f"w{(i * j) % 5}" for j in range(4))] for i in range(9)]
    assert scores.chance_rouge_l(varied, seed=1) == scores.chance_rouge_l(varied, seed=1)
