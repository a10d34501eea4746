# SPDX-License-Identifier: Apache-2.0
"""Denoising objective (BART, Lewis et al. 2020): a decoder learns to restore captions from spoilt ones.

This is how BART's decoder has learnt its language, and what a tiny one for the embedded corpora is made by. With a
masked share of 1 nothing is left to read, and it learns the language from the text alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.base import LossOutput
from icefall_alp.objectives.captioning import CaptioningObjective
from icefall_alp.utils.transfer import send

SPAN_LENGTH = 3.0  # tokens, mean of the Poisson distribution; BART's


class TokenFrames(nn.Module):
    """A text encoder in the place of the audio encoder: ids (N, U) with lens (N,) to one frame per token.

    Args:
        text_encoder: the hidden states of its tokens are the frames.
    """

    def __init__(self, text_encoder: TextEncoder) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.output_dim = text_encoder.output_dim

    def forward(self, ids: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames (N, U, output_dim) and lens."""
        return self.text_encoder.encode_tokens(ids, lens), lens


class DenoisingObjective(CaptioningObjective):
    """Cross-entropy of captions given the same captions with spans of tokens replaced by one `<mask>` each.

    Args:
        text_encoder: reads the spoilt captions; shares the decoder's vocabulary.
        text_decoder: what is trained for later.
        masked_share: of each caption's tokens.
        label_smoothing: in training only.
    """

    def __init__(
        self, text_encoder: TextEncoder, text_decoder: TextDecoder, masked_share: float, label_smoothing: float
    ) -> None:
        super().__init__(TokenFrames(text_encoder), text_decoder, 0.0, label_smoothing)
        self.masked_share = masked_share

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a `CaptionBatch`, of whose features only the device is used."""
        ids, lens, _ = self.text_decoder.tokenize(batch.captions)
        pairs, mask_id = zip(ids, lens, strict=True), self.text_decoder.tokenizer.mask_id
        rows = [spoil(row[:length], mask_id, self.masked_share) for row, length in pairs]
        spoilt = pad_sequence(rows, batch_first=True, padding_value=self.text_decoder.tokenizer.pad_id)
        spoilt_lens, device = torch.tensor([len(row) for row in rows]), batch.features.device
        return super().forward(replace(batch, features=send(spoilt, device), feature_lens=send(spoilt_lens, device)))

    @property
    def scheduled_encoder(self) -> None:
        """None: captions take the place of audio, and their encoder has no schedules."""


def spoil(ids: Tensor, mask_id: int, share: float) -> Tensor:
    """Replace spans of a caption's tokens (U,) by one `<mask>` each; `<s>` and `</s>` stay.

    Spans have one token at least, where BART also puts masks between tokens. Random numbers are PyTorch's, on the CPU.

    Args:
        ids: one caption, `<s>` and `</s>` included.
        mask_id: of `<mask>`.
        share: of the tokens between them; spans that overlap hide less, but for a share of 1.
    """
    num_words = len(ids) - 2
    hidden = torch.zeros(len(ids), dtype=torch.bool)
    hidden[1:-1] = share >= 1.0
    left = round(share * num_words) if share < 1.0 else 0
    while left > 0:
        length = min(left, max(1, int(torch.poisson(torch.tensor(SPAN_LENGTH)))))
        start = 1 + int(torch.randint(num_words - length + 1, ()))
        hidden[start : start + length] = True
        left -= length
    follows_hidden = hidden & torch.cat([hidden.new_zeros(1), hidden[:-1]])
    return ids.masked_fill(hidden, mask_id)[~follows_hidden]
