# SPDX-License-Identifier: Apache-2.0
"""An exported encoder behind the common API of HEAR: `hear-validator icefall_alp.evaluation.hear --model FOLDER`.

FOLDER is `exp/<run>/encoder`. Audio is (n_sounds, n_samples) in [-1, 1] at the model's 16 kHz.
"""

from __future__ import annotations

import torch
from torch import Tensor

from icefall_alp.data.fbank import SAMPLING_RATE
from icefall_alp.evaluation.waveform_encoder import WaveformEncoder
from icefall_alp.models.pooling import masked_mean


class HearModel(WaveformEncoder):
    """The encoder with the attributes that HEAR reads; a scene is the mean of its frames."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.sample_rate = SAMPLING_RATE
        self.scene_embedding_size = self.timestamp_embedding_size = int(self.output_dim)


def load_model(model_file_path: str = "") -> HearModel:
    """The encoder in a folder."""
    return HearModel(model_file_path)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Frames (n_sounds, T, C) float32 and the milliseconds of their middles (n_sounds, T), about 40 ms apart.

    The frames divide the audio evenly, so that the last one lies within a frame of its end.
    """
    samples = torch.full((len(audio),), audio.shape[1], device=audio.device)
    frames, _ = model(audio, samples)
    step = 1000.0 * audio.shape[1] / SAMPLING_RATE / frames.shape[1]
    middles = (torch.arange(frames.shape[1], device=audio.device) + 0.5) * step
    return frames, middles.repeat(len(audio), 1)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """The mean of each sound's frames: (n_sounds, C) float32."""
    return masked_mean(*model(audio, torch.full((len(audio),), audio.shape[1], device=audio.device)))
