# SPDX-License-Identifier: Apache-2.0
"""What can stand for a frozen audio encoder: a trained run, a baseline, log-mel statistics, frames computed before.

All have `output_dim` and the call `(features (N, T, F), feature_lens (N,)) -> (encoder_out (N, T', C), lens (N,))`; one
with `wants_waveforms` is given waveforms (N, S) at 16 kHz instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from icefall_alp.data.shards import FeatureShards
from icefall_alp.evaluation.waveforms import WaveformClips
from icefall_alp.models import AudioEncoder
from icefall_alp.models.encoder_files import CONFIG_FILE
from icefall_alp.utils.digests import sha256_file, sha256_text
from icefall_alp.utils.errors import UserError

LOG_MEL_RUN = "log_mel"  # the run whose encoder is no network


class LogMelStatistics(nn.Module):
    """The baseline every encoder has to beat: mean and deviation of each mel bin over the clip, as one frame.

    Args:
        feature_dim: Number of mel bins F.
    """

    def __init__(self, feature_dim: int = 80) -> None:
        super().__init__()
        self.output_dim = 2 * feature_dim

    def forward(self, features: Tensor, feature_lens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> (N, 1, 2F), (N,) ones; padding does not count."""
        valid = torch.arange(features.shape[1], device=features.device)[None, :] < feature_lens[:, None]
        weight = (valid / feature_lens[:, None]).unsqueeze(-1).to(features.dtype)
        mean = (features * weight).sum(dim=1)
        variance = ((features - mean[:, None]).square() * weight).sum(dim=1)
        frame = torch.cat([mean, variance.sqrt()], dim=-1)
        return frame[:, None], torch.ones_like(feature_lens)


class LogMelFrames(nn.Module):
    """The baseline for frames: the mean of every four fbank frames, at the encoder's 25 Hz.

    Args:
        feature_dim: Number of mel bins F.
    """

    def __init__(self, feature_dim: int = 80) -> None:
        super().__init__()
        self.output_dim = feature_dim

    def forward(self, features: Tensor, feature_lens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> (N, ceil(T / 4), F), (N,); the last frame of a clip may be the mean of fewer."""
        valid = torch.arange(features.shape[1], device=features.device)[None, :] < feature_lens[:, None]
        pad = -features.shape[1] % 4
        weight = nn.functional.pad(valid.to(features.dtype), (0, pad)).unflatten(1, (-1, 4)).unsqueeze(-1)
        parts = nn.functional.pad(features, (0, 0, 0, pad)).unflatten(1, (-1, 4))
        return (parts * weight).sum(2) / weight.sum(2).clamp(min=1.0), (feature_lens + 3) // 4


class PrecomputedFrames(nn.Module):
    """Stands for the frozen encoder while a head is trained: what it is given are frames already.

    Args:
        dim: Width C of the frames.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output_dim = dim

    def forward(self, features: Tensor, feature_lens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, C), (N,) -> the same, on one device."""
        return features, feature_lens.to(features.device)


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder to be judged and what the results say about it."""

    run: str
    module: nn.Module  # eval mode, no parameter wants a gradient
    digest: str
    step: int | None = None  # training steps behind it, where known
    text_tower: Path | None = None  # what it was pretrained to match, where it was

    @property
    def digest_with_text(self) -> str:
        """Digest of encoder and text tower."""
        return digest_with_text(self.digest, self.text_tower)

    def for_frames(self) -> FrozenEncoder:
        """The same for tasks about moments within a clip: the log-mel baseline gives frames instead of statistics."""
        if not isinstance(self.module, LogMelStatistics):
            return self
        return replace(self, module=LogMelFrames().eval(), digest=sha256_text(self.digest + "frames"))


def load_frozen_encoder(exp_dir: Path) -> FrozenEncoder:
    """Load `exp/<run>/encoder`, ours or a baseline's, or log-mel statistics where the run is called `log_mel`.

    Raises:
        UserError: The run has no encoder, or see `AudioEncoder.load` and `load_baseline`.
    """
    run = exp_dir.resolve().name
    if run == LOG_MEL_RUN:
        return FrozenEncoder(run, LogMelStatistics().eval(), sha256_text("mean and deviation of log-mel bins"))
    folder = exp_dir / "encoder"
    if not folder.is_dir():
        raise UserError(f"{folder}: no exported encoder; train the run first (stages 4 and 5)")
    if (folder / CONFIG_FILE).is_file():
        module = AudioEncoder.load(folder).eval().requires_grad_(False)
    else:
        from icefall_alp.evaluation.baselines import load_baseline  # transformers takes seconds to import

        module = load_baseline(folder)
    return FrozenEncoder(run, module, encoder_digest(folder), _last_step(exp_dir), text_tower_of(exp_dir))


def encoder_digest(folder: Path) -> str:
    """Digest of an exported encoder: of all its files."""
    return sha256_text("\n".join(sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()))


def digest_with_text(digest: str, text_tower: Path | None) -> str:
    """Digest of an encoder, by its own `digest`, and its text tower."""
    files = sorted(path for path in text_tower.rglob("*") if path.is_file()) if text_tower else []
    return sha256_text("\n".join([digest, *map(sha256_file, files)]))


def text_tower_of(exp_dir: Path) -> Path | None:
    """Folder of a run's text tower, if it has one."""
    folder = exp_dir / "text_tower"
    return folder if folder.is_dir() else None


def present_digests(exp_dir: Path) -> set[str]:
    """What the numbers of a run as it is now name as its encoder, alone or with its text tower."""
    digest = encoder_digest(exp_dir / "encoder")
    return {digest, digest_with_text(digest, text_tower_of(exp_dir))}


def open_clips(encoder: FrozenEncoder, folder: Path) -> FeatureShards | WaveformClips:
    """The clips of a stage 2 folder as the encoder wants them: features, or waveforms."""
    return WaveformClips(folder) if getattr(encoder.module, "wants_waveforms", False) else FeatureShards(folder)


def _last_step(exp_dir: Path) -> int | None:
    """Step of the newest checkpoint, which the exported encoder's average ends with."""
    pointer = exp_dir / "checkpoints" / "last"
    name = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else ""
    return int(name.removeprefix("step_")) if name.removeprefix("step_").isdecimal() else None
