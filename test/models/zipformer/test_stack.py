# SPDX-License-Identifier: Apache-2.0
"""How the layers of a stack begin, and when each is skipped."""

from __future__ import annotations

import dataclasses

import torch

from icefall_alp.models import AudioEncoder


def test_layers_of_a_stack_start_alike_and_keep_their_own_skip_rates(golden, make_config):
    config = make_config(golden("tiny_config.json")["config"])
    encoder = AudioEncoder(dataclasses.replace(config, num_encoder_layers=(2, 2, 3, 1, 1, 1)))
    for stack in encoder.encoder.encoders:
        layers = getattr(stack, "encoder", stack).layers
        first = layers[0].state_dict()
        for layer in layers[1:]:
            assert all(torch.equal(v, first[k]) for k, v in layer.state_dict().items())
            assert layer.skip_rate != layers[0].skip_rate
            assert layer.norm.bias.data_ptr() != layers[0].norm.bias.data_ptr()
