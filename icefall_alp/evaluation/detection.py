# SPDX-License-Identifier: Apache-2.0
"""Sound event detection by one linear layer on every frame of the frozen encoder, scored by PSDS1 (paper, Table 3a).

Trained and chosen as linear probes are: all learning rates and seeds at once, the rate by its score on validation
clips, the test clips scored once per seed. A median filter smooths each class's scores. Classes are scored that have
events in training and test. With alpha_st 1, as in DCASE, PSDS1 takes the deviation between classes off their mean,
which leaves nothing where few classes are detected well; with alpha_st 0 it does not. The paper does not say which it
reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import median_filter

from icefall_alp.config import DetectionConfig
from icefall_alp.data.datasets import read_class_list
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.head_bank import Batch, HeadBank, train_bank
from icefall_alp.evaluation.head_inputs import Statistics, in_a_row, standardized
from icefall_alp.evaluation.labels import Event, clip_events, frame_targets, without_clips
from icefall_alp.evaluation.parts import Part, open_parts
from icefall_alp.evaluation.psds import FrameScores, chance_scores, class_curves, psds
from icefall_alp.evaluation.selection import account, choose_rate, half_interval
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.transfer import send

ALPHA_ST = {"PSDS1 alpha_st 0": 0.0, "PSDS1 alpha_st 1": 1.0}
SELECTING = "PSDS1 alpha_st 0"  # the less noisy of the two
CHANCE_DRAWS = 5


class Clips(NamedTuple):
    """One part of the task: clips of a set, their events, and the training frames' statistics."""

    part: Part
    events: list[list[Event]]
    statistics: Statistics


