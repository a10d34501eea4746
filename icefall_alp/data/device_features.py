# SPDX-License-Identifier: Apache-2.0
"""Features of a whole batch, computed and augmented on the device that trains.

A loader's process makes everything that takes Python's time; what is left for the one that trains is copying and a few
passes over the batch. The result is that of `spec_augment` clip by clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icefall_alp.data.fbank import Fbank
from icefall_alp.data.spec_augment import Augmentation, warped_positions
from icefall_alp.utils.transfer import send


@dataclass
class Waveforms:
    """Audio that becomes features on the device that trains.

    Attributes:
        samples: (N, S) int16, padded with zeros.
        lens: (N,) int64 samples.
        tables: how the features are augmented; None leaves them as they are.
    """

    samples: Tensor
    lens: Tensor
    tables: BatchTables | None

    def features(self, device: torch.device) -> Tensor:
        """Features (N, T, 80) float32 on a device."""
        samples = send(self.samples, device).float().mul_(1 / 32768)
        return augment_batch(*Fbank()(samples, send(self.lens, device)), self.tables)

    def pin_memory(self) -> Waveforms:
        """The same in memory from which a GPU copies without waiting."""
        tables = self.tables and BatchTables(*(table.pin_memory() for table in self.tables))
        return Waveforms(self.samples.pin_memory(), self.lens.pin_memory(), tables)


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
            before[clip, :length], weight[clip, :length] = warped_positions(length, augmentation.warp)
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
