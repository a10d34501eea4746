# SPDX-License-Identifier: Apache-2.0
"""Linear probing: one linear layer on pooled frames of the frozen encoder (paper, Tables 3a and 9).

Mean pooling works on the clips' means, which gives the same logits as averaging per-frame logits; attention pooling
is learned with the linear layer. For every encoder alike, and for log-mel statistics, each channel is standardised by
its mean and deviation over the training clips. All learning rates and seeds are trained at once; the rate is chosen on
validation clips, and the test clips are scored once by each of its seeds, with their last weights. Validation clips
that had to be held out of training come back to it for those last heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icefall_alp.config import LinearProbeConfig
from icefall_alp.data.datasets import read_class_list
from icefall_alp.evaluation import scores
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.frozen_set import FrozenSet
from icefall_alp.evaluation.head_bank import Batch, HeadBank, train_bank
from icefall_alp.evaluation.head_inputs import Statistics, standardized
from icefall_alp.evaluation.labels import class_counts, clip_targets, without_clips
from icefall_alp.evaluation.parts import Part, open_parts
from icefall_alp.evaluation.selection import account, choose_rate, half_interval
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import stable_seed
from icefall_alp.utils.transfer import send


class Metric(NamedTuple):
    """A score of one head's outputs, and what chance would score."""

    score: Callable[[np.ndarray, np.ndarray], float]
    chance: Callable[[np.ndarray], float]
    of_classes: bool  # outputs are the classes with the highest score (N,) instead of all scores (N, K)


METRICS = {
    "mAP": Metric(scores.mean_average_precision, scores.chance_average_precision, False),
    "accuracy": Metric(scores.accuracy, scores.chance_accuracy, True),
}


class Clips(NamedTuple):
    """One part of the task: clips of a set, their targets, and the training clips' statistics."""

    part: Part
    targets: Tensor
    statistics: Statistics

    @property
    def set(self) -> FrozenSet:
        """The set they belong to."""
        return self.part.set


