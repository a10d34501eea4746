# SPDX-License-Identifier: Apache-2.0
"""A batch on its device is what its clips are one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from icefall_alp.config.schema import SpecAugmentConfig
from icefall_alp.data.device_features import Waveforms, augment_batch, tabulate
from icefall_alp.data.fbank import Fbank
from icefall_alp.data.spec_augment import augment_clip, draw_augmentation

ALWAYS = SpecAugmentConfig(probability=1.0)
NO_WARP = replace(ALWAYS, time_warp_factor=0)


def clip(num_frames, seed=0):
    return np.random.default_rng(seed).normal(loc=-5, size=(num_frames, 80)).astype(np.float32)


@pytest.mark.parametrize("config", [ALWAYS, SpecAugmentConfig(probability=0.5), NO_WARP])
def test_a_batch_is_augmented_like_its_clips(config):
    lens = [300, 9, 163, 700, 400]
    clips = [clip(length, seed) for seed, length in enumerate(lens)]
    drawn = [draw_augmentation(length, 80, config, np.random.default_rng(length)) for length in lens]
    batch = torch.full((5, 700, 80), -23.0)
    for row, one in zip(batch, clips, strict=True):
        row[: len(one)] = torch.from_numpy(one)
    augmented = augment_batch(batch, torch.tensor(lens), tabulate(lens, drawn, 80))
    for row, one, augmentation, length in zip(augmented, clips, drawn, lens, strict=True):
        assert np.abs(row[:length].numpy() - augment_clip(one, augmentation)).max() < 1e-5
        assert (row[length:] == -23.0).all()


def test_nothing_to_do_makes_no_tables_and_leaves_the_batch():
    assert tabulate([300, 9], [None, None], 80) is None
    batch = torch.randn(2, 300, 80)
    assert augment_batch(batch, torch.tensor([300, 9]), None) is batch


def test_waveforms_become_the_augmented_features_of_each_clip():
    generator, lens = np.random.default_rng(0), [16_000, 30_400]
    samples = torch.zeros(2, max(lens), dtype=torch.int16)
    for row, length in zip(samples, lens, strict=True):
        row[:length] = torch.from_numpy(generator.integers(-9000, 9000, length, dtype=np.int16))
    drawn = [draw_augmentation(length // 160, 80, ALWAYS, generator) for length in lens]
    waveforms = Waveforms(samples, torch.tensor(lens), tabulate([length // 160 for length in lens], drawn, 80))
    features = waveforms.features(torch.device("cpu"))
    for row, clip_samples, length, augmentation in zip(features, samples, lens, drawn, strict=True):
        own = Fbank()(clip_samples[None, :length] / 32768, torch.tensor([length]))[0][0].numpy()
        assert np.abs(row[: len(own)].numpy() - augment_clip(own, augmentation)).max() < 1e-4
