# SPDX-License-Identifier: Apache-2.0
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from icefall_alp.config import TextTowerConfig
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("same_random_numbers")

SPLITS = {1: [range(8)], 2: [range(3), range(3, 8)]}


class Averages(nn.Module):
    """A toy audio encoder; captions are numbers for `Numbers`."""

    output_dim = 8

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 8)

    def forward(self, features, feature_lens):
        return self.linear(features).tanh(), feature_lens


class Numbers(nn.Module):
    """A toy text encoder with one vector per caption."""

    output_dim = 5

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 5)

    def tokenize(self, texts):
        return torch.tensor([[int(text)] for text in texts]), torch.ones(len(texts), dtype=torch.int64), 0

    def encode(self, ids, lens):
        return self.table(ids[:, 0])


def one_step(world_size):
    """Loss and gradients of the mean over all clips, this process seeing its part of the same eight."""
    torch.manual_seed(0)
    objective = ContrastiveObjective(Averages(), Numbers(), embedding_dim=4, initial_temperature=0.2).double()
    features, lens = torch.randn(8, 7, 6, dtype=torch.float64), torch.tensor([7, 3, 5, 1, 2, 7, 6, 4])
    part = SPLITS[world_size][distributed.rank()]
    batch = SimpleNamespace(features=features[part], feature_lens=lens[part], captions=[str(n) for n in part])
    model = objective if world_size == 1 else DistributedDataParallel(objective)
    output = model(batch)
    count = distributed.all_reduce_sum(output.count)
    (output.total * world_size / count).backward()
    gradients = {name: p.grad.tolist() for name, p in objective.named_parameters()}
    hits = distributed.all_reduce_sum(output.logs["R@1_text_to_audio"])
    return {
        "loss": float(distributed.all_reduce_sum(output.total) / count),
        "gradients": gradients,
        "hits": hits.tolist(),
    }


def test_two_processes_with_uneven_halves_equal_one_with_the_whole_batch():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = Path(__file__).parents[2]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ALP_DEVICE": "cpu"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__], stdout=subprocess.PIPE, text=True,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": str(root)},
        )
        for rank in "01"
    ]  # fmt: skip
    try:
        outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0]
    whole = one_step(1)
    for output in outputs:
        parts = json.loads(output.splitlines()[-1])
        assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
        assert parts["hits"] == whole["hits"]
        for name, gradient in whole["gradients"].items():
            torch.testing.assert_close(
                torch.tensor(parts["gradients"][name]), torch.tensor(gradient), rtol=1e-6, atol=1e-9
            )


@pytest.fixture
def objective(audio_encoder, tokenizer_path):
    config = TextTowerConfig(
        tokenizer=str(tokenizer_path), hidden_size=16, num_layers=1, num_heads=2, feedforward_dim=32, max_text_tokens=7
    )
    return ContrastiveObjective(audio_encoder, TextEncoder.build(config), embedding_dim=4, initial_temperature=0.07)


def test_the_loss_equals_a_double_loop_over_equation_1(objective, caption_batch):
    objective.eval()
    audio = objective.embed_audio(caption_batch.features, caption_batch.feature_lens).tolist()
    text = objective.embed_text(caption_batch.captions).tolist()

    def similarity(i, j):
        return sum(a * t for a, t in zip(audio[i], text[j], strict=True)) / 0.07

    items = range(5)
    total = 0.0
    for i in items:
        to_text = math.exp(similarity(i, i)) / sum(math.exp(similarity(i, j)) for j in items)
        to_audio = math.exp(similarity(i, i)) / sum(math.exp(similarity(j, i)) for j in items)
        total -= 0.5 * (math.log(to_text) + math.log(to_audio))
    output = objective(caption_batch)
    assert output.total.item() == pytest.approx(total, rel=1e-4)
    assert float(output.count) == 5
    hits = sum(max(items, key=lambda j: similarity(i, j)) == i for i in items)
    assert output.logs["R@1_audio_to_text"].tolist() == [hits, 5]
    temperature = output.logs["temperature"]
    assert float(temperature[0] / temperature[1]) == pytest.approx(0.07, rel=1e-5)
    cut = objective.text_encoder.tokenize(caption_batch.captions)[2]
    assert 0 < cut < 5 and output.logs["captions_cut"].tolist() == [cut, 5]