def numbers(config: LinearProbeConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task.

    Raises:
        UserError: The metric is unknown, or does not fit `multi_label`.
    """
    if config.metric not in METRICS:
        raise UserError(f"metric: {config.metric!r} is unknown; use one of {', '.join(METRICS)}")
    if METRICS[config.metric].of_classes == config.multi_label:
        raise UserError(f"metric: {config.metric} does not go with multi_label: {str(config.multi_label).lower()}")
    unknown = [pooling for pooling in config.poolings if pooling not in ("mean", "attention")]
    if unknown:
        raise UserError(f"poolings: {unknown[0]!r} is unknown; use mean and attention")
    return [(pooling, config.metric) for pooling in config.poolings]


def score(encoder: FrozenEncoder, config: LinearProbeConfig, exp_dir: Path, poolings: Sequence[str]) -> Iterator[Score]:
    """Encode the sets once, then train and score the heads of each pooling.

    Raises:
        UserError: See `open_parts` and `clip_targets`.
    """
    classes = read_class_list(Path(config.class_list))
    parts = open_parts(encoder, config, exp_dir, frames="attention" in poolings)
    targets = {name: clip_targets(part.cuts, classes, config.multi_label) for name, part in parts.items()}
    used = {"train": targets.get("all training", targets["train"]), "test": targets["test"]}
    counts = {name: class_counts(own, len(classes)) for name, own in used.items()}
    missing = without_clips(Path(config.test_cuts).name, classes, counts)
    metric = METRICS[config.metric]
    chance = metric.chance(targets["test"].numpy())
    for pooling in poolings:
        values, details = probe(parts, targets, len(classes), pooling, config)
        yield Score(
            metric=config.metric,
            value=float(np.mean(values)),
            chance=chance,
            num_scored=len(targets["test"]),
            pooling=pooling,
            half_interval=half_interval(values),
            seed_values=values,
            details={**details, **missing},
        )


def probe(
    parts: dict[str, Part], targets: dict[str, Tensor], num_classes: int, pooling: str, config: LinearProbeConfig
) -> tuple[list[float], dict[str, object]]:
    """Train the heads of one pooling, choose the rate, score the test clips.

    Where validation clips were held out of training, the chosen rate's heads are trained again on all training clips.

    Returns:
        The score of each seed, and how the rate was chosen.
    """
    rates, seeds = config.learning_rates, range(config.seed, config.seed + config.num_seeds)
    heads = config.attention_heads if pooling == "attention" else 0

    def train(name: str, rates: Sequence[float]) -> tuple[HeadBank, tuple[Tensor, Tensor]]:
        part = parts[name]
        vectors = part.set.vectors
        statistics = (vectors.frame_statistics if heads else vectors.mean_statistics)(part.positions)
        clips = Clips(part, targets[name], statistics)
        bank = HeadBank.build(part.set.dim, num_classes, heads, config.multi_label, len(rates), seeds)
        batches = frame_epochs(clips, config) if heads else mean_epochs(clips, config.batch_size, seeds)
        train_bank(bank, batches, rates, config.num_steps, f"{part.set.clips.folder.name} {pooling}")
        return bank, statistics

    bank, statistics = train("train", rates)
    valid = score_heads(bank, Clips(parts["valid"], targets["valid"], statistics), config)
    valid = valid.reshape(len(rates), len(seeds))
    place = choose_rate(valid, rates)
    chosen = bank.rate(place)
    if "all training" in parts:
        chosen, statistics = train("all training", rates[place : place + 1])
    test = Clips(parts["test"], targets["test"], statistics)
    return score_heads(chosen, test, config).tolist(), account(valid, rates, place)


def mean_epochs(clips: Clips, batch_size: int, seeds: Sequence[int]) -> Callable[[int], Iterable[Batch]]:
    """Batches of clip means, each seed with its own order of the clips: (S, n, C), targets (S, n, ...)."""
    place = distributed.device()
    means = standardized(clips.set.vectors.means[clips.part.positions].to(place), clips.statistics)
    targets = clips.targets.to(place)
    count = len(means)

    def epochs(epoch: int) -> Iterator[Batch]:
        orders = [np.random.default_rng(stable_seed(seed, epoch, "order")).permutation(count) for seed in seeds]
        order = torch.from_numpy(np.stack(orders)).to(place)
        for start in range(0, count, batch_size):
            chosen = order[:, start : start + batch_size]
            yield (means[chosen],), targets[chosen]

    return epochs


def frame_epochs(clips: Clips, config: LinearProbeConfig) -> Callable[[int], Iterable[Batch]]:
    """Batches of frames of about `batch_size` clips, the same for all heads: (n, T, C) with lens, targets (n, ...)."""
    place = distributed.device()
    seconds = config.batch_size * float(clips.part.durations.mean())
    row_of = np.full(len(clips.set.clips), -1)
    row_of[clips.part.positions] = np.arange(len(clips.part.positions))

    def epochs(epoch: int) -> Iterator[Batch]:
        for chosen, frames, lens in clips.set.frame_batches(clips.part.positions, seconds, config.seed, epoch):
            inputs = standardized(frames, clips.statistics), lens
            yield inputs, send(clips.targets[row_of[chosen]], place)

    return epochs


@torch.no_grad()
def score_heads(bank: HeadBank, clips: Clips, config: LinearProbeConfig) -> np.ndarray:
    """Score of each head on some clips: (G,), NaN where it diverged."""
    metric = METRICS[config.metric]
    count = len(clips.part.positions)
    shape = (len(bank), count) if metric.of_classes else (len(bank), count, bank.params["classifier.bias"].shape[1])
    outputs = np.zeros(shape, dtype=np.int64 if metric.of_classes else np.float32)
    for rows, logits in _logits(bank, clips, config):
        outputs[:, rows] = (logits.argmax(-1) if metric.of_classes else logits).cpu().numpy()
    targets = clips.targets.numpy()
    lost = bank.diverged()
    return np.array([np.nan if bad else metric.score(own, targets) for own, bad in zip(outputs, lost, strict=True)])


def _logits(bank: HeadBank, clips: Clips, config: LinearProbeConfig) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows of the clips and the logits (G, n, K) of every head, batch by batch."""
    if bank.pooling_heads:
        row_of = {int(position): row for row, position in enumerate(clips.part.positions)}
        for chosen, frames, lens in clips.set.frame_batches(clips.part.positions, config.max_duration, 0, 0):
            rows = np.array([row_of[int(position)] for position in chosen])
            yield rows, bank(standardized(frames, clips.statistics), lens)
        return
    count = len(clips.part.positions)
    for rows in np.array_split(np.arange(count), -(-count // config.batch_size)):
        means = clips.set.vectors.means[clips.part.positions[rows]].to(distributed.device())
        yield rows, bank(standardized(means, clips.statistics))


PROTOCOL = Protocol("linear_probe", LinearProbeConfig, numbers, score)
