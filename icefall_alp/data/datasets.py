# SPDX-License-Identifier: Apache-2.0
"""Stored cuts to batches: features with captions, questions or multi-hot labels; strings, never tokens.

An item of a dataset is a whole batch, asked for by (epoch, positions). What is random in it, the caption drawn and
the augmentation, is seeded by (seed, epoch, cut id), and by which visit of the cut in the epoch it is: it depends
neither on the process nor on the batch mates. The positions are as a plan writes them (`visits_and_positions`).

Where audio is stored, a batch leaves the loader with waveforms; features are computed when it moves to the device
that trains, for all clips at once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from icefall_alp.config.schema import DataConfig
from icefall_alp.data.audio import change_speed, mix_noise
from icefall_alp.data.batch_plan import visits_and_positions
from icefall_alp.data.fbank import FRAME_RATE, MIN_FRAMES, NUM_BINS, PADDING, Fbank
from icefall_alp.data.shards import AUDIO, FeatureShards
from icefall_alp.data.spec_augment import Augmentation, augment_batch, augment_clip, draw_augmentation
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import stable_seed

BatchT = TypeVar("BatchT", bound="_Batch")


@dataclass
class Waveforms:
    """Audio that becomes features on the device that trains.

    Attributes:
        samples: (N, S) int16, padded with zeros.
        lens: (N,) int64 samples.
        augmentations: of each clip.
    """

    samples: Tensor
    lens: Tensor
    augmentations: list[Augmentation | None]

    def features(self, device: torch.device) -> Tensor:
        """Features (N, T, 80) float32 on a device."""
        samples = self.samples.to(device, non_blocking=True).float().mul_(1 / 32768)
        features, _ = _fbank(device)(samples, self.lens.to(device, non_blocking=True))
        return augment_batch(features, ((self.lens + 80) // 160).tolist(), self.augmentations)

    def pin_memory(self) -> Waveforms:
        """The same in memory from which a GPU copies without waiting."""
        return Waveforms(self.samples.pin_memory(), self.lens.pin_memory(), self.augmentations)


@lru_cache(maxsize=2)
def _fbank(device: torch.device) -> Fbank:
    return Fbank().to(device)


@dataclass
class _Batch:
    features: Tensor | Waveforms
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
            elif isinstance(value, Waveforms):
                setattr(moved, name, value.features(torch.device(device)))
        return moved

    def pin_memory(self: BatchT) -> BatchT:
        """The batch in memory from which a GPU copies without waiting; called by the loader."""
        pinned = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, (Tensor, Waveforms)):
                setattr(pinned, name, value.pin_memory())
        return pinned


@dataclass
class CaptionBatch(_Batch):
    """Clips with one caption each.

    Attributes:
        features: (N, T, 80) float32, padded with ln(1e-10); waveforms until the batch moves to a device.
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
        features: (N, T, 80) float32, padded with ln(1e-10); waveforms until the batch moves to a device.
        feature_lens: (N,) int64 frames.
        targets: (N, K) float32, 1 where the clip has the class.
        cut_ids: N strings.
    """

    targets: Tensor
    cut_ids: list[str]


@dataclass
class QuestionBatch(_Batch):
    """Clips with one question each.

    Attributes:
        features: (N, T, C) float32: frames of a frozen encoder, padded with zeros.
        feature_lens: (N,) int64 frames.
        questions: N strings, as they are asked.
        answers: N strings.
        cut_ids: N strings.
        descriptions: N strings that stand in for the audio, where a language model learns from text alone.
    """

    questions: list[str]
    answers: list[str]
    cut_ids: list[str]
    descriptions: list[str] = field(default_factory=list)


class _StoredDataset(Dataset):
    def __init__(self, shards: FeatureShards, seed: int, config: DataConfig | None) -> None:
        self.shards = shards
        self.seed = seed
        self.config = config
        self.noise = FeatureShards(Path(config.noise_cuts)) if config and config.noise_cuts else None
        if config and (config.noise_cuts or config.speeds != (1.0,)) and shards.kind != AUDIO:
            raise UserError(
                f"data.noise_cuts and data.speeds change waveforms, but {shards.folder} holds features: "
                "leave them out, or run stage 2 with --features on_the_fly"
            )

    def __len__(self) -> int:
        return len(self.shards)

    @property
    def durations(self) -> np.ndarray:
        """Seconds of each clip, at the slowest speed it may be played."""
        return self.shards.durations / (min(self.config.speeds) if self.config else 1.0)

    def _entries(self, indices: np.ndarray) -> list[dict[str, Any]]:
        return [self.shards.entry(index) for index in indices]

    def _generators(self, epoch: int, visits: np.ndarray, entries: list[dict[str, Any]]) -> list[np.random.Generator]:
        return [
            np.random.default_rng(stable_seed(self.seed, epoch, entry["id"], *([visit] if visit else [])))
            for visit, entry in zip(visits, entries, strict=True)
        ]

    def _features(
        self, indices: np.ndarray, generators: list[np.random.Generator]
    ) -> tuple[Tensor | Waveforms, Tensor]:
        if self.shards.kind == AUDIO:
            return self._waveforms(indices, generators)
        clips = [self.shards.features(index) for index in indices]
        if self.config is not None:
            augmentations = self._draw([len(clip) for clip in clips], generators)
            clips = [augment_clip(*pair) for pair in zip(clips, augmentations, strict=True)]
        lens = [len(clip) for clip in clips]
        features = np.full((len(clips), max(lens), clips[0].shape[1]), PADDING, dtype=np.float32)
        for row, clip in zip(features, clips, strict=True):
            row[: len(clip)] = clip
        return torch.from_numpy(features), torch.tensor(lens)

    def _waveforms(self, indices: np.ndarray, generators: list[np.random.Generator]) -> tuple[Waveforms, Tensor]:
        if self._disturbs:
            waveforms = map(self.shards.waveform, indices)
            clips = [_to_int16(self._disturb(*pair)) for pair in zip(waveforms, generators, strict=True)]
        else:
            clips = [self.shards.samples(index) for index in indices]
        lens = torch.tensor([len(clip) for clip in clips])
        samples = np.zeros((len(clips), int(lens.max())), dtype=np.int16)
        for row, clip in zip(samples, clips, strict=True):
            row[: len(clip)] = clip
        feature_lens = (lens + 80) // 160
        augmentations: list[Augmentation | None] = [None] * len(clips)
        if self.config is not None:
            augmentations = self._draw(feature_lens.tolist(), generators)
        return Waveforms(torch.from_numpy(samples), lens, augmentations), feature_lens

    @property
    def _disturbs(self) -> bool:
        return self.config is not None and (self.config.speeds != (1.0,) or self.noise is not None)

    def _disturb(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Another speed, and noise, as often as the configuration says."""
        config = self.config
        if config.speeds != (1.0,):
            played = change_speed(waveform, config.speeds[generator.integers(len(config.speeds))])
            if (len(played) + 80) // 160 >= MIN_FRAMES:  # a clip that would be too short stays as it is
                waveform = played
        if self.noise is not None and generator.random() < config.noise_probability:
            noise = self.noise.waveform(int(generator.integers(len(self.noise))))
            waveform = mix_noise(waveform, noise, generator.uniform(*config.noise_snr))
        return waveform

    def _draw(self, lens: list[int], generators: list[np.random.Generator]) -> list[Augmentation | None]:
        pairs = zip(lens, generators, strict=True)
        return [draw_augmentation(length, NUM_BINS, self.config.spec_augment, generator) for length, generator in pairs]


