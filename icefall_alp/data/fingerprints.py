# SPDX-License-Identifier: Apache-2.0
"""Recognising a recording by its sound, where file names say nothing.

A fingerprint is the clip's log-Mel spectrum in eight parts of equal length, without its mean and of unit length:
loudness and coding hardly change it, another recording does. Clips are compared from beginning to end, so a stretch of
a clip is not recognised.
"""

from __future__ import annotations

import numpy as np

from icefall_alp.data.shards import FeatureShards

PARTS = 8
_ROWS = 1024  # queries compared at a time


def fingerprint(features: np.ndarray) -> np.ndarray:
    """(T, F) log-Mel with T >= 1 -> (8 F,) float32 of unit length; zeros where nothing changes in the clip."""
    starts = np.linspace(0, len(features), PARTS, endpoint=False).astype(int)
    ends = np.maximum(starts + 1, np.append(starts[1:], len(features)))
    parts = [features[start:end].mean(axis=0) for start, end in zip(starts, ends, strict=True)]
    flat = np.concatenate(parts).astype(np.float64)
    flat -= flat.mean()
    norm = float(np.linalg.norm(flat))
    return (flat / norm if norm > 1e-6 * len(flat) else np.zeros_like(flat)).astype(np.float32)


def fingerprints(shards: FeatureShards) -> np.ndarray:
    """Of every cut of a set: (N, 8 F) float32."""
    return np.stack([fingerprint(shards.features(i)) for i in range(len(shards))])


def nearest(queries: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Most similar candidate of each query: places (Q,) and similarities (Q,) from -1 to 1."""
    places, values = [], []
    for start in range(0, len(queries), _ROWS):
        similarity = queries[start : start + _ROWS] @ candidates.T
        places.append(similarity.argmax(axis=1))
        values.append(similarity.max(axis=1))
    return np.concatenate(places), np.concatenate(values)
