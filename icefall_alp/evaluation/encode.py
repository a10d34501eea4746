# SPDX-License-Identifier: Apache-2.0
"""One frozen pass over a set of clips; every head is then trained on the frames it leaves.

Frames are kept in float16 in memory. Full-size cost: seconds x 25 x C x 2 bytes, for example 11 GB for FSD50K's
training clips at C = 768; a head that needs only the clip's mean is given one frame per clip instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lhotse import MonoCut
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from icefall_alp.config import TaskConfig
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.fbank import PADDING
from icefall_alp.data.shards import FeatureShards, ShardIndex
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.utils import distributed
from icefall_alp.utils.atomic_io import atomic_folder
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
        return replace(self, frames=[_storable(frames.float().mean(0, keepdim=True)) for frames in self.frames])

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over all frames: (C,), (C,).

        A channel that hardly varies gets a thousandth of the usual deviation, so that it cannot grow out of bounds
        on other clips.
        """
        count = sum(len(frames) for frames in self.frames)
        mean = sum(frames.double().sum(0) for frames in self.frames) / count
        variance = sum((frames.double() - mean).square().sum(0) for frames in self.frames) / count
        deviation = variance.sqrt()
        return mean.float(), deviation.clamp(min=max(1e-3 * float(deviation.mean()), 1e-6)).float()

    def standardized(self, mean: Tensor, deviation: Tensor) -> EncodedClips:
        """The same clips, whose batches have `mean` subtracted and are divided by `deviation`, each (C,)."""
        return replace(self, mean=mean, deviation=deviation)


def load_or_encode(encoder: FrozenEncoder, folder: Path, config: TaskConfig, exp_dir: Path) -> EncodedClips:
    """The frames of a set, from `<exp_dir>/frames` where another task of this run has left them.

    They are kept there when the task wants it (`cache_frames`), under the digests of encoder, set and code, so what was
    made from other weights, features or clips, or by other code, is never read.

    Args:
        encoder: What makes the frames.
        folder: Stage 2's folder of cuts and features.
        config: Of the task.
        exp_dir: Of the run.

    Raises:
        UserError: See `encode_clips`; or a kept file is damaged.
    """
    name = f"{folder.name}_{sha256_text(encoder.digest + set_digest(folder) + library_digest())[:16]}"
    path = exp_dir / "frames" / name / "frames.safetensors"
    if not path.is_file():
        clips = encode_clips(encoder.module, folder, config.max_duration)
        if config.cache_frames:
            lens = torch.tensor([len(frames) for frames in clips.frames])
            with atomic_folder(path.parent) as temporary:
                save_file({"frames": torch.cat(clips.frames), "lens": lens}, temporary / path.name)
        return clips
    try:
        stored = load_file(path)
        frames = list(stored["frames"].split(stored["lens"].tolist()))
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and evaluate again") from error
    return _unscaled(frames, FeatureShards(folder))


@torch.no_grad()
def encode_clips(encoder: nn.Module, folder: Path, max_duration: float, mean_only: bool = False) -> EncodedClips:
    """Run a frozen encoder over all clips of a feature folder, once.

    Args:
        encoder: Frozen and in evaluation mode.
        folder: Stage 2's folder of cuts and features.
        max_duration: Seconds of audio per batch.
        mean_only: Keep one frame per clip, the mean of its frames.

    Returns:
        The clips in the folder's order.

    Raises:
        UserError: The folder is missing or incomplete, or frames are not finite.
    """
    shards = FeatureShards(folder)
    place = distributed.device()
    encoder = encoder.to(place)
    frames: list[Tensor] = [torch.empty(0)] * len(shards)
    plan = BatchPlan(shards.durations, max_duration, NUM_BUCKETS, seed=0)
    with tqdm(total=len(shards), desc=f"encode {folder.name}", unit=" clips", mininterval=1.0) as progress:
        for indices in plan.epoch(0):
            features = [torch.from_numpy(shards.features(int(i))) for i in indices]
            lens = torch.tensor([len(f) for f in features])
            padded = pad_sequence(features, batch_first=True, padding_value=PADDING)
            encoder_out, encoder_out_lens = encoder(padded.to(place), lens.to(place))
            for i, clip, length in zip(indices, encoder_out.float(), encoder_out_lens.tolist(), strict=True):
                valid = clip[:length].mean(0, keepdim=True) if mean_only else clip[:length]
                if not torch.isfinite(valid).all():
                    cut_id = shards.cuts[int(i)].id
                    raise UserError(f"{folder}: {cut_id}: the encoder's frames are not finite; did training diverge?")
                frames[int(i)] = _storable(valid)
            progress.update(len(indices))
    return _unscaled(frames, shards)


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


def check_disjoint(train: EncodedClips, test: EncodedClips) -> None:
    """Refuse a test clip that is also a training clip.

    Raises:
        UserError: Naming one.
    """
    shared = {cut.id for cut in train.cuts} & {cut.id for cut in test.cuts}
    if shared:
        raise UserError(f"{len(shared)} test clips are also training clips, {min(shared)} among them; split them anew")


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


def _storable(frames: Tensor) -> Tensor:
    # float16 ends at 65504; the copy frees the padded batch the frames were cut from
    return frames.clamp(-6e4, 6e4).to("cpu", torch.float16, copy=True)