def _to_int16(waveform: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)


class CaptionDataset(_StoredDataset):
    """Clips with captions.

    Args:
        shards: stored cuts, each with at least one caption.
        seed: of the draws and the augmentation.
        config: how training batches are augmented; each visit of a clip then draws one of its captions. None takes
            the first caption and leaves the audio as it is.
    """

    def __init__(self, shards: FeatureShards, seed: int = 0, config: DataConfig | None = None) -> None:
        super().__init__(shards, seed, config)

    @classmethod
    def open(cls, config: DataConfig, folder: str, training: bool, seed: int) -> CaptionDataset:
        """The stored cuts in `folder`: captions drawn and features augmented where `training`."""
        return cls(FeatureShards(Path(folder)), seed, config if training else None)

    def __getitem__(self, visit: tuple[int, np.ndarray]) -> CaptionBatch:
        """Batch of the clips at `visit[1]` as they are in epoch `visit[0]`.

        Raises:
            UserError: a cut has no caption.
        """
        epoch, clips = visit
        visits, indices = visits_and_positions(clips, len(self))
        entries = self._entries(indices)
        generators = self._generators(epoch, visits, entries)
        texts = []
        for entry, generator in zip(entries, generators, strict=True):
            captions = entry["supervisions"][0]["custom"].get("captions", [])
            if not captions:
                raise UserError(
                    f"cut {entry['id']} in {self.shards.folder} has no caption; check the cutset it was made from"
                )
            texts.append(captions[generator.integers(len(captions)) if self.config else 0]["text"])
        features, feature_lens = self._features(indices, generators)
        return CaptionBatch(features, feature_lens, texts, [entry["id"] for entry in entries])


class LabelDataset(_StoredDataset):
    """Clips with labels.

    Args:
        shards: stored cuts with label names.
        class_list: the K names; a class's place here is its column in the targets.
        seed: of the augmentation.
        config: how training batches are augmented; None leaves the audio as it is.
    """

    def __init__(
        self, shards: FeatureShards, class_list: Sequence[str], seed: int = 0, config: DataConfig | None = None
    ) -> None:
        super().__init__(shards, seed, config)
        self.class_list = tuple(class_list)
        self._column = {name: place for place, name in enumerate(self.class_list)}

    @classmethod
    def open(cls, config: DataConfig, folder: str, training: bool, seed: int) -> LabelDataset:
        """The stored cuts in `folder`: features augmented where `training`."""
        names = read_class_list(Path(config.class_list))
        return cls(FeatureShards(Path(folder)), names, seed, config if training else None)

    def __getitem__(self, visit: tuple[int, np.ndarray]) -> LabelBatch:
        """Batch of the clips at `visit[1]` as they are in epoch `visit[0]`.

        Raises:
            UserError: a cut has a label that is not in the class list.
        """
        epoch, clips = visit
        visits, indices = visits_and_positions(clips, len(self))
        entries = self._entries(indices)
        targets = torch.zeros(len(indices), len(self.class_list))
        for row, entry in zip(targets, entries, strict=True):
            for name in entry["supervisions"][0]["custom"].get("labels", []):
                if name not in self._column:
                    raise UserError(
                        f"cut {entry['id']} in {self.shards.folder} has label {name!r}, which is not among the "
                        f"{len(self.class_list)} classes; check the class list"
                    )
                row[self._column[name]] = 1.0
        features, feature_lens = self._features(indices, self._generators(epoch, visits, entries))
        return LabelBatch(features, feature_lens, targets, [entry["id"] for entry in entries])


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
