# SPDX-License-Identifier: Apache-2.0
"""The frames of a whole set in memory, from one frozen pass; every head is then trained on them.

They are kept in float16. Full-size cost: seconds x 25 x C x 2 bytes, for example 11 GB for FSD50K's
training clips at C = 768; heads on the clips' means ask for these and hold no more. Probes of sets that are larger than
the memory stream instead (`frozen_set`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lhotse import MonoCut
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from icefall_alp.config import TaskConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.shards import FeatureShards, ShardIndex
from icefall_alp.evaluation.cache import read_cache, write_cache
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.frozen_pass import Clips, encoded_batches
from icefall_alp.evaluation.head_inputs import bounded
from icefall_alp.utils.digests import library_digest, sha256_file, sha256_text
from icefall_alp.utils.errors import UserError

NUM_BUCKETS = 30  # clips of similar length are encoded together


@dataclass(frozen=True)
class EncodedClips:
    """Frames of a set of clips, with their cuts.

    Attributes:
        frames: (T_i, C) float16 of each clip.
        cuts: the clips, with captions or labels.
        mean: (C,) subtracted when a batch is made.
        deviation: (C,) divided by when a batch is made.
    """

    frames: list[Tensor]
    cuts: list[MonoCut]
    mean: Tensor
    deviation: Tensor

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def dim(self) -> int:
        """Width C of a frame."""
        return len(self.mean)

    @property
    def durations(self) -> np.ndarray:
        """(N,) seconds."""
        return np.array([cut.duration for cut in self.cuts])

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Standardised frames of some clips: (n, T, C) float32 padded with zeros, and (n,) lengths."""
        chosen = [(self.frames[i].float() - self.mean) / self.deviation for i in indices]
        return pad_sequence(chosen, batch_first=True), torch.tensor([len(frames) for frames in chosen])

    def pooled(self) -> EncodedClips:
        """The same clips with one frame each: their mean."""
        return replace(self, frames=[_mean_frame(frames) for frames in self.frames])

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over all frames: (C,), (C,), on the CPU."""
        count = sum(len(frames) for frames in self.frames)
        mean = sum(frames.double().sum(0) for frames in self.frames) / count
        variance = sum((frames.double() - mean).square().sum(0) for frames in self.frames) / count
        return mean.float(), bounded(variance.sqrt())

    def standardized(self, mean: Tensor, deviation: Tensor) -> EncodedClips:
        """The same clips, whose batches have `mean` subtracted and are divided by `deviation`, each (C,)."""
        return replace(self, mean=mean, deviation=deviation)


def load_or_encode(
    encoder: FrozenEncoder, folder: Path, config: TaskConfig, exp_dir: Path, pooled: bool = False
) -> EncodedClips:
    """The frames of a set, from `<exp_dir>/frames` where another task of this run has left them.

    They are kept there when the task wants it (`cache_frames`), under the digests of encoder, set and code, so what was
    made from other weights, features or clips, or by other code, is never read.

    Args:
        encoder: What makes the frames.
        folder: Stage 2's folder of cuts and features.
        config: Of the task.
        exp_dir: Of the run.
        pooled: One frame per clip, the mean of its frames, which are let go at once where they are not to be kept.

    Raises:
        UserError: See `encode_clips`.
    """
    key = frames_key(encoder, folder)
    stored = read_cache(exp_dir / "frames", folder.name, key)
    if stored is not None:
        clips = _unscaled([stored[name] for name in sorted(stored)], FeatureShards(folder))
    elif config.cache_frames:
        clips = encode_clips(encoder.module, folder, config.max_duration)
        # clip by clip, since one tensor of all frames would be a second copy of them
        named = {f"{position:09d}": frames for position, frames in enumerate(clips.frames)}
        write_cache(exp_dir / "frames", folder.name, key, named)
    else:
        return encode_clips(encoder.module, folder, config.max_duration, pooled)
    return clips.pooled() if pooled else clips


def frames_key(encoder: FrozenEncoder, folder: Path) -> str:
    """Digest of all that frames depend on: weights, clips with their features, code."""
    return sha256_text(encoder.digest + set_digest(folder) + library_digest())


def encode_clips(encoder: nn.Module, folder: Path, max_duration: float, pooled: bool = False) -> EncodedClips:
    """Run a frozen encoder over all clips of a feature folder, once.

    Args:
        encoder: Frozen and in evaluation mode.
        folder: Stage 2's folder of cuts and features.
        max_duration: Seconds of audio per batch.
        pooled: Keep the mean of each clip's frames only.

    Returns:
        The clips in the folder's order.

    Raises:
        UserError: The folder is missing or incomplete, or see `frozen_pass.encoded_batches`.
    """
    shards = FeatureShards(folder)
    frames: list[Tensor] = [torch.empty(0)] * len(shards)
    means = torch.empty(0)
    plan = BatchPlan(shards.durations, max_duration, NUM_BUCKETS, seed=0)
    for indices, encoder_out, lens in encoded_batches(encoder, shards, plan.epoch(0)):
        # in one piece: small tensors made between large ones would keep the memory of these from being given back
        means = torch.empty(len(shards), encoder_out.shape[2], dtype=torch.float16) if len(means) == 0 else means
        for i, clip, length in zip(indices.tolist(), encoder_out, lens.tolist(), strict=True):
            if pooled:
                means[i] = _mean_frame(storable(clip[:length]))[0]
            else:
                frames[i] = storable(clip[:length])
    return _unscaled(list(means.split(1)) if pooled else frames, shards)


def _unscaled(frames: list[Tensor], shards: FeatureShards) -> EncodedClips:
    dim = frames[0].shape[1]
    return EncodedClips(frames, list(shards.cuts), torch.zeros(dim), torch.ones(dim))


def set_digest(folder: Path) -> str:
    """Digest of a stage 2 folder: its cuts, and its indices, which hold the digest of what the features come from.

    Raises:
        UserError: Nothing is there.
    """
    files = sorted([*folder.glob("cuts.*"), *folder.glob("index.*")])
    if not files:
        raise UserError(f"{folder}: no features there; run the stages that prepare and compute them (0 and 2)")
    return sha256_text("\n".join(f"{path.name} {sha256_file(path)}" for path in files))


def num_listed(folder: Path) -> int:
    """Clips that the set's manifest lists: those with features and those that stage 2 had to leave out."""
    indices = [ShardIndex.read(path) for path in folder.glob("index.*.json")]
    return sum(len(index.num_frames) + len(index.skipped) for index in indices)