def numbers(config: DetectionConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task."""
    return [("", metric) for metric in ALPHA_ST]


def score(encoder: FrozenEncoder, config: DetectionConfig, exp_dir: Path, poolings: Sequence[str]) -> Iterator[Score]:
    """Encode the sets once, train all heads, choose the rate, score the test clips.

    Raises:
        UserError: No class has events in training and test, or none has in validation; see also `open_parts` and
            `clip_events`.
    """
    names = read_class_list(Path(config.class_list))
    parts = open_parts(encoder.for_frames(), config, exp_dir, frames=True)
    events = {name: clip_events(part.cuts, names) for name, part in parts.items()}
    used = {"train": events.get("all training", events["train"]), "test": events["test"]}
    counts = {name: _clip_counts(own, len(names)) for name, own in used.items()}
    missing = without_clips(Path(config.test_cuts).name, names, counts)
    scored = np.flatnonzero((counts["train"] > 0) & (counts["test"] > 0))
    if not len(scored):
        raise UserError("no class has events in training and test clips; check class_list against the cuts")
    rates = config.learning_rates
    bank, statistics = _train(parts["train"], events["train"], len(names), rates, config)
    learned = np.flatnonzero(_clip_counts(events["valid"], len(names)))
    if not len(learned):
        raise UserError(f"none of the {len(events['valid'])} validation clips has an event; name other clips for it")
    valid = score_heads(bank, Clips(parts["valid"], events["valid"], statistics), learned, config)[SELECTING]
    valid = valid.reshape(len(rates), config.num_seeds)
    place = choose_rate(valid, rates)
    chosen = bank.rate(place)
    if "all training" in parts:
        chosen, statistics = _train(
            parts["all training"], events["all training"], len(names), rates[place : place + 1], config
        )
    test = Clips(parts["test"], events["test"], statistics)
    values = score_heads(chosen, test, scored, config)
    chance = chance_level(test, scored, config.seed)
    details = {**account(valid, rates, place), "scored classes": len(scored), **missing}
    for metric in ALPHA_ST:
        own = values[metric].tolist()
        yield Score(
            metric=metric,
            value=float(np.mean(own)),
            chance=chance[metric],
            num_scored=len(test.events),
            half_interval=half_interval(own),
            seed_values=own,
            details=details,
        )


def _train(
    part: Part, events: list[list[Event]], num_classes: int, rates: Sequence[float], config: DetectionConfig
) -> tuple[HeadBank, Statistics]:
    """Heads of some rates trained on some clips, and the statistics of their frames."""
    statistics = part.set.vectors.frame_statistics(part.positions)
    seeds = range(config.seed, config.seed + config.num_seeds)
    bank = HeadBank.build(part.set.dim, num_classes, 0, True, len(rates), seeds)
    epochs = frame_epochs(Clips(part, events, statistics), config, num_classes)
    train_bank(bank, epochs, rates, config.num_steps, part.set.clips.folder.name)
    return bank, statistics


def _clip_counts(events: Sequence[Sequence[Event]], num_classes: int) -> np.ndarray:
    """(K,) clips in which each class sounds."""
    present = [k for own in events for k in {event[2] for event in own}]
    return np.bincount(np.array(present, dtype=int), minlength=num_classes)


def frame_epochs(clips: Clips, config: DetectionConfig, num_classes: int) -> Callable[[int], Iterable[Batch]]:
    """Batches of all frames of about `batch_size` clips, the same for all heads: (M, C), targets (M, K) bool."""
    place = distributed.device()
    part = clips.part
    seconds = config.batch_size * float(part.durations.mean())
    events_of = dict(zip(part.positions.tolist(), clips.events, strict=True))
    durations = part.set.clips.durations

    def epochs(epoch: int) -> Iterator[Batch]:
        for chosen, frames, _ in part.set.frame_batches(part.positions, seconds, config.seed, epoch):
            lens = part.set.vectors.lens[chosen]
            rows = zip(chosen.tolist(), lens.tolist(), strict=True)
            targets = [frame_targets(events_of[i], num, durations[i], num_classes) for i, num in rows]
            inputs = standardized(in_a_row(frames, lens), clips.statistics)
            yield (inputs,), send(torch.cat(targets), place)

    return epochs


def score_heads(bank: HeadBank, clips: Clips, classes: Sequence[int], config: DetectionConfig) -> dict[str, np.ndarray]:
    """Each metric of each head (G,), NaN where it diverged. One head at a time, since all scores of it are kept."""
    values: dict[str, list[float]] = {metric: [] for metric in ALPHA_ST}
    for place, lost in enumerate(bank.diverged()):
        curves = [] if lost else class_curves(detect(bank.head(place), clips, config), clips.events, classes)
        for metric, alpha_st in ALPHA_ST.items():
            values[metric].append(psds(curves, alpha_st) if curves else np.nan)
    return {metric: np.array(own) for metric, own in values.items()}


@torch.no_grad()
def detect(head: HeadBank, clips: Clips, config: DetectionConfig) -> FrameScores:
    """Smoothed scores of one head on every frame, clips in their order."""
    part = clips.part
    found: dict[int, np.ndarray] = {}
    for chosen, frames, _ in part.set.frame_batches(part.positions, config.max_duration, 0, 0):
        lens = part.set.vectors.lens[chosen]
        logits = head(standardized(in_a_row(frames, lens), clips.statistics))[0].cpu().numpy()
        for i, own in zip(chosen.tolist(), np.split(logits, np.cumsum(lens.tolist())[:-1]), strict=True):
            found[i] = _smoothed(own, part.set.clips.durations[i], config.median_seconds)
    ordered = [found[i] for i in part.positions.tolist()]
    return FrameScores(np.concatenate(ordered), np.array([len(own) for own in ordered]), part.durations)


def _smoothed(scores: np.ndarray, duration: float, median_seconds: float) -> np.ndarray:
    """Median over an odd number of frames (T, K), the clip's ends repeated."""
    width = 2 * int(0.5 * median_seconds * len(scores) / duration) + 1
    return scores if width == 1 else median_filter(scores, size=(width, 1), mode="nearest")


def chance_level(clips: Clips, classes: Sequence[int], seed: int) -> dict[str, float]:
    """What scores score that know nothing of a clip: one random number per clip and class, mean of several draws."""
    lens = clips.part.set.vectors.lens[clips.part.positions].numpy()
    values: dict[str, list[float]] = {metric: [] for metric in ALPHA_ST}
    for draw in range(CHANCE_DRAWS):
        scores = chance_scores(lens, max(classes) + 1, seed + draw)
        curves = class_curves(FrameScores(scores, lens, clips.part.durations), clips.events, classes)
        for metric, alpha_st in ALPHA_ST.items():
            values[metric].append(psds(curves, alpha_st))
    return {metric: float(np.mean(own)) for metric, own in values.items()}


PROTOCOL = Protocol("detection", DetectionConfig, numbers, score)
