# SPDX-License-Identifier: Apache-2.0
"""Text tower of the contrastive objective: a BERT or RoBERTa from transformers together with its tokenizer.

A caption's vector is the mean of its final hidden states (`<s>` and `</s>` included), not the first token's: every
token then gets a gradient from the first step of training from scratch. The pooler that BERT has for its own
pretraining is left out, so no parameter stays without a gradient.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertConfig, PretrainedConfig

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.pooling import masked_mean, valid_frames
from icefall_alp.models.text_passes import similar_lengths
from icefall_alp.models.text_tower import (
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
from icefall_alp.utils.transfer import send

ARCHITECTURES = ("bert", "roberta")
BERT_POSITIONS = 512
TAKES_FOUR_DIMENSIONS = int(transformers.__version__.split(".")[0]) >= 5


class TextEncoder(nn.Module):
    """Captions to vectors.

    Args:
        transformer: a `BertModel` or `RobertaModel` without pooler.
        tokenizer: of the same vocabulary.
        max_tokens: longer captions are cut; `<s>` and `</s>` count.

    Attributes:
        output_dim: size of a caption's vector.
    """

    def __init__(self, transformer: nn.Module, tokenizer: Tokenizer, max_tokens: int):
        super().__init__()
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.output_dim: int = transformer.config.hidden_size

    @classmethod
    def build(cls, config: TextTowerConfig) -> TextEncoder:
        """Make the tower of a configuration: pretrained when it names a folder, else random in BERT's shape.

        Raises:
            UserError: the tokenizer or the pretrained folder is missing, damaged or does not fit.
        """
        tokenizer = tower_tokenizer(config)
        if config.pretrained:
            return cls(_pretrained(config, tokenizer), tokenizer, config.max_text_tokens)
        transformer = _random(bert_config(config, tokenizer))
        quieten_branches(transformer, r"output\.dense", 2 * config.num_layers)
        return cls(transformer, tokenizer, config.max_text_tokens)

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor, int]:
        """Return ids (N, U) on this tower's device, lens (N,) on the CPU, and how many captions were cut."""
        ids, lens, num_cut = self.tokenizer.encode(texts, self.max_tokens)
        return send(ids, next(self.parameters()).device), lens, num_cut

    def encode(self, ids: Tensor, lens: Tensor) -> Tensor:
        """Map tokens (N, U) with lens (N,), these on the CPU, to vectors (N, output_dim).

        Captions of similar length go through the transformer together: a batch's longest would pad all others.
        """
        passes, places = similar_lengths(ids, lens)
        vectors = [masked_mean(self.encode_tokens(tokens, alike), alike) for tokens, alike in passes]
        return torch.cat(vectors)[places]

    def encode_tokens(self, ids: Tensor, lens: Tensor) -> Tensor:
        """Map tokens (N, U) with lens (N,), on one device, to their final hidden states (N, U, output_dim)."""
        mask = valid_frames(lens, ids.size(1))[:, None, :]
        # transformers reads the content of a two-dimensional mask, which makes a GPU wait; one of four dimensions it
        # only applies, or before version 5 one of three
        mask = mask[:, None] if TAKES_FOUR_DIMENSIONS else mask.expand(-1, ids.size(1), -1)
        return self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state

    def forward(self, texts: list[str]) -> Tensor:
        """Map N captions to vectors (N, output_dim)."""
        ids, lens, _ = self.tokenize(texts)
        return self.encode(ids, lens)

    def save(self, folder: str | Path) -> None:
        """Write sizes, weights and tokenizer."""
        # through JSON, because the configuration holds types that YAML does not know
        sizes = json.loads(self.transformer.config.to_json_string(use_diff=False))
        save_tower(Path(folder), self, self.tokenizer, {"max_text_tokens": self.max_tokens, "transformer": sizes})

    @classmethod
    def load(cls, folder: str | Path) -> TextEncoder:
        """Read what `save` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        sizes, tokenizer, weights = read_tower(Path(folder))
        config = AutoConfig.for_model(**sizes["transformer"])
        encoder = cls(_random(config), tokenizer, sizes["max_text_tokens"])
        restore(encoder, weights, Path(folder))
        return encoder


def bert_config(config: TextTowerConfig, tokenizer: Tokenizer) -> BertConfig:
    """Return BERT's configuration with the sizes of `config`."""
    return BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.feedforward_dim,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        max_position_embeddings=max(BERT_POSITIONS, config.max_text_tokens),
        initializer_range=initial_std(config.hidden_size),
        pad_token_id=tokenizer.pad_id,
    )


def _random(config: PretrainedConfig) -> nn.Module:
    return AutoModel.from_config(config, add_pooling_layer=False, attn_implementation="sdpa")


def _pretrained(config: TextTowerConfig, tokenizer: Tokenizer) -> nn.Module:
    folder = config.pretrained
    model = read_pretrained(
        AutoModel, folder, ARCHITECTURES, add_pooling_layer=False, attn_implementation="sdpa",
        hidden_dropout_prob=config.dropout, attention_probs_dropout_prob=config.dropout,
    )  # fmt: skip
    sizes = model.config
    # RoBERTa numbers positions from the padding id + 1
    offset = sizes.pad_token_id + 1 if sizes.model_type == "roberta" else 0
    check_fit(tokenizer, config.max_text_tokens, sizes.vocab_size, sizes.max_position_embeddings - offset, folder)
    return model