def check_disjoint(
    train: Clips | EncodedClips, test: Clips | EncodedClips, names: tuple[str, str] = ("training", "test")
) -> None:
    """Refuse a test clip that is also a training clip, or what else the two parts are called.

    Raises:
        UserError: Naming one.
    """
    shared = {cut.id for cut in train.cuts} & {cut.id for cut in test.cuts}
    if shared:
        raise UserError(
            f"{len(shared)} {names[1]} clips are also {names[0]} clips, {min(shared)} among them; split them anew"
        )


def captions_of_clips(clips: EncodedClips) -> list[list[str]]:
    """The captions of each clip.

    Raises:
        UserError: A clip has none.
    """
    captions = [
        [caption["text"] for caption in (c.supervisions[0].custom or {}).get("captions", [])] for c in clips.cuts
    ]
    for cut, own in zip(clips.cuts, captions, strict=True):
        if not own:
            raise UserError(f"{cut.id}: no caption; this task needs captioned cuts")
    return captions


def _mean_frame(frames: Tensor) -> Tensor:
    """The mean (1, C) of a clip's frames as they are kept, in float16 like them."""
    return storable(frames.float().mean(0, keepdim=True))


def storable(frames: Tensor) -> Tensor:
    """Frames in float16 on the CPU."""
    # float16 ends at 65504; the copy frees the padded batch the frames were cut from
    return frames.clamp(-6e4, 6e4).to("cpu", torch.float16, copy=True)
