# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for encoders, batches and a small tokenizer."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from icefall_alp.models.tokenizer import train_sentencepiece

CAPTIONS = ["a dog barks twice", "soft music plays", "a man speaks over the rain", "birds sing", "a loud engine starts"]


class ToyAudioEncoder(nn.Module):
    """Every second frame through one linear layer."""

    def __init__(self, feature_dim=6, output_dim=8):
        super().__init__()
        self.linear = nn.Linear(feature_dim, output_dim)
        self.output_dim = output_dim

    def forward(self, features, feature_lens):
        return self.linear(features[:, ::2]), (feature_lens + 1) // 2


class FrozenFrames(nn.Module):
    """Features are precomputed frames of a frozen encoder."""

    def __init__(self, output_dim):
        super().__init__()
        self.output_dim = output_dim

    def forward(self, features, feature_lens):
        return features, feature_lens


@pytest.fixture(params=["trained", "frozen"])
def audio_encoder(request):
    return ToyAudioEncoder() if request.param == "trained" else FrozenFrames(6)


@pytest.fixture
def caption_batch():
    return SimpleNamespace(
        features=torch.randn(5, 12, 6),
        feature_lens=torch.tensor([12, 3, 9, 1, 6]),
        captions=list(CAPTIONS),
        cut_ids=[f"yt:{n}" for n in range(5)],
    )


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "bpe.model"
    train_sentencepiece(CAPTIONS * 4, path, vocab_size=80)
    return path


@pytest.fixture
def same_random_numbers():
    torch.manual_seed(0)
