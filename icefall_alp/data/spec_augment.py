# SPDX-License-Identifier: Apache-2.0
"""SpecAugment (Park et al. 2019): time warping, frame masks and feature masks, drawn and applied per clip.

Masks hold the clip's mean. The frame masks together cover at most a set share of the clip, so short clips keep
their content.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from icefall_alp.config.schema import SpecAugmentConfig


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
        before, weight = warped_positions(len(features), augmentation.warp)
        weight = weight[:, None]
        features = features[before] * (1.0 - weight) + features[before + 1] * weight
    for rows in augmentation.frames:
        features[rows] = mean
    for columns in augmentation.bins:
        features[:, columns] = mean
    return features


def warped_positions(num_frames: int, warp: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """How `warp` of an `Augmentation` stretches one side of a clip and squeezes the other.

    Returns:
        For each of T frames the one to take (T,), int64, and the share of the one after that (T,), float32.
    """
    target, centre = warp
    last = num_frames - 1
    position = np.interp(np.arange(num_frames), [0, target, last], [0, centre, last])
    before = np.minimum(position.astype(np.int64), last - 1)
    return before, (position - before).astype(np.float32)


def _draw_warp(num_frames: int, factor: int, generator: np.random.Generator) -> tuple[int, int] | None:
    """Move a random frame by up to `factor` frames."""
    if factor < 1 or num_frames <= 2 * factor + 2:
        return None
    centre = int(generator.integers(factor + 1, num_frames - factor - 1))
    return centre + int(generator.integers(-factor, factor + 1)), centre


def _spans(length: int, count: int, longest: int, generator: np.random.Generator) -> list[slice]:
    """`count` slices of 0 to `longest` elements within `length`."""
    sizes = generator.integers(0, min(longest, length) + 1, size=count)
    starts = generator.integers(0, length - sizes + 1)
    return [slice(int(start), int(start + size)) for start, size in zip(starts, sizes, strict=True)]
