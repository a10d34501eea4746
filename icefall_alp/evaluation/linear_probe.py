# SPDX-License-Identifier: Apache-2.0
"""Linear probing: one linear layer on pooled frames of the frozen encoder (paper, Tables 3a and 9).

Mean pooling works on the clips' means, which gives the same logits as averaging per-frame logits; attention pooling
is learned with the linear layer. For every encoder alike, and for log-mel statistics, each channel is standardised by
its mean and deviation over the training clips, so one learning rate serves all. The last weights are scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from icefall_alp.config import LinearProbeConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import LabelBatch, read_class_list
from icefall_alp.evaluation import scores
from icefall_alp.evaluation.encode import EncodedClips, check_disjoint, encode_clips, load_or_encode
from icefall_alp.evaluation.encoders import FrozenEncoder, PrecomputedFrames
from icefall_alp.evaluation.heads import HeadDataset, train_head
from icefall_alp.evaluation.tasks import Protocol, Score
from icefall_alp.objectives.tagging import TaggingObjective
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import seed_everything

METRICS = {
    "mAP": (scores.mean_average_precision, scores.chance_average_precision),
    "accuracy": (scores.accuracy, scores.chance_accuracy),
}


def numbers(config: LinearProbeConfig) -> list[tuple[str, str]]:
    """(pooling, metric) of every number of a task.

    Raises:
        UserError: The metric is unknown.
    """
    if config.metric not in METRICS:
        raise UserError(f"metric: {config.metric!r} is unknown; use one of {', '.join(METRICS)}")
    return [(pooling, config.metric) for pooling in config.poolings]


def score(encoder: FrozenEncoder, config: LinearProbeConfig, exp_dir: Path, poolings: Sequence[str]) -> Iterator[Score]:
    """Encode both sets once, then train and score one head per pooling.

    Raises:
        UserError: A label is not in the class list, or a clip of a single-label task has not exactly one.
    """
    classes = read_class_list(Path(config.class_list))
    folders = [Path(config.train_cuts), Path(config.test_cuts)]
    if set(poolings) == {"mean"}:
        train, test = (encode_clips(encoder.module, folder, config.max_duration, mean_only=True) for folder in folders)
    else:
        train, test = (load_or_encode(encoder, folder, config, exp_dir) for folder in folders)
    check_disjoint(train, test)
    train_targets, test_targets = (label_targets(clips, classes, config.multi_label) for clips in (train, test))
    measure, chance = METRICS[config.metric]
    for pooling in poolings:
        pair = (train.pooled(), test.pooled()) if pooling == "mean" else (train, test)
        predictions = probe(*pair, train_targets, pooling, config)
        value = measure(predictions, test_targets.numpy())
        yield Score(config.metric, value, chance(test_targets.numpy()), len(test), pooling)


def label_targets(clips: EncodedClips, classes: Sequence[str], multi_label: bool) -> torch.Tensor:
    """Multi-hot targets (N, K) of the clips.

    Raises:
        UserError: A label is not in the class list, or a clip of a single-label task has not exactly one.
    """
    column = {name: k for k, name in enumerate(classes)}
    targets = torch.zeros(len(clips), len(classes))
    for row, cut in zip(targets, clips.cuts, strict=True):
        labels = (cut.supervisions[0].custom or {}).get("labels", [])
        unknown = [name for name in labels if name not in column]
        if unknown:
            raise UserError(f"{cut.id}: label {unknown[0]!r} is not in the class list of {len(classes)} names")
        if not multi_label and len(labels) != 1:
            raise UserError(f"{cut.id}: {len(labels)} labels; this task needs exactly one, or multi_label: true")
        row[[column[name] for name in labels]] = 1.0
    return targets


def probe(
    train: EncodedClips, test: EncodedClips, targets: torch.Tensor, pooling: str, config: LinearProbeConfig
) -> np.ndarray:
    """Train one head and return its logits (N, K) on the test clips."""
    seed_everything(config.seed)
    mean, deviation = train.statistics()
    train, test = train.standardized(mean, deviation), test.standardized(mean, deviation)
    objective = TaggingObjective(PrecomputedFrames(train.dim), targets.shape[1], 0.0, pooling, config.multi_label)

    def make_batch(indices: np.ndarray, epoch: int) -> LabelBatch:
        return LabelBatch(*train.batch(indices), targets[indices], [train.cuts[i].id for i in indices])

    # batches are measured in frames: where clips have one frame each, all batches have `batch_size` clips
    lens = np.array([len(frames) for frames in train.frames])
    plan = BatchPlan(lens, config.batch_size * lens.mean(), 1, config.seed)
    train_head(objective, TrainStream(HeadDataset(make_batch), plan), config)
    place = distributed.device()
    with torch.no_grad():
        chunks = np.array_split(np.arange(len(test)), -(-len(test) // config.batch_size))
        return torch.cat(
            [objective.classify(*(t.to(place) for t in test.batch(chunk))).cpu() for chunk in chunks]
        ).numpy()


PROTOCOL = Protocol("linear_probe", LinearProbeConfig, numbers, score)
