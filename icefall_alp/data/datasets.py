# SPDX-License-Identifier: Apache-2.0
"""Stored cuts to batches: features with captions, questions or multi-hot labels; strings, never tokens.

An item of a dataset is a whole batch, asked for by (epoch, positions). What is random in it, the caption drawn and
the augmentation, is seeded by (seed, epoch, cut id), and by which visit of the cut in the epoch it is: it depends
neither on the process nor on the batch mates. The positions are as a plan writes them (`visits_and_positions`).

A clip that is damaged on the disk is left out of its batch, listed and capped (`damage`). Where nothing is left of a
batch, the clip most like its first in length stands in, so that every rank always has something to learn from.

Where audio is stored, a batch leaves the loader with waveforms; features are computed when it moves to the device
that trains, for all clips at once.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from icefall_alp.config.schema import DataConfig
from icefall_alp.data.audio import change_speed, mix_noise
from icefall_alp.data.batch_plan import visits_and_positions
from icefall_alp.data.damage import DamagedClip
from icefall_alp.data.device_features import Waveforms, tabulate
from icefall_alp.data.fbank import FRAME_RATE, MIN_FRAMES, NUM_BINS, PADDING
from icefall_alp.data.shards import AUDIO, FeatureShards
from icefall_alp.data.spec_augment import Augmentation, augment_clip, draw_augmentation
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import stable_seed

BatchT = TypeVar("BatchT", bound="_Batch")


@dataclass
class _Batch:
    features: Tensor | Waveforms
    feature_lens: Tensor

    @cached_property
    def num_seconds(self) -> float:
        """Seconds of audio, without padding."""
        return int(self.feature_lens.sum()) / FRAME_RATE

    def to(self: BatchT, device: torch.device | str) -> BatchT:
        """The batch with its tensors on a device, but for `feature_lens`: on the CPU they are read without waiting."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and name != "feature_lens":
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


@dataclass
class _Clip:
    entry: dict[str, Any]
    values: np.ndarray  # features (T, 80) float32 or samples (S,) int16, as they are stored
    generator: np.random.Generator


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

    def _read(self, visit: tuple[int, np.ndarray]) -> list[_Clip]:
        """The clips of a batch that are intact, at least one."""
        epoch, clips = visit
        visits, positions = visits_and_positions(clips, len(self))
        read = map(partial(self._clip, epoch), visits, positions)
        if intact := [clip for clip in read if clip is not None]:
            return intact
        lens = self.shards.num_frames
        others = np.argsort(np.abs(lens - lens[positions[0]]), kind="stable")
        return [next(clip for clip in map(partial(self._clip, epoch, 0), others) if clip is not None)]

    def _clip(self, epoch: int, visit: int, position: int) -> _Clip | None:
        try:
            entry = self.shards.entry(position)
            values = (self.shards.samples if self.shards.kind == AUDIO else self.shards.features)(position)
        except DamagedClip:
            return None
        seed = stable_seed(self.seed, epoch, entry["id"], *([visit] if visit else []))
        return _Clip(entry, values, np.random.default_rng(seed))

    def _features(self, batch: list[_Clip]) -> tuple[Tensor | Waveforms, Tensor]:
        generators = [clip.generator for clip in batch]
        if self.shards.kind == AUDIO:
            return self._waveforms([self._disturb(clip) for clip in batch], generators)
        clips = [clip.values for clip in batch]
        if self.config is not None:
            augmentations = self._draw([len(clip) for clip in clips], generators)
            clips = [augment_clip(*pair) for pair in zip(clips, augmentations, strict=True)]
        lens = [len(clip) for clip in clips]
        features = np.full((len(clips), max(lens), clips[0].shape[1]), PADDING, dtype=np.float32)
        for row, clip in zip(features, clips, strict=True):
            row[: len(clip)] = clip
        return torch.from_numpy(features), torch.tensor(lens)

    def _waveforms(self, clips: list[np.ndarray], generators: list[np.random.Generator]) -> tuple[Waveforms, Tensor]:
        lens = torch.tensor([len(clip) for clip in clips])
        samples = np.zeros((len(clips), int(lens.max())), dtype=np.int16)
        for row, clip in zip(samples, clips, strict=True):
            row[: len(clip)] = clip
        feature_lens = (lens + 80) // 160
        tables = None
        if self.config is not None:
            frames = feature_lens.tolist()
            tables = tabulate(frames, self._draw(frames, generators), NUM_BINS)
        return Waveforms(torch.from_numpy(samples), lens, tables), feature_lens

    def _disturb(self, clip: _Clip) -> np.ndarray:
        """Its samples at another speed and with noise, as often as the configuration says."""
        config, generator = self.config, clip.generator
        if config is None or (config.speeds == (1.0,) and self.noise is None):
            return clip.values
        waveform = clip.values.astype(np.float32) * np.float32(1 / 32768)
        if config.speeds != (1.0,):
            played = change_speed(waveform, config.speeds[generator.integers(len(config.speeds))])
            if (len(played) + 80) // 160 >= MIN_FRAMES:  # a clip that would be too short stays as it is
                waveform = played
        if self.noise is not None and generator.random() < config.noise_probability:
            with contextlib.suppress(DamagedClip):  # of the noise: then there is none
                noise = self.noise.waveform(int(generator.integers(len(self.noise))))
                waveform = mix_noise(waveform, noise, generator.uniform(*config.noise_snr))
        return np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)

    def _draw(self, lens: list[int], generators: list[np.random.Generator]) -> list[Augmentation | None]:
        pairs = zip(lens, generators, strict=True)
        return [draw_augmentation(length, NUM_BINS, self.config.spec_augment, generator) for length, generator in pairs]


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
        clips, texts = self._read(visit), []
        for clip in clips:
            captions = clip.entry["supervisions"][0]["custom"].get("captions", [])
            if not captions:
                raise UserError(
                    f"cut {clip.entry['id']} in {self.shards.folder} has no caption; check the cutset it was made from"
                )
            texts.append(captions[clip.generator.integers(len(captions)) if self.config else 0]["text"])
        return CaptionBatch(*self._features(clips), texts, [clip.entry["id"] for clip in clips])


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
        clips = self._read(visit)
        targets = torch.zeros(len(clips), len(self.class_list))
        for row, clip in zip(targets, clips, strict=True):
            for name in clip.entry["supervisions"][0]["custom"].get("labels", []):
                if name not in self._column:
                    raise UserError(
                        f"cut {clip.entry['id']} in {self.shards.folder} has label {name!r}, which is not among the "
                        f"{len(self.class_list)} classes; check the class list"
                    )
                row[self._column[name]] = 1.0
        return LabelBatch(*self._features(clips), targets, [clip.entry["id"] for clip in clips])


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
