# SPDX-License-Identifier: Apache-2.0
"""Caption decoder in BART's shape with two ways to predict the same targets (paper, Eq. 2 and 3).

Autoregressive: token u is predicted from the tokens before it and the audio. Parallel: from the audio alone; every
input is `<mask>` and no position is hidden. There are always `max_tokens` masks, so that neither a caption's words nor
its length, nor its batch mates, reach its prediction. Neither way needs a matrix that says who sees whom.

Inputs follow BART: `</s> <s> words`, targets `<s> words </s>`; the target `<s>` is a constant that nobody scores.
Parameter names are BART's, so public weights load strictly.
Shapes: N captions, U tokens, T audio frames, C channels, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.decoder_layer import DecoderLayer, KeysValues
from icefall_alp.models.kernels import chains
from icefall_alp.models.pooling import valid_frames
from icefall_alp.models.text_tower import (
    TOWER_CONFIG,
    check_fit,
    initial_std,
    quieten_branches,
    read_pretrained,
    read_tower,
    restore,
    save_tower,
    tower_tokenizer,
)
from icefall_alp.models.tokenizer import Tokenizer
from icefall_alp.utils.errors import UserError

BART_POSITIONS = 1024
POSITION_OFFSET = 2  # BART's position table begins with two rows that are never used
TIED_OR_ZERO = (
    "final_logits_bias", "lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight",
)  # fmt: skip


Past = list[KeysValues]  # of each layer


@dataclass(frozen=True)
class DecoderSizes:
    """Everything the weights' shapes follow from, and how captions enter."""

    encoder_dim: int  # channels of the audio frames
    vocab_size: int
    start_id: int  # the input before `<s>`
    max_tokens: int  # longest caption, `<s>` and `</s>` included
    hidden_size: int = 768
    num_layers: int = 6
    num_heads: int = 12
    feedforward_dim: int = 3072
    dropout: float = 0.1  # on embeddings and residual branches
    num_positions: int = BART_POSITIONS
    scale_embedding: bool = False  # token embeddings times sqrt(hidden_size)


@dataclass(frozen=True)
class Memory:
    """The audio as every layer's cross-attention sees it."""

    layers: list[KeysValues]
    mask: Tensor  # (N, 1, 1, T) bool, true where a frame is real


