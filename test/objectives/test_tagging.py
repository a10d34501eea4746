# SPDX-License-Identifier: Apache-2.0
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from icefall_alp.objectives.tagging import TaggingObjective

pytestmark = pytest.mark.usefixtures("same_random_numbers")


@pytest.fixture
def batch():
    return SimpleNamespace(
        features=torch.randn(3, 10, 6),
        feature_lens=torch.tensor([10, 4, 7]),
        targets=torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]),
    )


def test_the_head_has_icefalls_names_and_no_other_parameter(audio_encoder):
    objective = TaggingObjective(audio_encoder, 4, dropout=0.1)
    names = {name for name in objective.state_dict() if not name.startswith("audio_encoder.")}
    assert names == {"classifier.1.weight", "classifier.1.bias"}
    assert [type(layer) for layer in objective.classifier] == [nn.Dropout, nn.Linear]


@torch.no_grad()
def test_multi_label_loss_equals_a_loop_over_frames_and_classes(audio_encoder, batch):
    objective = TaggingObjective(audio_encoder, 4, dropout=0.5).eval()
    frames, lens = audio_encoder(batch.features, batch.feature_lens)
    total = 0.0
    for n in range(3):
        per_frame = [objective.classifier[1](frames[n, t]) for t in range(lens[n])]
        for k in range(4):
            probability = 1 / (1 + math.exp(-sum(float(logits[k]) for logits in per_frame) / len(per_frame)))
            target = float(batch.targets[n, k])
            total -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
    output = objective(batch)
    assert output.total.item() == pytest.approx(total, rel=1e-5)
    assert float(output.count) == 3


def test_dropout_is_on_frames_before_the_linear_layer(audio_encoder, batch):
    objective = TaggingObjective(audio_encoder, 4, dropout=1.0)
    bias = objective.classifier[1].bias.expand(3, 4)
    torch.testing.assert_close(objective.classify(batch.features, batch.feature_lens), bias)


def test_before_training_a_clip_has_about_one_of_many_classes(audio_encoder, batch):
    logits = TaggingObjective(audio_encoder, 100, dropout=0.0).classify(batch.features, batch.feature_lens)
    assert logits.sigmoid().sum(1).mean().item() == pytest.approx(1.0, rel=0.5)
    logits = TaggingObjective(audio_encoder, 100, dropout=0.0, multi_label=False).classifier[1].bias
    assert abs(logits.mean().item()) < 0.1


def test_single_label_loss_is_cross_entropy(audio_encoder, batch):
    objective = TaggingObjective(audio_encoder, 4, dropout=0.1, multi_label=False).eval()
    classes = torch.tensor([2, 0, 3])
    batch.targets = torch.eye(4)[classes]
    logits = objective.classify(batch.features, batch.feature_lens)
    output = objective(batch)
    assert output.total.item() == pytest.approx(nn.functional.cross_entropy(logits, classes).item() * 3, rel=1e-5)
    hits, count = output.logs["top1_accuracy"].tolist()
    assert (hits, count) == (int((logits.argmax(dim=1) == classes).sum()), 3)


def test_padding_does_not_change_the_loss_and_all_parameters_learn(audio_encoder, batch):
    objective = TaggingObjective(audio_encoder, 4, dropout=0.0)
    loss = objective(batch).total
    loss.backward()
    assert all(p.grad is not None for p in objective.parameters())
    batch.features[1, 4:] = 100.0
    torch.testing.assert_close(objective(batch).total, loss)
