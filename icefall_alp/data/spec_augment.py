# SPDX-License-Identifier: Apache-2.0
"""SpecAugment (Park et al. 2019) on one clip: time warping, frame masks and feature masks.

Masks hold the clip's mean. The frame masks together cover at most a set share of the clip, so short clips keep
their content.
"""

from __future__ import annotations

import math

import numpy as np

from icefall_alp.config.schema import SpecAugmentConfig


def spec_augment(features: np.ndarray, config: SpecAugmentConfig, generator: np.random.Generator) -> np.ndarray:
    """Augment a clip, or with probability `1 - config.probability` leave it.

    Args:
        features: (T, F) float32; not changed.
        config: sizes in frames and bins.
        generator: the only source of randomness.

    Returns:
        (T, F) float32.
    """
    if generator.random() >= config.probability:
        return features
    mean = features.mean()
    features = _time_warp(features, config.time_warp_factor, generator)
    num_frames, num_features = features.shape
    budget = int(config.max_frame_share * num_frames)
    num_masks = min(config.num_frame_masks, math.ceil(budget / max(1, config.max_frame_mask)))
    if num_masks > 0:
        for rows in _spans(num_frames, num_masks, min(config.max_frame_mask, budget // num_masks), generator):
            features[rows] = mean
    for columns in _spans(num_features, config.num_feature_masks, config.max_feature_mask, generator):
        features[:, columns] = mean
    return features


def _time_warp(features: np.ndarray, factor: int, generator: np.random.Generator) -> np.ndarray:
    """Move a random frame by up to `factor` frames, stretching one side and squeezing the other; always a copy."""
    num_frames = len(features)
    if factor < 1 or num_frames <= 2 * factor + 2:
        return features.copy()
    centre = generator.integers(factor + 1, num_frames - factor - 1)
    target = centre + generator.integers(-factor, factor + 1)
    last = num_frames - 1
    position = np.interp(np.arange(num_frames), [0, target, last], [0, centre, last])
    before = np.minimum(position.astype(np.int64), last - 1)
    weight = (position - before).astype(np.float32)[:, None]
    return features[before] * (1.0 - weight) + features[before + 1] * weight


def _spans(length: int, count: int, longest: int, generator: np.random.Generator) -> list[slice]:
    """`count` slices of 0 to `longest` elements within `length`."""
    sizes = generator.integers(0, min(longest, length) + 1, size=count)
    starts = generator.integers(0, length - sizes + 1)
    return [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
