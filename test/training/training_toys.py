# SPDX-License-Identifier: Apache-2.0
"""A contrastive objective of a few weights with its data, small enough to train in milliseconds."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from icefall_alp.config import OptimConfig, TrainingConfig
from icefall_alp.objectives.base import LossOutput, Objective
from icefall_alp.training.trainer import Trainer
from icefall_alp.utils import distributed
from icefall_alp.utils.gather_gradient import gather_with_gradient

CONFIG = TrainingConfig(
    num_steps=12, log_every=5, valid_every=4, save_every=7, keep_checkpoints=3, average_every=3, reference_seconds=20.0
)
OPTIM = OptimConfig(base_lr=0.03, lr_steps=10.0, warmup_steps=5)


@dataclass
class ToyBatch:
    features: Tensor  # (N, T, 4)
    feature_lens: Tensor  # (N,)
    targets: Tensor  # (N, 2)
    cut_ids: list[str]

    @property
    def num_seconds(self) -> float:
        return float(self.feature_lens.sum()) / 100

    def to(self, device: torch.device) -> ToyBatch:
        names = ("features", "feature_lens", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def make_batch(index: int) -> ToyBatch:
    """Micro-batch `index`: 2 to 4 items; the targets can be guessed from the features."""
    generator = torch.Generator().manual_seed(1000 + index)
    size = 2 + index % 3
    lens = torch.randint(3, 9, (size,), generator=generator)
    targets = torch.randn(size, 2, generator=generator)
    features = torch.randn(size, int(lens.max()), 4, generator=generator) * 0.1
    features[..., :2] += targets[:, None]
    return ToyBatch(features, lens, targets, [f"cut_{index}_{item}" for item in range(size)])


def join(first: ToyBatch, second: ToyBatch) -> ToyBatch:
    width = max(first.features.shape[1], second.features.shape[1])
    padded = [nn.functional.pad(b.features, (0, 0, 0, width - b.features.shape[1])) for b in (first, second)]
    return ToyBatch(
        torch.cat(padded),
        torch.cat([first.feature_lens, second.feature_lens]),
        torch.cat([first.targets, second.targets]),
        first.cut_ids + second.cut_ids,
    )


class ToyStream:
    """Micro-batch p of the row is `make_batch(p)`; five are an epoch. Draws a number like a real loader."""

    max_duration = 10.0

    def __init__(self, fail_at: int = -1, damage: range = range(0)) -> None:
        self.fail_at = fail_at  # counted in this process's own micro-batches
        self.damage = damage

    def iterate(self, position: int):
        torch.rand(1)
        world_size = distributed.world_size()
        for index in count(position + distributed.rank(), world_size):
            if index // world_size == self.fail_at:
                raise KeyboardInterrupt
            batch = make_batch(index)
            if index in self.damage:
                batch.features[0, 0, 0] = torch.nan
            yield batch

    def epoch_of(self, position: int) -> int:
        return position // 5


class ToyEncoder(nn.Linear):
    """May remember, like a regulariser, how often it was trained on; its output depends on that."""

    def __init__(self, remembers: bool) -> None:
        super().__init__(4, 3)
        self.batch_counts: list[float] = []
        self.loss_scales: list[float] = []
        self.remembers = remembers
        self.num_calls = 0

    def forward(self, features: Tensor) -> Tensor:
        self.num_calls += self.training and self.remembers
        return super().forward(features) * (1 + self.num_calls / 100)

    def set_batch_count(self, value: float) -> None:
        self.batch_counts.append(value)

    def settle(self) -> None:
        pass

    def set_loss_scale(self, scale: Tensor) -> None:
        self.loss_scales.append(float(scale))

    def training_state(self) -> dict[str, int]:
        return {"num_calls": self.num_calls}

    def set_training_state(self, state: dict[str, int]) -> None:
        self.num_calls = state["num_calls"]


class ToyObjective(Objective):
    """Symmetric InfoNCE of a linear audio tower and a linear target tower, with noise from every generator."""

    def __init__(self, noise: bool = True) -> None:
        super().__init__(ToyEncoder(remembers=noise))
        self.target_encoder = nn.Linear(2, 3)
        self.tied_encoder = self.target_encoder  # two names for the same weights, as in a tied decoder
        self.noise = noise

    def forward(self, batch: ToyBatch) -> LossOutput:
        place = batch.features.device
        mask = torch.arange(batch.features.shape[1], device=place) < batch.feature_lens[:, None]
        pooled = (batch.features * mask[..., None]).sum(1) / batch.feature_lens[:, None]
        if self.noise:
            pooled = (
                nn.functional.dropout(pooled, 0.2, self.training) + 0.1 * torch.rand(4, device=place) * random.random()
            )
        audio, target = self.audio_encoder(pooled), self.tied_encoder(batch.targets)
        all_audio, all_target = (gather_with_gradient(rows) for rows in (audio, target))
        first = sum(distributed.gather_json(len(audio))[: distributed.rank()])
        labels = torch.arange(first, first + len(audio), device=place)
        logits = audio @ all_target.T, target @ all_audio.T
        total = sum(cross_entropy(rows.float(), labels, reduction="sum") for rows in logits)
        hits = (logits[0].argmax(1) == labels).sum()
        size = torch.tensor(len(audio), device=place)
        return LossOutput(total, size, {"accuracy": torch.stack([hits, size])})


def make_trainer(
    exp_dir: Path | None,
    config: TrainingConfig = CONFIG,
    optim: OptimConfig = OPTIM,
    stream: ToyStream | None = None,
    noise: bool = True,
    seed: int = 3,
    kind: type[ToyObjective] = ToyObjective,
) -> Trainer:
    torch.manual_seed(0)
    objective = kind(noise)
    run_config = {"training": asdict(config), "optim": asdict(optim), "seed": seed, "data": {"num_workers": 0}}
    valid = [make_batch(index) for index in (100, 101, 102)][distributed.rank() :: distributed.world_size()]
    return Trainer(objective, config, optim, stream or ToyStream(), valid, exp_dir, run_config, seed)
