# SPDX-License-Identifier: Apache-2.0
"""Frozen encoders stay in evaluation, schedules reach trained encoders only."""

import torch
from torch import nn

from icefall_alp.objectives.encoder_in_training import EncoderInTraining


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.batch_count = 0.0

    def set_batch_count(self, value):
        self.batch_count = value

    def set_loss_scale(self, scale):
        self.loss_scale = scale

    def settle(self):
        self.settled = True


def test_a_trained_encoder_follows_the_holder():
    holder = EncoderInTraining(Encoder())
    assert holder.train().audio_encoder.layers[1].training
    assert not holder.eval().audio_encoder.layers[1].training
    holder.set_batch_count(2.5)
    holder.set_loss_scale(torch.tensor(0.5))
    holder.settle()
    encoder = holder.audio_encoder
    assert (encoder.batch_count, encoder.loss_scale, encoder.settled) == (2.5, 0.5, True)


def test_a_frozen_encoder_stays_in_evaluation():
    holder = EncoderInTraining(Encoder().requires_grad_(False))
    holder.head = nn.Dropout()
    assert holder.train() is holder
    assert holder.head.training and not holder.audio_encoder.layers[1].training
    holder.set_batch_count(2.5)
    assert holder.audio_encoder.batch_count == 0.0


def test_an_encoder_without_parameters_needs_no_schedule():
    holder = EncoderInTraining(nn.Identity()).train()
    holder.set_batch_count(1.0)
    holder.set_loss_scale(torch.tensor(1.0))
    holder.settle()
    holder.set_training_state(holder.training_state())
    assert holder.scheduled_encoder is None and holder.training_state() == {} and holder.recomputable_layers() == []