class TextDecoder(nn.Module):
    """Audio frames and captions to hidden states that predict the captions' tokens.

    Args:
        sizes: of the weights.
        tokenizer: of the same vocabulary.
    """

    def __init__(self, sizes: DecoderSizes, tokenizer: Tokenizer):
        super().__init__()
        dim = sizes.hidden_size
        self.sizes = sizes
        self.tokenizer = tokenizer
        self.embed_tokens = nn.Embedding(sizes.vocab_size, dim)
        self.embed_positions = nn.Embedding(sizes.num_positions + POSITION_OFFSET, dim)
        self.layernorm_embedding = nn.LayerNorm(dim)
        layer_sizes = (dim, sizes.num_heads, sizes.feedforward_dim, sizes.dropout)
        self.layers = nn.ModuleList([DecoderLayer(*layer_sizes) for _ in range(sizes.num_layers)])
        self.register_buffer("final_logits_bias", torch.zeros(1, sizes.vocab_size))
        _initialize(self, initial_std(dim))
        quieten_branches(self.layers, r"out_proj|fc2", 3 * sizes.num_layers)
        self.bridge = nn.Identity() if sizes.encoder_dim == dim else nn.Linear(sizes.encoder_dim, dim)

    @classmethod
    def build(cls, config: TextTowerConfig, encoder_dim: int) -> TextDecoder:
        """Make the decoder of a configuration: pretrained when it names a folder, else random.

        Args:
            config: the sizes; those of a pretrained folder, BART's or one of `save`, win over them, except dropout
                and caption length.
            encoder_dim: channels of the audio frames; a linear bridge maps them where the width differs.

        Raises:
            UserError: the tokenizer or the pretrained folder is missing, damaged or does not fit.
        """
        if config.pretrained and (Path(config.pretrained) / TOWER_CONFIG).is_file():
            return _for_other_frames(cls.load(config.pretrained), config, encoder_dim)
        tokenizer = tower_tokenizer(config)
        if config.pretrained:
            return _pretrained(config, tokenizer, encoder_dim)
        return cls(decoder_sizes(config, tokenizer, encoder_dim), tokenizer)

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor, int]:
        """Return ids (N, U) and lens (N,) on the CPU, and how many captions were cut."""
        return self.tokenizer.encode(texts, self.sizes.max_tokens)

    def memory(self, encoder_out: Tensor, encoder_out_lens: Tensor) -> Memory:
        """Project audio frames (N, T, encoder_dim) with lens (N,) once for all layers."""
        frames = self.bridge(encoder_out)
        mask = valid_frames(encoder_out_lens, frames.size(1))[:, None, None, :]
        return Memory([layer.encoder_attn.keys_values(frames) for layer in self.layers], mask)

    def forward(self, ids: Tensor, memory: Memory) -> Tensor:
        """Predict captions left to right (Eq. 2), all positions in one pass.

        Args:
            ids: (N, U) as `tokenize` gives them, on this decoder's device.
            memory: the audio.

        Returns:
            States (N, U, C); `project(states[:, u])` are the logits of `ids[:, u]`.
        """
        # no mask for the padding: it lies to the right of everything that is predicted
        inputs = F.pad(ids[:, :-1], (1, 0), value=self.sizes.start_id)
        return self._run(self._embed(inputs, 0), memory)[0]

    def at_once(self, memory: Memory, num_tokens: int) -> Tensor:
        """Predict captions from the audio alone (Eq. 3).

        Args:
            memory: the audio of N clips.
            num_tokens: how many tokens of each are asked for; it changes no prediction.

        Returns:
            States (N, num_tokens, C) as of `forward`.
        """
        masks = torch.full((1, self.sizes.max_tokens), self.tokenizer.mask_id, device=memory.mask.device)
        hidden = self._embed(masks, 0).expand(len(memory.mask), -1, -1)
        return self._run(hidden, memory, is_causal=False, num_wanted=num_tokens)[0]

    def step(self, tokens: Tensor, memory: Memory, past: Past | None) -> tuple[Tensor, Past]:
        """Continue captions by the tokens (N, 1) that come after those in `past`, or begin them (None) by (N, U).

        There may be several captions for each clip of `memory`: N is then a multiple, and those of a clip are in a row.

        Returns:
            States (N, U, C), the last of which predicts the next token, and the new past.

        Raises:
            ValueError: several tokens at a time after a past; they would see each other.
        """
        if past is None:
            return self._run(self._embed(tokens, 0), memory)
        if tokens.size(1) != 1:
            raise ValueError(f"{tokens.size(1)} tokens after a past: give one at a time")
        return self._run(self._embed(tokens, past[0][0].size(2)), memory, past, is_causal=False)

    def project(self, states: Tensor) -> Tensor:
        """Map states (..., C) to logits (..., V); the matrix is that of the token embeddings."""
        return chains.logits(states, self.embed_tokens.weight, self.final_logits_bias.squeeze(0))

    def _embed(self, inputs: Tensor, num_past: int) -> Tensor:
        first = POSITION_OFFSET + num_past
        positions = self.embed_positions.weight[first : first + inputs.size(1)]
        scale = math.sqrt(self.sizes.hidden_size) if self.sizes.scale_embedding else 1.0
        return self.layernorm_embedding(self.embed_tokens(inputs) * scale + positions)

    def _run(
        self,
        hidden: Tensor,
        memory: Memory,
        past: Past | None = None,
        is_causal: bool = True,
        num_wanted: int | None = None,
    ) -> tuple[Tensor, Past]:
        hidden = F.dropout(hidden, self.sizes.dropout, self.training)
        present, last = [], len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            layer_past = None if past is None else past[index]
            wanted = num_wanted if index == last else None  # what comes before the last serves all positions
            hidden, keys_values = layer(hidden, memory.layers[index], memory.mask, layer_past, is_causal, wanted)
            present.append(keys_values)
        return hidden, present

    def save(self, folder: str | Path) -> None:
        """Write sizes, weights and tokenizer."""
        save_tower(Path(folder), self, self.tokenizer, asdict(self.sizes))

    @classmethod
    def load(cls, folder: str | Path) -> TextDecoder:
        """Read what `save` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        sizes, tokenizer, weights = read_tower(Path(folder))
        decoder = cls(DecoderSizes(**sizes), tokenizer)
        restore(decoder, weights, Path(folder))
        return decoder


def decoder_sizes(config: TextTowerConfig, tokenizer: Tokenizer, encoder_dim: int) -> DecoderSizes:
    """Return the sizes of a decoder with random weights."""
    return DecoderSizes(
        encoder_dim=encoder_dim,
        vocab_size=tokenizer.vocab_size,
        start_id=tokenizer.eos_id,
        max_tokens=config.max_text_tokens,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        feedforward_dim=config.feedforward_dim,
        dropout=config.dropout,
        num_positions=max(BART_POSITIONS, config.max_text_tokens),
    )


def _pretrained(config: TextTowerConfig, tokenizer: Tokenizer, encoder_dim: int) -> TextDecoder:
    from transformers import BartForConditionalGeneration  # takes seconds to import

    folder = config.pretrained
    bart = read_pretrained(BartForConditionalGeneration, folder, ("bart",), TIED_OR_ZERO)
    theirs = bart.config
    if theirs.activation_function != "gelu":
        raise UserError(f"{folder}: its activation is {theirs.activation_function}; the decoder here has BART's gelu")
    check_fit(tokenizer, config.max_text_tokens, theirs.vocab_size, theirs.max_position_embeddings, folder)
    sizes = DecoderSizes(
        encoder_dim=encoder_dim,
        vocab_size=theirs.vocab_size,
        start_id=theirs.decoder_start_token_id,
        max_tokens=config.max_text_tokens,
        hidden_size=theirs.d_model,
        num_layers=theirs.decoder_layers,
        num_heads=theirs.decoder_attention_heads,
        feedforward_dim=theirs.decoder_ffn_dim,
        dropout=config.dropout,
        num_positions=theirs.max_position_embeddings,
        scale_embedding=theirs.scale_embedding,
    )
    decoder = TextDecoder(sizes, tokenizer)
    weights = {f"bridge.{name}": tensor for name, tensor in decoder.bridge.state_dict().items()}
    weights |= bart.model.decoder.state_dict() | {"final_logits_bias": bart.final_logits_bias}
    restore(decoder, weights, Path(folder))
    return decoder


def _for_other_frames(saved: TextDecoder, config: TextTowerConfig, encoder_dim: int) -> TextDecoder:
    """A saved decoder with a new bridge, from frames of another width."""
    check_fit(
        saved.tokenizer, config.max_text_tokens, saved.sizes.vocab_size, saved.sizes.num_positions, config.pretrained
    )
    sizes = replace(saved.sizes, encoder_dim=encoder_dim, max_tokens=config.max_text_tokens, dropout=config.dropout)
    decoder = TextDecoder(sizes, saved.tokenizer)
    weights = {name: tensor for name, tensor in saved.state_dict().items() if not name.startswith("bridge.")}
    weights |= {f"bridge.{name}": tensor for name, tensor in decoder.bridge.state_dict().items()}
    restore(decoder, weights, Path(config.pretrained))
    return decoder


def _initialize(module: nn.Module, std: float) -> None:
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Embedding):
            nn.init.normal_(child.weight, std=std)
        if isinstance(child, nn.Linear):
            nn.init.zeros_(child.bias)
