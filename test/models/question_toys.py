# SPDX-License-Identifier: Apache-2.0
"""A small random Qwen2 with its tokenizer."""

from __future__ import annotations

import torch

from icefall_alp.config import LanguageModelConfig
from icefall_alp.models.language_model import LanguageModel

SIZES = LanguageModelConfig(
    dtype="float32", vocab_size=300, hidden_size=16, num_layers=2, num_heads=2, feedforward_dim=32, max_text_tokens=120
)
TEXTS = ["what is to be heard", "a dog", "rain", "user\nassistant\n"]


def small_model(seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    model = LanguageModel.small(TEXTS, SIZES)
    model.network.eval().requires_grad_(False)
    return model
