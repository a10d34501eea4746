# SPDX-License-Identifier: Apache-2.0
"""PSDS against hand-computed cases, sed_scores_eval (kept numbers, and itself where installed) and a loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from icefall_alp.evaluation.psds import FrameScores, chance_scores, class_curves, psds
from icefall_alp.utils.errors import UserError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "psds.json").read_text())["psds"]


def random_clips(seed, noise, num_clips=60, num_classes=4):
    """Scores (T, K) of each clip with many ties, seconds, and events; drawn so that it never changes."""
    rng = np.random.default_rng(seed)
    scores, durations, events = [], [], []
    for _ in range(num_clips):
        duration, length = round(float(rng.uniform(30, 100)), 2), int(rng.integers(20, 50))
        own = []
        for k in range(num_classes):
            times = np.sort(np.round(rng.uniform(0, duration, 4), 2)).tolist()
            if rng.random() < 0.35:
                own += [(times[0], times[1], k), (times[2], times[3], k)][: 1 + (rng.random() < 0.4)]
        middles = (np.arange(length) + 0.5) * duration / length
        clip = np.zeros((length, num_classes))
        for onset, offset, k in own:
            clip[(middles >= onset) & (middles < offset), k] = 1.0
        clip = np.round(clip + noise * rng.normal(size=clip.shape).cumsum(axis=0), 2)
        scores.append(clip), durations.append(duration), events.append(own)
    return scores, durations, events


CASES = ((0, 0.0), (1, 0.05), (2, 0.2), (3, 1.0))


@pytest.fixture(params=CASES, ids=lambda case: f"noise {case[1]}")
def clips(request):
    return (str(request.param[0]), *random_clips(*request.param))


def frames(scores, durations):
    return FrameScores(np.concatenate(scores), np.array([len(s) for s in scores]), np.array(durations))


def test_equals_kept_numbers_of_sed_scores_eval(clips):
    seed, scores, durations, events = clips
    curves = class_curves(frames(scores, durations), events, range(4))
    assert [psds(curves, alpha_st) for alpha_st in (1.0, 0.0)] == pytest.approx(GOLDEN[seed], abs=1e-12)


def test_equals_sed_scores_eval_where_installed(clips):
    reference = pytest.importorskip("sed_scores_eval")
    scores_module = pytest.importorskip("sed_scores_eval.base_modules.scores")
    _, scores, durations, events = clips
    names = [f"c{k}" for k in range(4)]
    tables = {
        str(i): scores_module.create_score_dataframe(own, np.linspace(0, durations[i], len(own) + 1), names)
        for i, own in enumerate(scores)
    }
    truth = {str(i): [(onset, offset, f"c{k}") for onset, offset, k in own] for i, own in enumerate(events)}
    seconds = {str(i): duration for i, duration in enumerate(durations)}
    curves = class_curves(frames(scores, durations), events, range(4))
    for alpha_st in (1.0, 0.0):
        theirs = reference.intersection_based.psds(
            tables, truth, seconds, dtc_threshold=0.7, gtc_threshold=0.7, alpha_st=alpha_st, max_efpr=100.0
        )[0]
        assert psds(curves, alpha_st) == pytest.approx(theirs, abs=1e-12)


def test_curves_equal_a_loop_over_thresholds(clips):
    """Detections written out as intervals, threshold by threshold."""
    _, scores, durations, events = clips
    curves = class_curves(frames(scores, durations), events, range(4))
    k, hours = 1, sum(durations) / 3600
    for threshold in np.unique(np.concatenate(scores)[:, k])[::25]:
        found = false = 0
        for own, duration, truth in zip(scores, durations, events, strict=True):
            spans = [(a, b) for a, b, other in truth if other == k]
            right = []
            for onset, offset in runs(own[:, k] >= threshold, duration / len(own)):
                overlap = sum(max(0.0, min(offset, b) - max(onset, a)) for a, b in spans)
                if overlap >= 0.7 * (offset - onset) - 1e-9:
                    right.append((onset, offset))
                else:
                    false += 1
            for a, b in spans:
                covered = sum(max(0.0, min(offset, b) - max(onset, a)) for onset, offset in right)
                found += covered >= 0.7 * (b - a) - 1e-9
        rates, shares = curves[k]
        reached = shares[rates <= false / hours + 1e-9]
        total = sum(other == k for own in events for _, _, other in own)
        assert (reached[-1] if len(reached) else 0.0) >= found / total - 1e-12


def runs(active, step):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    return [(begin * step, end * step) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


HOUR = [(0.0, 1800.0, 0)]  # one event in the first half of a clip of an hour
HALF = np.array([[1.0], [1.0], [0.0], [0.0]])


def score(clip_scores, alpha_st=0.0, events=HOUR):
    clip_scores = np.asarray(clip_scores, dtype=float)
    data = FrameScores(clip_scores, np.array([len(clip_scores)]), np.array([3600.0]))
    return psds(class_curves(data, [events], range(clip_scores.shape[1])), alpha_st)


def test_perfect_inverted_and_constant_by_hand():
    assert score(HALF) == 1.0
    # inverted: first the silent half, a false positive, then one run over all, wrong since only half of it is right
    assert score(1.0 - HALF) == 0.0
    assert score(np.zeros((4, 1))) == 0.0


def test_false_positives_and_classes_by_hand():
    # at threshold 2 a false run of the last quarter, at threshold 1 the event too: found from 1 per hour on
    late = np.array([[1.0], [1.0], [0.0], [2.0]])
    assert score(late) == pytest.approx(0.99)
    both = np.concatenate([HALF, late], axis=1)
    events = [*HOUR, (0.0, 1800.0, 1)]
    assert score(both, 0.0, events) == pytest.approx(0.01 * 0.5 + 0.99)
    # below 1 per hour the classes score 1 and 0: mean 0.5 less deviation 0.5
    assert score(both, 1.0, events) == pytest.approx(0.99)


def test_shares_of_exactly_seven_tenths_count():
    ten = np.arange(10)[:, None]
    event = [(0.0, 360.0 * 7, 0)]
    assert score((ten < 10).astype(float), events=event) == 1.0  # the run is right with 0.7 inside the event
    assert score((ten < 7).astype(float), events=[(0.0, 3600.0, 0)]) == 1.0  # 0.7 of the event is covered
    assert score((ten < 6).astype(float), events=[(0.0, 3600.0, 0)]) == 1.0  # the lowest threshold takes every frame


def test_random_scores_are_near_nothing():
    _, durations, events = random_clips(5, 0.0)
    lens = np.full(60, 25)
    scores = chance_scores(lens, 4, seed=1)
    assert scores.shape == (60 * 25, 4) and (scores[:25] == scores[0]).all()
    assert (chance_scores(lens, 4, 1) == scores).all()
    value = psds(class_curves(FrameScores(scores, lens, np.array(durations)), events, range(4)), 0.0)
    assert 0.0 <= value < 0.1


def test_bad_input_is_named():
    with pytest.raises(UserError, match="class 0 has no event"):
        score(HALF, events=[])
    with pytest.raises(UserError, match="not finite"):
        score(HALF * np.nan)
