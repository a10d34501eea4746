# SPDX-License-Identifier: Apache-2.0
"""The contract: frozen encoders stay in evaluation, schedules reach trained encoders only."""

import pytest
import torch
from torch import nn

from icefall_alp.objectives.base import LossOutput, Objective


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.batch_count = 0.0

    def set_batch_count(self, value):
        self.batch_count = value

    def set_loss_scale(self, scale):
        self.loss_scale = scale


def test_a_trained_encoder_follows_the_objective():
    objective = Objective(Encoder())
    assert objective.train().audio_encoder.layers[1].training
    assert not objective.eval().audio_encoder.layers[1].training
    objective.set_batch_count(2.5)
    objective.set_loss_scale(torch.tensor(0.5))
    assert (objective.audio_encoder.batch_count, objective.audio_encoder.loss_scale) == (2.5, 0.5)


def test_a_frozen_encoder_stays_in_evaluation():
    objective = Objective(Encoder().requires_grad_(False))
    objective.head = nn.Dropout()
    assert objective.train() is objective
    assert objective.head.training and not objective.audio_encoder.layers[1].training
    objective.set_batch_count(2.5)
    assert objective.audio_encoder.batch_count == 0.0


def test_an_encoder_without_parameters_needs_no_schedule():
    objective = Objective(nn.Identity()).train()
    objective.set_batch_count(1.0)
    objective.set_loss_scale(torch.tensor(1.0))


def test_forward_is_for_subclasses_and_logs_are_optional():
    with pytest.raises(NotImplementedError):
        Objective(nn.Identity())(None)
    assert LossOutput(torch.tensor(1.0), torch.tensor(2)).logs == {}
