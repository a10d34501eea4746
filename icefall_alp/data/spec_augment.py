# SPDX-License-Identifier: Apache-2.0
"""SpecAugment (Park et al. 2019): time warping, frame masks and feature masks, drawn per clip and applied per batch.

Masks hold the clip's mean. The frame masks together cover at most a set share of the clip, so short clips keep
their content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icefall_alp.config.schema import SpecAugmentConfig
from icefall_alp.utils.transfer import send


@dataclass(frozen=True)
class Augmentation:
    """What is done to one clip.

    Attributes:
        warp: (target, centre): frame `centre` moves to `target`; None warps nothing.
        frames: masked stretches of time.
        bins: masked stretches of frequency.
    """

    warp: tuple[int, int] | None
    frames: list[slice]
    bins: list[slice]


def draw_augmentation(
    num_frames: int, num_features: int, config: SpecAugmentConfig, generator: np.random.Generator
) -> Augmentation | None:
    """Draw what is done to a clip, or with probability `1 - config.probability` nothing.

    Args:
        num_frames: T.
        num_features: F.
        config: sizes in frames and bins.
        generator: the only source of randomness.
    """
    if generator.random() >= config.probability:
        return None
    warp = _draw_warp(num_frames, config.time_warp_factor, generator)
    budget = int(config.max_frame_share * num_frames)
    num_masks = min(config.num_frame_masks, math.ceil(budget / max(1, config.max_frame_mask)))
    frames = []
    if num_masks > 0:
        frames = _spans(num_frames, num_masks, min(config.max_frame_mask, budget // num_masks), generator)
    return Augmentation(
        warp, frames, _spans(num_features, config.num_feature_masks, config.max_feature_mask, generator)
    )


def augment_clip(features: np.ndarray, augmentation: Augmentation | None) -> np.ndarray:
    """Apply to one clip (T, F) float32, which is not changed."""
    if augmentation is None:
        return features
    mean = features.mean()
    if augmentation.warp is None:
        features = features.copy()
    else:
        before, weight = _warped_positions(len(features), augmentation.warp)
        weight = weight[:, None]
        features = features[before] * (1.0 - weight) + features[before + 1] * weight
    for rows in augmentation.frames:
        features[rows] = mean
    for columns in augmentation.bins:
        features[:, columns] = mean
    return features


class BatchTables(NamedTuple):
    """What is done to a batch, ready to be sent to its device.

    Attributes:
        before: (N, T) int32 the frame that each is taken from.
        weight: (N, T) float32 the share of the frame after that.
        frames: (N, T) bool, true where all bins are masked.
        bins: (N, F) bool, true where all frames are masked.
    """

    before: Tensor
    weight: Tensor
    frames: Tensor
    bins: Tensor


def tabulate(
    lens: Sequence[int], augmentations: Sequence[Augmentation | None], num_features: int
) -> BatchTables | None:
    """Tables for clips of N lengths, T being the largest; None where nothing is to be done.

    Made where batches are collated: the process that trains would stand still for as long.
    """
    if not any(augmentations):
        return None
    num_clips, num_frames = len(lens), max(lens)
    before = np.tile(np.arange(num_frames, dtype=np.int32), (num_clips, 1))
    weight = np.zeros((num_clips, num_frames), dtype=np.float32)
    masked_frames = np.zeros((num_clips, num_frames), dtype=bool)
    masked_bins = np.zeros((num_clips, num_features), dtype=bool)
    for clip, (length, augmentation) in enumerate(zip(lens, augmentations, strict=True)):
        if augmentation is None:
            continue
        if augmentation.warp is not None:
            before[clip, :length], weight[clip, :length] = _warped_positions(length, augmentation.warp)
        for rows in augmentation.frames:
            masked_frames[clip, rows] = True
        for columns in augmentation.bins:
            masked_bins[clip, columns] = True
    return BatchTables(*map(torch.from_numpy, (before, weight, masked_frames, masked_bins)))


def augment_batch(features: Tensor, lens: Tensor, tables: BatchTables | None) -> Tensor:
    """Apply to a batch on its device.

    Args:
        features: (N, T, F); what lies past a clip's length stays as it is.
        lens: (N,) frames, on the same device.
        tables: of `tabulate`, on the CPU.

    Returns:
        (N, T, F); `features` itself where nothing is to be done.
    """
    if tables is None:
        return features
    place, (num_clips, num_frames, num_features) = features.device, features.shape
    before, weight, masked_frames, masked_bins = (send(table, place) for table in tables)
    valid = torch.arange(num_frames, device=place) < lens[:, None]
    counts = valid.sum(1) * num_features
    means = (features.double() * valid[..., None]).sum((1, 2)) / counts
    clips, before, weight = torch.arange(num_clips, device=place)[:, None], before.long(), weight[..., None]
    after = (before + 1).clamp_(max=num_frames - 1)
    features = features[clips, before] * (1.0 - weight) + features[clips, after] * weight
    masked = (masked_frames[..., None] | masked_bins[:, None]) & valid[..., None]
    return torch.where(masked, means.to(features.dtype)[:, None, None], features)


def _draw_warp(num_frames: int, factor: int, generator: np.random.Generator) -> tuple[int, int] | None:
    """Move a random frame by up to `factor` frames."""
    if factor < 1 or num_frames <= 2 * factor + 2:
        return None
    centre = int(generator.integers(factor + 1, num_frames - factor - 1))
    return centre + int(generator.integers(-factor, factor + 1)), centre


def _warped_positions(num_frames: int, warp: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """For each frame the one to take, and the share of the next one: one side is stretched, the other squeezed."""
    target, centre = warp
    last = num_frames - 1
    position = np.interp(np.arange(num_frames), [0, target, last], [0, centre, last])
    before = np.minimum(position.astype(np.int64), last - 1)
    return before, (position - before).astype(np.float32)


def _spans(length: int, count: int, longest: int, generator: np.random.Generator) -> list[slice]:
    """`count` slices of 0 to `longest` elements within `length`."""
    sizes = generator.integers(0, min(longest, length) + 1, size=count)
    starts = generator.integers(0, length - sizes + 1)
    return [slice(int(start), int(start + size)) for start, size in zip(starts, sizes, strict=True)]
