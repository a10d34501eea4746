# SPDX-License-Identifier: Apache-2.0
"""The same recording louder, coded and resampled in time is recognised; another one is not."""

from __future__ import annotations

import numpy as np
import pytest

from icefall_alp.data.fingerprints import fingerprint, nearest


def clip(seed, num_frames=400):
    """Smooth in time and frequency, like music."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(10, 8))
    rows = np.linspace(0, 9, num_frames)
    full = np.stack([np.interp(rows, range(10), column) for column in coarse.T], axis=1)
    return (3.0 * np.repeat(full, 10, axis=1) - 6.0).astype(np.float32)


def test_gain_noise_and_a_few_frames_do_not_change_it():
    print_ = fingerprint(clip(1))
    rng = np.random.default_rng(0)
    changed = clip(1, 403) + 4.0 + rng.normal(scale=0.5, size=(403, 80)).astype(np.float32)
    assert print_ @ fingerprint(changed) > 0.995
    assert np.linalg.norm(print_) == pytest.approx(1.0, abs=1e-6) and print_.shape == (640,)


def test_another_recording_is_another():
    prints = np.stack([fingerprint(clip(seed)) for seed in range(40)])
    similarity = prints @ prints.T
    assert similarity[~np.eye(40, dtype=bool)].max() < 0.9


def test_nearest_is_the_most_similar_of_all():
    prints = np.stack([fingerprint(clip(seed)) for seed in range(1500)])
    order = np.random.default_rng(0).permutation(1500)
    places, values = nearest(prints, prints[order])
    assert (order[places] == np.arange(1500)).all() and values.min() > 0.999


def test_short_and_silent_clips_have_one_too():
    assert np.isfinite(fingerprint(np.zeros((3, 80), dtype=np.float32))).all()
    assert fingerprint(np.full((50, 80), -23.0, dtype=np.float32)) @ fingerprint(clip(1)) == 0.0
