# SPDX-License-Identifier: Apache-2.0
"""Caption scores against hand-computed cases and, where it is installed, pycocoevalcap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from icefall_alp.evaluation import caption_scores as scores

METRICS = {"ROUGE-L": (scores.rouge_l, 100.0), "BLEU-4": (scores.bleu, 100.0), "CIDEr-D": (scores.cider_d, 10.0)}
SOUNDS, PLACES = ("dog barking", "bell ringing", "door closing", "horn blowing"), ("a hall", "the rain", "a street")


def made_up(count=40, num_references=1):
    """Captions that share words as real ones do; a clip's references are wordings of one scene."""
    rng = np.random.default_rng(0)
    wordings = ("the sound of a {0} {2} times in {1}", "in {1} a {0} can be heard {2} times", "a {0} {2} times in {1}")
    scenes = [(rng.choice(SOUNDS), rng.choice(PLACES), i) for i in range(count)]
    return [[wordings[(i + k) % 3].format(*scene) for k in range(num_references)] for i, scene in enumerate(scenes)]


@pytest.mark.parametrize("metric", METRICS)
def test_a_perfect_model_scores_full_marks_and_a_wrong_one_none(metric):
    score, best = METRICS[metric]
    references = made_up()
    assert score([own[0] for own in references], references) == pytest.approx(best)
    assert score(["xyzzy"] * 40, references) == score([""] * 40, references) == 0.0


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_model_scores_chance(metric):
    score, best = METRICS[metric]
    references = made_up()
    # the constant caption is right for the one clip it was taken from, which chance never is
    constant = np.mean([(40 * score([own[0]] * 40, references) - best) / 39 for own in references])
    chance = np.mean([score(scores.captions_of_others(references, seed), references) for seed in range(100)])
    assert 0.0 < chance < 0.6 * best
    assert constant == pytest.approx(chance, rel=0.06)


def test_rouge_l_by_hand():
    references = [["a dog barks", "rain falls on a roof"], ["a car passes"]]
    assert scores.rouge_l(["rain falls on a roof", "a car passes"], references) == pytest.approx(100.0)
    # longest common subsequence "a barks": precision 2/2, recall 2/3, F1 0.8; the second clip shares nothing
    assert scores.rouge_l(["a barks", ""], references) == pytest.approx(40.0)
    assert scores.rouge_l(["A DOG barks.", "a car passes"], references) == pytest.approx(100.0)


def test_bleu_by_hand():
    # words: a (2 times, but once in a reference), cat: 2 of 3 matched; pairs: "a cat" 1 of 2
    references = [["a cat sleeps here", "the cat"]]
    expected = 100 * math.exp(0.5 * (math.log(2 / 3) + math.log(1 / 2)))
    # lengths 2 and 4 are equally close to 3; the shorter one counts, so there is no penalty
    assert scores.bleu(["a a cat"], references, order=2) == pytest.approx(expected)
    # 2 words against 4: brevity penalty exp(1 - 4/2)
    assert scores.bleu(["a cat"], [["a cat sleeps here"]], order=2) == pytest.approx(100 * math.exp(-1.0))


def test_bleu_counts_over_the_corpus_and_not_clip_by_clip():
    assert scores.bleu(["a b", "c"], [["a b"], ["d"]], order=1) == pytest.approx(100 * 2 / 3)


def test_cider_d_by_hand():
    references = [["a dog", "a big dog"], ["a bell"]]
    # "a" stands at both clips and weighs nothing; every other n-gram weighs w = log 2.
    # clip 0, reference "a dog" is the hypothesis: cosine 1 for one and two words, none for three and four
    # reference "a big dog": words {big, dog} against {dog}: 1 / sqrt(2); pairs {a big, big dog} against {a dog}: 0
    penalty = math.exp(-1 / (2 * 36))
    first = 10 / (4 * 2) * (2 + penalty / math.sqrt(2))
    assert scores.cider_d(["a dog", "none"], references) == pytest.approx(first / 2)


def test_cider_d_gains_nothing_by_repetition():
    references = [["a dog barks"], ["rain falls softly"]]
    assert scores.cider_d(["dog dog dog", ""], references) < scores.cider_d(["a dog", ""], references)


def test_captions_of_others_never_use_the_clips_own():
    references = [[f"word{i}"] for i in range(7)]
    others = scores.captions_of_others(references, seed=0)
    assert sorted(others) == sorted(own[0] for own in references)
    assert not [i for i in range(7) if others[i] == references[i][0]]
    assert scores.captions_of_others(references, seed=0) == others != scores.captions_of_others(references, seed=1)


def test_scores_are_those_of_pycocoevalcap():
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed").Bleu
    cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider
    references = made_up(num_references=3)
    rng = np.random.default_rng(1)
    hypotheses = [" ".join(w for w in own[0].split() if rng.random() < 0.8) for own in references[1:] + references[:1]]
    truth, written = dict(enumerate(references)), {i: [text] for i, text in enumerate(hypotheses)}
    assert scores.bleu(hypotheses, references) == pytest.approx(
        100 * bleu(4).compute_score(truth, written)[0][3], abs=1e-4
    )
    assert scores.cider_d(hypotheses, references) == pytest.approx(cider().compute_score(truth, written)[0], abs=1e-9)
