# SPDX-License-Identifier: Apache-2.0
"""PSDS, the polyphonic sound detection score, over all thresholds (Bilen et al. 2020; Ebbers et al. 2022).

At a threshold, the frames of a clip whose score of a class reaches it form runs. A run is right where at least
`DETECTION_SHARE` of it lies inside events of the class, and a false positive otherwise; an event is found where right
runs cover at least `EVENT_SHARE` of it. Lowering the threshold over all scores gives each class its curve, the share of
events found by the false positives per hour. The score is the area, up to `MAX_RATE`, under the classes' mean less
`alpha_st` times their deviation. Cross-triggers cost nothing (alpha_ct 0): PSDS1 as DCASE's task 4 has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icefall_alp.evaluation.labels import Event
from icefall_alp.utils.errors import UserError

DETECTION_SHARE = EVENT_SHARE = 0.7
MAX_RATE = 100.0  # false positives per hour
_ROUNDING = 1e-9  # a share of exactly 0.7 counts


@dataclass(frozen=True)
class FrameScores:
    """Scores of every frame of some clips.

    Attributes:
        scores: (M, K) the clips' frames one after the other; any monotone score.
        lens: (N,) frames of each clip, at least 1; they divide its duration evenly.
        durations: (N,) seconds.
    """

    scores: np.ndarray
    lens: np.ndarray
    durations: np.ndarray


Changes = tuple[np.ndarray, np.ndarray, np.ndarray]  # at these scores: change of events found, of false positives
Curve = tuple[np.ndarray, np.ndarray]  # false positives per hour, ascending, and the share of events found from there


def class_curves(frames: FrameScores, events: Sequence[Sequence[Event]], classes: Sequence[int]) -> list[Curve]:
    """The curve of each class.

    Args:
        frames: Scores of the clips.
        events: Of each clip; those of one class do not overlap.
        classes: Which of the K to score; each has an event.

    Raises:
        UserError: A score is not finite, or a class has no event.
    """
    if not np.isfinite(frames.scores).all():
        raise UserError("PSDS: scores are not finite; the head diverged: lower learning_rates")
    hours = frames.durations.sum() / 3600.0
    starts = np.concatenate([[0], np.cumsum(frames.lens)])
    curves = []
    for k in classes:
        spans = [[(onset, offset) for onset, offset, other in own if other == k] for own in events]
        count = sum(map(len, spans))
        if count == 0:
            raise UserError(f"PSDS: class {k} has no event among the {len(events)} clips")
        scores = np.asarray(frames.scores[:, k], dtype=np.float64)
        present = [i for i, own in enumerate(spans) if own]
        changes = [_runs_of_silent_clips(scores, starts, np.array([not own for own in spans]))]
        for i in present:
            own = scores[starts[i] : starts[i + 1]]
            changes.append(_changes_of_clip(own, frames.durations[i] / frames.lens[i], spans[i]))
        curves.append(_curve(changes, count, hours))
    return curves


def _runs_of_silent_clips(scores: np.ndarray, starts: np.ndarray, silent: np.ndarray) -> Changes:
    """Where the class does not sound every run is a false positive, and a run begins where scores rise."""
    before = np.concatenate([[-np.inf], scores[:-1]])
    before[starts[:-1]] = -np.inf
    rises = (scores > before) & np.repeat(silent, np.diff(starts))
    begun, joined = scores[rises], before[rises & np.isfinite(before)]
    values = np.concatenate([begun, joined])
    runs = np.concatenate([np.ones(len(begun)), -np.ones(len(joined))])
    return values, np.zeros(len(values)), runs


def _changes_of_clip(scores: np.ndarray, step: float, spans: Sequence[tuple[float, float]]) -> Changes:
    """One clip in which the class sounds: every score is a threshold."""
    values = np.unique(scores)[::-1]
    active = np.pad((scores[None, :] >= values[:, None]).astype(np.int8), ((0, 0), (1, 1)))
    edges = np.diff(active, axis=1)  # (J, T + 1)
    rows, begins = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    times = np.arange(len(scores) + 1) * step
    inside = np.array([np.diff(np.clip(times, onset, offset)) for onset, offset in spans])  # (E, T) seconds
    covered = np.concatenate([[0.0], np.cumsum(inside.sum(axis=0))])
    right = covered[ends] - covered[begins] >= DETECTION_SHARE * (ends - begins) * step - _ROUNDING
    false = np.bincount(rows[~right], minlength=len(values)).astype(np.float64)
    marks = np.zeros(edges.shape)
    marks[rows[right], begins[right]] = 1.0
    marks[rows[right], ends[right]] -= 1.0
    found = np.cumsum(marks, axis=1)[:, :-1] @ inside.T  # (J, E) seconds of each event in right runs
    lengths = np.array([offset - onset for onset, offset in spans])
    hits = (found >= EVENT_SHARE * lengths - _ROUNDING).sum(axis=1).astype(np.float64)
    return values, np.diff(hits, prepend=0.0), np.diff(false, prepend=0.0)


def _curve(changes: Sequence[Changes], num_events: int, hours: float) -> Curve:
    """Sum the clips' changes from the highest threshold down; a lower rate never has more events than a higher."""
    values, hits, false = (np.concatenate(column) for column in zip(*changes, strict=True))
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)  # equal scores share a threshold
    rates = np.cumsum(false[order])[last] / hours
    shares = np.cumsum(hits[order])[last] / num_events
    order = np.lexsort((-shares, rates))
    rates, best = rates[order], np.maximum.accumulate(shares[order])
    better = np.diff(best, prepend=0.0) > 0.0
    return rates[better], best[better]


def psds(curves: Sequence[Curve], alpha_st: float) -> float:
    """Area under the mean of the curves less `alpha_st` times their deviation, 0 to 1."""
    rates = np.concatenate([rates for rates, _ in curves])
    steps = np.concatenate([np.diff(shares, prepend=0.0) for _, shares in curves])
    squares = np.concatenate([np.diff(shares**2, prepend=0.0) for _, shares in curves])
    order = np.argsort(rates, kind="stable")
    inside = rates[order] < MAX_RATE
    mean = np.cumsum(steps[order])[inside] / len(curves)
    deviation = np.sqrt(np.clip(np.cumsum(squares[order])[inside] / len(curves) - mean**2, 0.0, None))
    height = np.clip(mean - alpha_st * deviation, 0.0, None)
    widths = np.diff(rates[order][inside], append=MAX_RATE)
    return float(height @ widths / MAX_RATE)


def chance_scores(lens: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """(M, K) scores that know nothing: of every clip and class one random number for all frames."""
    drawn = np.random.default_rng(seed).random((len(lens), num_classes))
    return np.repeat(drawn, lens, axis=0)