def test_embeddings_are_unit_vectors_that_do_not_depend_on_padding(objective, caption_batch):
    objective.eval()
    embedded = objective.embed_audio(caption_batch.features, caption_batch.feature_lens)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(objective.embed_text(caption_batch.captions).norm(dim=1), torch.ones(5))
    alone = objective.embed_audio(caption_batch.features[1:2, :3], caption_batch.feature_lens[1:2])
    torch.testing.assert_close(embedded[1:2], alone, atol=1e-6, rtol=1e-5)


def test_all_parameters_learn(objective, caption_batch):
    objective(caption_batch).total.backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None] == []


def test_the_logit_scale_stays_below_its_limit_and_can_come_back(objective, caption_batch):
    with torch.no_grad():
        objective.logit_scale.fill_(9.0)
    output = objective(caption_batch)
    output.total.backward()
    assert objective.logit_scale.item() == pytest.approx(math.log(100.0))
    assert float(output.logs["temperature"][0]) == pytest.approx(5 / 100.0)
    assert float(objective.logit_scale.grad) != 0.0


def test_similarities_are_not_rounded_under_autocast(objective, caption_batch):
    objective.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = objective(caption_batch)
        audio = objective.embed_audio(caption_batch.features, caption_batch.feature_lens)
        text = objective.embed_text(caption_batch.captions)
    assert audio.dtype == text.dtype == output.total.dtype == torch.float32
    logits = audio @ text.T / 0.07
    labels = torch.arange(5)
    expected = sum(nn.functional.cross_entropy(x, labels, reduction="sum") for x in (logits, logits.T)) / 2
    torch.testing.assert_close(output.total, expected)


if __name__ == "__main__":
    ranks = distributed.setup()
    print(json.dumps(one_step(ranks.world_size)))
    distributed.cleanup()


@pytest.fixture
def towers(tokenizer_path):
    config = TextTowerConfig(
        tokenizer=str(tokenizer_path), hidden_size=16, num_layers=1, num_heads=2, feedforward_dim=32, max_text_tokens=20
    )
    return ContrastiveObjective(Averages(), TextEncoder.build(config), embedding_dim=6, initial_temperature=0.3).eval()


def test_a_saved_text_side_matches_the_same_audio(towers, caption_batch, tmp_path):
    towers.save_text_side(tmp_path / "tower")
    again = ContrastiveObjective.load_text_side(tmp_path / "tower", towers.audio_encoder).eval()
    assert again.embed_text(caption_batch.captions).equal(towers.embed_text(caption_batch.captions))
    audio = caption_batch.features, caption_batch.feature_lens
    assert again.embed_audio(*audio).equal(towers.embed_audio(*audio)) and again.logit_scale == towers.logit_scale


def test_a_text_side_for_another_encoder_or_in_pieces_is_refused(towers, tmp_path):
    towers.save_text_side(tmp_path / "tower")
    with pytest.raises(UserError, match=r"projections.safetensors: does not fit its encoder"):
        ContrastiveObjective.load_text_side(tmp_path / "tower", Wider(9))
    (tmp_path / "tower" / "projections.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"projections.safetensors: does not fit its encoder"):
        ContrastiveObjective.load_text_side(tmp_path / "tower", towers.audio_encoder)
    with pytest.raises(UserError, match="not a saved text tower"):
        ContrastiveObjective.load_text_side(tmp_path / "absent", towers.audio_encoder)


class Wider(nn.Module):
    """An encoder of another width."""

    def __init__(self, output_dim):
        super().__init__()
        self.output_dim = output_dim
