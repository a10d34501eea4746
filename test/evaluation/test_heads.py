# SPDX-License-Identifier: Apache-2.0
"""Heads are trained on frames in memory; only what wants a gradient moves, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from icefall_alp.config import TaskConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics
from icefall_alp.evaluation.heads import HeadDataset, train_head
from icefall_alp.objectives.base import LossOutput, Objective


class Level(Objective):
    """One number that should become the mean of the frames; the frozen one must not move."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity())
        self.level = torch.nn.Parameter(torch.tensor([5.0]))
        self.frozen = torch.nn.Parameter(torch.tensor([3.0]), requires_grad=False)

    def forward(self, batch):
        errors = (batch.features.mean(dim=(1, 2)) - self.level).square()
        return LossOutput(errors.sum(), torch.tensor(float(len(errors))))


def test_only_what_wants_a_gradient_is_trained(toy_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    objective = Level()
    config = TaskConfig(num_steps=30)

    def make_batch(indices, epoch):
        return CaptionBatch(*clips.batch(indices), [""] * len(indices), [clips.cuts[i].id for i in indices])

    plan = BatchPlan(np.ones(len(clips)), 4.0, 1, config.seed)
    train_head(objective, TrainStream(HeadDataset(make_batch), plan), config)
    assert objective.level.item() < 5.0
    assert objective.frozen.item() == 3.0
    assert not objective.training
    assert not list(tmp_path.iterdir())
