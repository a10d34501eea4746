# SPDX-License-Identifier: Apache-2.0
"""Captions are spoilt as said, and restored after a little training."""

import pytest
import torch

from icefall_alp.config import TextTowerConfig
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.denoising import DenoisingObjective, spoil

pytestmark = pytest.mark.usefixtures("same_random_numbers")
MASK = 4


@pytest.fixture
def objective(tokenizer_path):
    config = TextTowerConfig(
        tokenizer=str(tokenizer_path), hidden_size=32, num_layers=1, num_heads=2, feedforward_dim=64, dropout=0.0,
        max_text_tokens=32,
    )  # fmt: skip
    return DenoisingObjective(TextEncoder.build(config), TextDecoder.build(config, 32), 0.3, 0.0)


def test_spans_of_words_become_one_mask_each():
    ids = torch.cat([torch.tensor([1]), torch.arange(100, 140), torch.tensor([2])])
    shares = []
    for _ in range(200):
        row = spoil(ids, MASK, 0.3).tolist()
        assert (row[0], row[-1]) == (1, 2)
        kept = [i for i in row if i >= 100]
        assert kept == sorted(kept), "the others keep their order"
        gaps = sum(b != a + 1 for a, b in zip([99, *kept], [*kept, 140], strict=True))
        assert row.count(MASK) == gaps, "one mask where something is missing, none elsewhere"
        shares.append(1 - len(kept) / 40)
    assert max(shares) == pytest.approx(0.3) and sum(shares) / 200 > 0.24  # spans that overlap hide less


def test_short_captions_keep_their_ends():
    assert spoil(torch.tensor([1, 2]), MASK, 0.3).tolist() == [1, 2]
    assert spoil(torch.tensor([1, 50, 2]), MASK, 0.3).tolist() == [1, 50, 2]
    assert spoil(torch.tensor([1, 50, 51, 2]), MASK, 1.0).tolist() == [1, MASK, 2]


def test_what_the_trainer_asks_of_an_audio_encoder_is_answered_without_one(objective):
    """A run that was interrupted is continued, and activations of so short rows are kept."""
    objective.set_training_state(objective.training_state())
    assert objective.recomputable_layers() == []


def test_what_cross_attention_reads_restores_the_caption(objective, caption_batch):
    batch = CaptionBatch(
        torch.zeros(5, 1, 1), torch.ones(5, dtype=torch.long), caption_batch.captions, caption_batch.cut_ids
    )
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        output = objective(batch)
        (output.total / output.count).backward()
        optimizer.step()
    assert [name for name, p in objective.named_parameters() if p.grad is None] == []
    assert output.total.item() / output.count.item() < 0.8
    objective.eval()
    decoder = objective.text_decoder
    ids, lens, _ = decoder.tokenize(batch.captions)

    @torch.no_grad()
    def loss_when_reading(order):
        memory = decoder.memory(*objective.audio_encoder(ids[order], lens[order]))
        log_probs = decoder.project(decoder(ids, memory)).log_softmax(dim=-1).gather(2, ids[..., None])
        return -sum(float(row[1:length].sum()) for row, length in zip(log_probs, lens, strict=True))

    own, others = loss_when_reading(torch.arange(5)), loss_when_reading(torch.arange(5).roll(1))
    assert others > 2 * own, "the decoder must listen to what is read"
