# SPDX-License-Identifier: Apache-2.0
"""Heads are trained on frames in memory: every caption is drawn, the draw repeats, nothing is written."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch

from icefall_alp.config import TaskConfig
from icefall_alp.evaluation.encode import encode_clips
from icefall_alp.evaluation.encoders import LogMelStatistics
from icefall_alp.evaluation.heads import caption_stream, train_head
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


def test_captions_are_drawn_anew_each_epoch_and_repeatably(toy_task):
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    config = TaskConfig(max_duration=3.0)

    def seen() -> list[tuple[str, str]]:
        stream = caption_stream(clips, config)
        batches = islice(stream.iterate(0), 5 * len(stream.plan))
        return [pair for batch in batches for pair in zip(batch.cut_ids, batch.captions, strict=True)]

    first = seen()
    assert first == seen()
    assert len(first) == 5 * len(clips)
    drawn = {text for cut_id, text in first if cut_id == clips.cuts[0].id}
    assert len(drawn) > 1
    assert all(clips.cuts[0].supervisions[0].custom["labels"][0] in text for text in drawn)


def test_only_what_wants_a_gradient_is_trained(toy_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = encode_clips(LogMelStatistics(), Path(toy_task["test_cuts"]), 10.0)
    objective = Level()
    config = TaskConfig(max_duration=3.0, num_steps=30)
    train_head(objective, caption_stream(clips, config), config)
    assert objective.level.item() < 5.0
    assert objective.frozen.item() == 3.0
    assert not objective.training
    assert not list(tmp_path.iterdir())
