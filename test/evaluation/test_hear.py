# SPDX-License-Identifier: Apache-2.0
"""What HEAR's validator asks of a model: types, shapes, timestamps at regular steps within the audio."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.evaluation import hear


@pytest.fixture(scope="module")
def model(tiny_encoder_folder):
    return hear.load_model(str(tiny_encoder_folder))


def test_attributes(model):
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate == 16000
    assert type(model.scene_embedding_size) is int and type(model.timestamp_embedding_size) is int


@pytest.mark.parametrize("seconds", [1.07, 1.98, 4.0])
def test_timestamps(model, seconds):
    audio = torch.rand(2, int(seconds * 16000)) * 2 - 1
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == torch.float32 and embeddings.ndim == 3
    assert embeddings.shape == (2, timestamps.shape[1], model.timestamp_embedding_size)
    assert embeddings.shape[:2] == timestamps.shape
    steps = timestamps.diff(dim=1)
    assert (steps - steps.mean()).abs().max() < 1.0 and steps.max() <= 50.0
    assert timestamps.min() <= steps.mean() and 1000 * seconds - 50 <= timestamps.max() <= 1000 * seconds


def test_scenes_are_the_means_of_the_frames(model):
    audio = torch.rand(3, 43840) * 2 - 1
    scenes = hear.get_scene_embeddings(audio, model)
    assert scenes.dtype == torch.float32 and scenes.shape == (3, model.scene_embedding_size)
    torch.testing.assert_close(scenes, hear.get_timestamp_embeddings(audio, model)[0].mean(1), atol=1e-5, rtol=1e-4)
