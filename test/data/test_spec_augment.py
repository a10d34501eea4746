# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from icefall_alp.config.schema import SpecAugmentConfig
from icefall_alp.data.spec_augment import augment_clip, draw_augmentation

ALWAYS = SpecAugmentConfig(probability=1.0)
NO_WARP = replace(ALWAYS, time_warp_factor=0)


def clip(num_frames, seed=0):
    return np.random.default_rng(seed).normal(loc=-5, size=(num_frames, 80)).astype(np.float32)


def spec_augment(features, config, generator):
    return augment_clip(features, draw_augmentation(*features.shape, config, generator))


def test_only_the_generator_decides():
    features = clip(500)
    before = features.copy()
    one, two = (spec_augment(features, ALWAYS, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, spec_augment(features, ALWAYS, np.random.default_rng(4)))
    assert np.array_equal(features, before)
    assert one.dtype == np.float32 and one.shape == features.shape


@pytest.mark.parametrize("num_frames", [9, 50, 163, 400, 1000, 3000])
def test_masks_hold_the_mean_and_keep_to_their_limits(num_frames):
    features = clip(num_frames)
    largest_frames = largest_bins = 0
    for seed in range(200):
        masked = spec_augment(features, NO_WARP, np.random.default_rng(seed)) != features
        frames, bins = masked.all(axis=1), masked.all(axis=0)
        assert np.array_equal(masked, frames[:, None] | bins[None, :])
        largest_frames, largest_bins = max(largest_frames, frames.sum()), max(largest_bins, bins.sum())
        changed = spec_augment(features, NO_WARP, np.random.default_rng(seed))[masked]
        assert np.allclose(changed, features.mean())
    assert largest_frames <= 0.15 * num_frames
    assert largest_bins <= 54
    assert largest_bins > 40
    if num_frames >= 400:
        assert largest_frames > 0.08 * num_frames


def test_nine_clips_in_ten_are_augmented():
    features = clip(200)
    changed = [
        not np.array_equal(spec_augment(features, SpecAugmentConfig(), np.random.default_rng(seed)), features)
        for seed in range(1000)
    ]
    assert 0.87 < np.mean(changed) < 0.93


def test_time_warp_moves_frames_monotonically_and_keeps_the_ends():
    ramp = np.repeat(np.arange(400, dtype=np.float32)[:, None], 80, axis=1)
    config = replace(ALWAYS, num_frame_masks=0, num_feature_masks=0)
    largest = 0.0
    for seed in range(50):
        warped = spec_augment(ramp, config, np.random.default_rng(seed))[:, 0]
        assert warped[0] == 0 and warped[-1] == 399
        assert (np.diff(warped) > 0).all()
        largest = max(largest, np.abs(warped - ramp[:, 0]).max())
    assert 60 < largest <= 80


def test_everything_off_changes_nothing():
    config = replace(NO_WARP, num_frame_masks=0, num_feature_masks=0)
    assert np.array_equal(spec_augment(clip(300), config, np.random.default_rng(0)), clip(300))
    assert np.array_equal(
        spec_augment(clip(300), SpecAugmentConfig(probability=0.0), np.random.default_rng(0)), clip(300)
    )
