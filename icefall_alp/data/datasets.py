# SPDX-License-Identifier: Apache-2.0
"""Stored cuts to batches: features with captions, or with multi-hot labels; strings, never tokens.

An item of a dataset is a whole batch, asked for by (epoch, positions). What is random in it, the caption drawn and
the augmentation, is seeded by (seed, epoch, cut id): it depends neither on the process nor on the batch mates.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from icefall_alp.config.schema import DataConfig, SpecAugmentConfig
from icefall_alp.data.fbank import FRAME_RATE, PADDING
from icefall_alp.data.shards import FeatureShards
from icefall_alp.data.spec_augment import spec_augment
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import stable_seed

BatchT = TypeVar("BatchT", bound="_Batch")


@dataclass
class _Batch:
    features: Tensor
    feature_lens: Tensor

    @cached_property
    def num_seconds(self) -> float:
        """Seconds of audio, without padding."""
        return int(self.feature_lens.sum()) / FRAME_RATE

    def to(self: BatchT, device: torch.device | str) -> BatchT:
        """The batch with its tensors on a device."""
        # Counted here once: on an accelerator it would make the host wait.
        _ = self.num_seconds
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device, non_blocking=True))
        return moved


@dataclass
class CaptionBatch(_Batch):
    """Clips with one caption each.

    Attributes:
        features: (N, T, 80) float32, padded with ln(1e-10).
        feature_lens: (N,) int64 frames.
        captions: N strings.
        cut_ids: N strings.
    """

    captions: list[str]
    cut_ids: list[str]


@dataclass
class LabelBatch(_Batch):
    """Clips with their classes.

    Attributes:
        features: (N, T, 80) float32, padded with ln(1e-10).
        feature_lens: (N,) int64 frames.
        targets: (N, K) float32, 1 where the clip has the class.
        cut_ids: N strings.
    """

    targets: Tensor
    cut_ids: list[str]


class _StoredDataset(Dataset):
    def __init__(self, shards: FeatureShards, seed: int, augment: SpecAugmentConfig | None) -> None:
        self.shards = shards
        self.seed = seed
        self.augment = augment

    def __len__(self) -> int:
        return len(self.shards)

    @property
    def durations(self) -> np.ndarray:
        """Seconds of each clip."""
        return self.shards.durations

    def _generators(self, epoch: int, indices: np.ndarray) -> list[np.random.Generator]:
        cuts = self.shards.cuts
        return [np.random.default_rng(stable_seed(self.seed, epoch, cuts[index].id)) for index in indices]

    def _features(self, indices: np.ndarray, generators: list[np.random.Generator]) -> tuple[Tensor, Tensor]:
        clips = [self.shards.features(index) for index in indices]
        if self.augment is not None:
            pairs = zip(clips, generators, strict=True)
            clips = [spec_augment(clip, self.augment, generator) for clip, generator in pairs]
        lens = [len(clip) for clip in clips]
        features = np.full((len(clips), max(lens), clips[0].shape[1]), PADDING, dtype=np.float32)
        for row, clip in zip(features, clips, strict=True):
            row[: len(clip)] = clip
        return torch.from_numpy(features), torch.tensor(lens)


class CaptionDataset(_StoredDataset):
    """Clips with captions.

    Args:
        shards: stored cuts, each with at least one caption.
        draw_captions: True draws one of a clip's captions at each visit (training), False takes the first.
        seed: of the draws and the augmentation.
        augment: None leaves the features as they are.

    Raises:
        UserError: a cut has no caption.
    """

    def __init__(
        self,
        shards: FeatureShards,
        draw_captions: bool = False,
        seed: int = 0,
        augment: SpecAugmentConfig | None = None,
    ) -> None:
        super().__init__(shards, seed, augment)
        self.draw_captions = draw_captions
        self.captions = [
            [caption["text"] for caption in cut.supervisions[0].custom.get("captions", [])] for cut in shards.cuts
        ]
        for cut, captions in zip(shards.cuts, self.captions, strict=True):
            if not captions:
                raise UserError(f"cut {cut.id} in {shards.folder} has no caption; check the cutset it was made from")

    @classmethod
    def open(cls, config: DataConfig, folder: str, training: bool, seed: int) -> CaptionDataset:
        """The stored cuts in `folder`: captions drawn and features augmented where `training`."""
        return cls(FeatureShards(Path(folder)), training, seed, config.spec_augment if training else None)

    def __getitem__(self, visit: tuple[int, np.ndarray]) -> CaptionBatch:
        """Batch of the clips at `visit[1]` as they are in epoch `visit[0]`."""
        epoch, indices = visit
        generators = self._generators(epoch, indices)
        captions = [self.captions[index] for index in indices]
        if self.draw_captions:
            pairs = zip(captions, generators, strict=True)
            texts = [choices[generator.integers(len(choices))] for choices, generator in pairs]
        else:
            texts = [choices[0] for choices in captions]
        features, feature_lens = self._features(indices, generators)
        return CaptionBatch(features, feature_lens, texts, [self.shards.cuts[index].id for index in indices])


class LabelDataset(_StoredDataset):
    """Clips with labels.

    Args:
        shards: stored cuts with label names.
        class_list: the K names; a class's place here is its column in the targets.
        seed: of the augmentation.
        augment: None leaves the features as they are.

    Raises:
        UserError: a cut has a label that is not in the class list.
    """

    def __init__(
        self, shards: FeatureShards, class_list: Sequence[str], seed: int = 0, augment: SpecAugmentConfig | None = None
    ) -> None:
        super().__init__(shards, seed, augment)
        self.class_list = tuple(class_list)
        column = {name: place for place, name in enumerate(self.class_list)}
        self.labels: list[list[int]] = []
        for cut in shards.cuts:
            names = cut.supervisions[0].custom.get("labels", [])
            for name in names:
                if name not in column:
                    raise UserError(
                        f"cut {cut.id} in {shards.folder} has label {name!r}, which is not among the "
                        f"{len(column)} classes; check the class list"
                    )
            self.labels.append([column[name] for name in names])

    @classmethod
    def open(cls, config: DataConfig, folder: str, training: bool, seed: int) -> LabelDataset:
        """The stored cuts in `folder`: features augmented where `training`."""
        names = read_class_list(Path(config.class_list))
        return cls(FeatureShards(Path(folder)), names, seed, config.spec_augment if training else None)

    def __getitem__(self, visit: tuple[int, np.ndarray]) -> LabelBatch:
        """Batch of the clips at `visit[1]` as they are in epoch `visit[0]`."""
        epoch, indices = visit
        features, feature_lens = self._features(indices, self._generators(epoch, indices))
        targets = torch.zeros(len(indices), len(self.class_list))
        for row, index in zip(targets, indices, strict=True):
            row[self.labels[index]] = 1.0
        return LabelBatch(features, feature_lens, targets, [self.shards.cuts[index].id for index in indices])


def read_class_list(path: Path) -> tuple[str, ...]:
    """Class names, one per line.

    Raises:
        UserError: the file is missing or empty, or a name stands there twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the class list {path}: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or repeated:
        raise UserError(f"class list {path}: " + (f"{repeated[0]!r} stands there twice" if repeated else "no names"))
    return names
