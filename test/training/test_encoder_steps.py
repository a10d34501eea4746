# SPDX-License-Identifier: Apache-2.0
"""Steps are computed in the way that the configuration names."""

from functools import partial

import pytest

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.objectives.tagging import TaggingObjective
from icefall_alp.training.encoder_steps import set_encoder_steps
from icefall_alp.training.recording import RecordedEncode
from icefall_alp.utils.errors import UserError


@pytest.fixture
def objective():
    sizes = {"num_encoder_layers": (1,), "downsampling_factor": (1,), "encoder_dim": (16,), "feedforward_dim": (32,)}
    more = {"encoder_unmasked_dim": (16,), "num_heads": (4,), "cnn_module_kernel": (7,), "frontend_channels": (2, 4, 8)}
    return TaggingObjective(AudioEncoder(ZipformerConfig(**sizes, **more)), 3, 0.0)


def test_as_written_nothing_changes(objective):
    set_encoder_steps(objective, "run")
    encoder = objective.audio_encoder
    assert "encode" not in vars(encoder) and "forward" not in vars(encoder.layers()[0])


def test_layers_are_recomputed_where_that_is_asked_for(objective):
    set_encoder_steps(objective, "recompute")
    assert all(isinstance(layer.forward, partial) for layer in objective.audio_encoder.layers())


def test_the_encoder_is_recorded_where_that_is_asked_for(objective, monkeypatch):
    monkeypatch.setattr("icefall_alp.training.recording.graphs_on", lambda device: None)
    set_encoder_steps(objective, "record")
    assert isinstance(objective.audio_encoder.encode, RecordedEncode)


def test_another_way_is_refused(objective):
    with pytest.raises(UserError, match=r"training\.encoder_steps is 'fast'; use run, recompute, record"):
        set_encoder_steps(objective, "fast")
