# SPDX-License-Identifier: Apache-2.0
"""Training a head on frames in memory, by the one trainer and without writing anything.

A head is an objective whose audio encoder is `PrecomputedFrames`; its batches are made from `EncodedClips`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from icefall_alp.config import OptimConfig, TaskConfig, TrainingConfig
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.objectives.base import Objective
from icefall_alp.training.trainer import Trainer
from icefall_alp.utils import distributed

WARMUP_SHARE, DECAY_SHARE = 0.1, 0.1  # of the head's steps: warm-up, and the time scale of Eden's decay


class HeadDataset(Dataset):
    """Batches of clips in memory, asked for as the train stream asks.

    Args:
        make_batch: (indices (n,), epoch) -> batch.
    """

    def __init__(self, make_batch: Callable[[np.ndarray, int], Any]) -> None:
        self.make_batch = make_batch

    def __getitem__(self, visit: tuple[int, np.ndarray]) -> Any:
        """The batch of the clips at `visit[1]` in epoch `visit[0]`."""
        epoch, indices = visit
        return self.make_batch(indices, epoch)


def train_head(objective: Objective, stream: TrainStream, config: TaskConfig) -> None:
    """Train what in `objective` wants a gradient for `config.num_steps` updates; it ends in evaluation mode.

    Eden's decay runs in steps alone, so it does not depend on how many clips the task has.
    """
    steps = config.num_steps
    if steps > 0:
        optim = OptimConfig(
            base_lr=config.base_lr,
            lr_steps=max(1.0, DECAY_SHARE * steps),
            steps_per_epoch=steps,
            warmup_steps=int(WARMUP_SHARE * steps),
        )
        training = TrainingConfig(num_steps=steps, log_every=steps, valid_every=0, save_every=0)
        Trainer(objective, training, optim, stream, [], None, {}, config.seed).fit()
    objective.to(distributed.device()).eval()
