# SPDX-License-Identifier: Apache-2.0
"""BEATs (Chen et al. 2022) from its published `.pt` file, built of WavLM's layers, which it shares.

An fbank of 128 bins is cut into patches of 16 x 16, which a transformer with gated relative positions reads, eight of
one time after the other. Its residuals are multiplied by alpha = (2 x layers)^(1/4) before each layer norm ("deep
norm"). A layer norm does not see the size of its input, so LN(alpha x + f(x)) is LN(x + f(x) / alpha): the weights that
end f are divided by alpha, and the norm's epsilon by its square, and WavLM's layers need no change.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import fbank
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMEncoder

from icefall_alp.data.fbank import SAMPLING_RATE
from icefall_alp.models.encoder_files import read_tensors
from icefall_alp.models.pooling import valid_frames
from icefall_alp.utils.errors import UserError

NUM_BINS, MEAN, DEVIATION = 128, 15.41663, 6.55582  # of the fbank that BEATs was trained on
PATCH = 16  # frames and bins
MAX_DISTANCE = 800  # of relative positions, in tokens
EPSILON = 1e-5
_LEAD_SAMPLES = 240  # a window of 25 ms, of which 10 ms belong to the next frame
_NAMES = (  # BEATs' names of a layer, and WavLM's
    ("self_attn.grep_linear.", "attention.gru_rel_pos_linear."),
    ("self_attn.grep_a", "attention.gru_rel_pos_const"),
    ("self_attn.relative_attention_bias.", "attention.rel_attn_embed."),
    ("self_attn_layer_norm.", "layer_norm."),
    ("self_attn.", "attention."),
    ("fc1.", "feed_forward.intermediate_dense."),
    ("fc2.", "feed_forward.output_dense."),
)
_HEAD = ("predictor.", "predictor_dropout.")  # of the fine-tuned files


class BeatsEncoder(nn.Module):
    """BEATs on waveforms; frames are the means of the eight patches of one time, every 160 ms.

    Args:
        state: Parameters under BEATs' names; all sizes follow from them.

    Raises:
        UserError: A parameter is missing or unknown.
    """

    wants_waveforms = True
    padding_value = 0.0
    min_frames = _LEAD_SAMPLES + PATCH * SAMPLING_RATE // 100

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        state = {name: value for name, value in state.items() if not name.startswith(_HEAD)}
        try:
            config = _config(state)
            width = len(state["layer_norm.weight"])
        except KeyError as error:
            raise UserError(f"no parameter {error} in it: not a BEATs checkpoint") from error
        self.output_dim = config.hidden_size
        self.patch_embedding = nn.Conv2d(1, width, PATCH, PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(width)
        self.post_extract_proj = nn.Linear(width, config.hidden_size)
        self.encoder = WavLMEncoder(config)
        self.encoder.layer_norm.eps = EPSILON
        renamed = _renamed(state, config.num_hidden_layers)
        wanted = self.state_dict()
        wrong = sorted(wanted.keys() ^ renamed.keys())
        if wrong:
            raise UserError(
                f"{len(wrong)} parameters missing or unknown, {wrong[0]} among them: not a BEATs checkpoint"
            )
        self.load_state_dict(renamed)

    @classmethod
    def load(cls, path: Path) -> BeatsEncoder:
        """Read a published file.

        Raises:
            UserError: It is damaged or no BEATs checkpoint; names the file.
        """
        try:
            content = read_tensors(path)
            return cls(content["model"] if isinstance(content.get("model"), dict) else content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (N, S) at 16 kHz with lens (N,) to frames (N, T, C) with lens (N,)."""
        features = [
            fbank(own[None, :length] * 2.0**15, num_mel_bins=NUM_BINS, sample_frequency=SAMPLING_RATE)
            for own, length in zip(waveforms, lens.tolist(), strict=True)
        ]
        times = torch.tensor([len(own) // PATCH for own in features], device=waveforms.device)
        padded = nn.utils.rnn.pad_sequence([own[: len(own) // PATCH * PATCH] for own in features], batch_first=True)
        patches = self.patch_embedding(((padded - MEAN) / (2.0 * DEVIATION))[:, None])  # (N, width, T, bins)
        bins = patches.shape[3]
        tokens = self.post_extract_proj(self.layer_norm(patches.flatten(2).transpose(1, 2)))
        mask = valid_frames(times * bins, tokens.shape[1])
        out = self.encoder(tokens, attention_mask=mask).last_hidden_state
        return out.unflatten(1, (-1, bins)).mean(2), times


def _config(state: dict[str, Tensor]) -> WavLMConfig:
    numbers = {int(name.split(".")[2]) for name in state if name.startswith("encoder.layers.")}
    hidden, width = state["post_extract_proj.weight"].shape[0], state["encoder.layers.0.fc1.weight"].shape[0]
    positions = state["encoder.pos_conv.0.weight_v"].shape
    return WavLMConfig(
        hidden_size=hidden,
        num_hidden_layers=len(numbers),
        num_attention_heads=state["encoder.layers.0.self_attn.grep_a"].shape[1],
        intermediate_size=width,
        num_buckets=len(state["encoder.layers.0.self_attn.relative_attention_bias.weight"]),
        max_bucket_distance=MAX_DISTANCE,
        num_conv_pos_embeddings=positions[2],
        num_conv_pos_embedding_groups=hidden // positions[1],
        layer_norm_eps=EPSILON / _alpha(len(numbers)) ** 2,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        layerdrop=0.0,
    )


def _alpha(num_layers: int) -> float:
    return (2.0 * num_layers) ** 0.25


def _renamed(state: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """BEATs' parameters under WavLM's names, with alpha in the weights that end a residual branch."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("encoder.layers."):
            if "relative_attention_bias" in name and not name.startswith("encoder.layers.0."):
                continue  # the same for all layers
            for theirs, ours in _NAMES:
                name = name.replace(theirs, ours)
            if "out_proj." in name or "output_dense." in name:
                value = value / _alpha(num_layers)
        name = name.replace("pos_conv.0.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0")
        name = name.replace("pos_conv.0.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1")
        renamed[name.replace("pos_conv.0.", "pos_conv_embed.conv.")] = value
    return renamed
