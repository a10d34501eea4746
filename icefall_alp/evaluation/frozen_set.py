# SPDX-License-Identifier: Apache-2.0
"""A set of clips as a frozen encoder hears it: the clips' means at once, their frames batch by batch.

The first pass leaves two vectors per clip, the mean and the mean square of its frames, which are kept on the disk, and
the frames themselves where they fit a budget of memory. Where they do not, every epoch of frames is another pass: its
cost is shared by all heads that are trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.evaluation.cache import read_cache, write_cache
from icefall_alp.evaluation.encode import NUM_BUCKETS, frames_key, storable
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.frozen_pass import Clips, encoded_batches
from icefall_alp.evaluation.head_inputs import Statistics, channel_statistics
from icefall_alp.models.pooling import masked_mean
from icefall_alp.utils import distributed
from icefall_alp.utils.transfer import send

_BYTES_PER_VALUE = 2  # frames are kept in float16
FrameBatch = tuple[np.ndarray, Tensor, Tensor]  # positions (n,); on the device frames (n, T, C) float32, lens (n,)


@dataclass(frozen=True)
class ClipVectors:
    """What the pass leaves of every clip.

    Attributes:
        means: (N, C) float32, mean of the clip's frames.
        squares: (N, C) float32, mean of their squares.
        lens: (N,) number of frames.
    """

    means: Tensor
    squares: Tensor
    lens: Tensor

    def frame_statistics(self, positions: np.ndarray) -> Statistics:
        """Mean and deviation of each channel over all frames of some clips."""
        weight = (self.lens[positions].double() / self.lens[positions].sum())[:, None]
        mean = (weight * self.means[positions].double()).sum(0)
        variance = (weight * self.squares[positions].double()).sum(0) - mean.square()
        return channel_statistics(mean, variance.clamp(min=0.0).sqrt())

    def mean_statistics(self, positions: np.ndarray) -> Statistics:
        """Mean and deviation of each channel over the means of some clips."""
        chosen = self.means[positions].double()
        return channel_statistics(chosen.mean(0), chosen.std(0, correction=0))


@dataclass(frozen=True)
class FrozenSet:
    """Clips, their vectors, and their frames in memory or from the encoder.

    Attributes:
        clips: What the encoder is given.
        encoder: Frozen.
        max_duration: Seconds of audio per batch of the encoder.
        vectors: Of the clips.
        frames: (T_i, C) float16 of each clip; None where they did not fit or were not wanted.
    """

    clips: Clips
    encoder: nn.Module
    max_duration: float
    vectors: ClipVectors
    frames: list[Tensor] | None

    @property
    def dim(self) -> int:
        """Width C of a frame."""
        return self.vectors.means.shape[1]

    def frame_batches(self, positions: np.ndarray, seconds: float, seed: int, epoch: int) -> Iterator[FrameBatch]:
        """The frames of some clips, each clip once, in an order that (seed, epoch) decides.

        Args:
            positions: Clips.
            seconds: Of audio per batch.
            seed: Of the order.
            epoch: Of the order.
        """
        plan = BatchPlan(self.clips.durations[positions], seconds, NUM_BUCKETS, seed)
        batches = [positions[batch] for batch in plan.epoch(epoch)]
        if self.frames is None:
            yield from encoded_batches(self.encoder, self.clips, batches)
            return
        place = distributed.device()
        for batch in batches:
            chosen = [self.frames[int(i)] for i in batch]
            lens = torch.tensor([len(frames) for frames in chosen])
            # float32 there only: on a CPU that takes longer than a GPU's step of all heads
            yield batch, send(pad_sequence(chosen, batch_first=True), place).float(), send(lens, place)


def open_frozen_set(
    encoder: FrozenEncoder, clips: Clips, max_duration: float, exp_dir: Path, frames_gb: float
) -> FrozenSet:
    """Encode a set once, or take its vectors from `<exp_dir>/means` where no frames are wanted.

    Args:
        encoder: What makes the frames.
        clips: What it is given.
        max_duration: Seconds of audio per batch.
        exp_dir: Of the run.
        frames_gb: Memory that the frames may take, in 1e9 bytes; 0 where only vectors are wanted.

    Raises:
        UserError: See `frozen_pass.encoded_batches`.
    """
    key = frames_key(encoder, clips.folder)
    stored = read_cache(exp_dir / "means", clips.folder.name, key)
    if stored is not None and frames_gb == 0:
        return FrozenSet(clips, encoder.module, max_duration, ClipVectors(**stored), None)
    encoded = _encode(
        FrozenSet(clips, encoder.module, max_duration, ClipVectors(*[torch.empty(0)] * 3), None), frames_gb
    )
    if stored is None:
        write_cache(exp_dir / "means", clips.folder.name, key, vars(encoded.vectors))
    return encoded


def _encode(empty: FrozenSet, frames_gb: float) -> FrozenSet:
    count = len(empty.clips)
    frames: list[Tensor] | None = [torch.empty(0)] * count if frames_gb > 0 else None
    means, squares, lens = [torch.empty(0)] * count, [torch.empty(0)] * count, torch.zeros(count, dtype=torch.long)
    held = 0
    for indices, out, out_lens in empty.frame_batches(np.arange(count), empty.max_duration, 0, 0):
        batch_means, batch_squares = masked_mean(out, out_lens).cpu(), masked_mean(out.square(), out_lens).cpu()
        lens[indices] = out_lens.cpu()
        for row, i in enumerate(indices):
            means[i], squares[i] = batch_means[row], batch_squares[row]
        held += int(out_lens.sum()) * out.shape[2] * _BYTES_PER_VALUE
        if frames is not None and held > frames_gb * 1e9:
            frames = None  # from here on every epoch is a pass
        if frames is not None:
            for row, i in enumerate(indices):
                frames[i] = storable(out[row, : out_lens[row]])
    vectors = ClipVectors(torch.stack(means), torch.stack(squares), lens)
    return replace(empty, vectors=vectors, frames=frames)
