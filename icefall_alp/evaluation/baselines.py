# SPDX-License-Identifier: Apache-2.0
"""Encoders trained elsewhere, from a local folder: wav2vec 2.0, HuBERT, MERT and WavLM as `transformers` keeps them.

The folder is `exp/<run>/encoder`, with `config.json` and the weights as published; BEATs, which `transformers` does not
have, is read by `beats` from its own file. Nothing is fetched. Each is given waveforms and gives its last layer's
frames, as our encoders do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import resample
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from icefall_alp.data.fbank import SAMPLING_RATE
from icefall_alp.evaluation.beats import BeatsEncoder
from icefall_alp.models.pooling import valid_frames
from icefall_alp.utils.errors import UserError

CLASSES = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "mert_model": (HubertConfig, HubertModel),  # MERT is HuBERT trained on music
    "wavlm": (WavLMConfig, WavLMModel),
}
UNUSED = ("masked_spec_embed",)  # parameters of pretraining alone
_VARIANCE_FLOOR = 1e-7


class SpeechEncoder(nn.Module):
    """A `transformers` speech encoder on waveforms.

    Args:
        model: As loaded.
        sampling_rate: Hz that it was trained at; waveforms of 16 kHz are resampled.
        normalize: Whether each waveform is brought to mean 0 and variance 1 first.
    """

    wants_waveforms = True
    padding_value = 0.0

    def __init__(self, model: nn.Module, sampling_rate: int, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.sampling_rate = sampling_rate
        self.normalize = normalize
        self.output_dim = model.config.hidden_size
        self.min_frames = self._shortest()

    def _shortest(self) -> int:
        """Samples at 16 kHz that one frame needs."""
        samples = 1
        sizes = zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True)
        for kernel, stride in reversed(list(sizes)):
            samples = (samples - 1) * stride + kernel
        return -(-samples * SAMPLING_RATE // self.sampling_rate) + 1

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (N, S) at 16 kHz with lens (N,) to frames (N, T, C) of the last layer with lens (N,)."""
        if self.sampling_rate != SAMPLING_RATE:
            waveforms = resample(waveforms, SAMPLING_RATE, self.sampling_rate)
            lens = (lens * self.sampling_rate + SAMPLING_RATE - 1) // SAMPLING_RATE
        valid = valid_frames(lens, waveforms.shape[1])
        if self.normalize:
            mean = (waveforms * valid).sum(1, keepdim=True) / lens[:, None]
            variance = ((waveforms - mean).square() * valid).sum(1, keepdim=True) / lens[:, None]
            waveforms = (waveforms - mean) / (variance + _VARIANCE_FLOOR).sqrt()
        if self.model.config.feat_extract_norm == "group":
            return self._one_by_one(waveforms, lens)
        out = self.model(waveforms * valid, attention_mask=valid.long()).last_hidden_state
        return out, self.model._get_feat_extract_output_lengths(lens)

    def _one_by_one(self, waveforms: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encoders whose first layer is normalised over time know no mask: padding would change every frame."""
        outs = [
            self.model(own[None, :length]).last_hidden_state[0]
            for own, length in zip(waveforms, lens.tolist(), strict=True)
        ]
        out_lens = torch.tensor([len(out) for out in outs], device=lens.device)
        return nn.utils.rnn.pad_sequence(outs, batch_first=True), out_lens


def load_baseline(folder: Path) -> nn.Module:
    """The encoder in a folder: a `transformers` model with config.json, or one BEATs `.pt` file.

    Raises:
        UserError: Neither is there, the kind is unknown, or parameters are missing.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        weights = sorted(folder.glob("*.pt"))
        if len(weights) != 1:
            raise UserError(f"{folder}: neither an exported encoder, nor config.json, nor one .pt file of BEATs")
        return BeatsEncoder.load(weights[0]).eval().requires_grad_(False)
    declared = _read_config(config_file)
    kind = declared.pop("model_type", None)
    if kind not in CLASSES:
        raise UserError(f"{config_file}: model_type {kind!r} is none of {', '.join(CLASSES)}")
    if declared.get("feature_extractor_cqt"):
        raise UserError(f"{config_file}: MERT with a constant-Q input is not read; take one without")
    config_class, model_class = CLASSES[kind]
    config = config_class(**declared)
    try:
        model, loaded = model_class.from_pretrained(folder, config=config, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder}: weights cannot be read ({str(error).splitlines()[0]})") from error
    missing = [name for name in loaded["missing_keys"] if name not in UNUSED]
    if missing:
        raise UserError(f"{folder}: {len(missing)} parameters are missing, {sorted(missing)[0]} among them")
    input_file = folder / "preprocessor_config.json"
    settings = _read_config(input_file) if input_file.is_file() else {}
    rate = settings.get("sampling_rate", declared.get("sample_rate", SAMPLING_RATE))
    return SpeechEncoder(model, rate, settings.get("do_normalize", True)).eval().requires_grad_(False)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable JSON ({error}); copy it from where the weights are published") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a mapping; copy it from where the weights are published")
    return content
