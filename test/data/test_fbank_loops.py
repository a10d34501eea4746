# SPDX-License-Identifier: Apache-2.0
"""The loops in C by themselves; the features they make are judged in test_fbank.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from icefall_alp.data import fbank_loops
from icefall_alp.data.fbank import Fbank, mel_weights
from icefall_alp.data.fbank_loops import FbankLoops

pytestmark = pytest.mark.skipif(fbank_loops.LIBRARY.functions is None, reason="no C compiler")


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1


def loops():
    return FbankLoops(torch.ones(400, dtype=torch.float64), mel_weights(), 0.0, 1e-30)


@pytest.mark.parametrize("frequency", [1, 37, 100, 128, 200, 255])
def test_a_point_of_the_spectrum_reaches_its_filters_alone(frequency):
    wave = torch.cos(2 * torch.pi * frequency * torch.arange(560, dtype=torch.float64) / 512).float()
    features = torch.empty(1, 1, 80)
    loops()(wave[None], torch.tensor([1]), features)
    spectrum = np.abs(np.fft.rfft(wave[:400].double().numpy() - float(wave[:400].double().mean()), 512)) ** 2
    np.testing.assert_allclose(features[0, 0].double().exp(), spectrum @ mel_weights().double().numpy(), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(bad):
    waveforms = noise(2, 8000)
    waveforms[0, 4000] = bad
    features, _ = Fbank()(waveforms, torch.tensor([8000, 8000]))
    hit = ~features.isfinite()
    assert hit[0].any(1).nonzero().flatten().tolist() == [24, 25]  # 160 t - 120 <= 4000 < 160 t + 280
    assert hit[0, 24:26].all() and not hit[1].any()
    assert torch.equal(features[1], Fbank()(noise(2, 8000), torch.tensor([8000, 8000]))[0][1])


def test_frames_behind_a_clip_are_not_written():
    signals, features = noise(2, 400 + 9 * 160), torch.full((2, 9, 80), 7.0)
    loops()(signals, torch.tensor([5, 400]), features)
    assert (features[0, 5:] == 7.0).all() and not (features[0, :5] == 7.0).any()
    assert not (features[1] == 7.0).any()


def test_the_number_of_threads_changes_no_bit():
    signals, threads, seen = noise(3, 400 + 30 * 160), torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            seen.append(torch.zeros(3, 31, 80))
            loops()(signals, torch.tensor([31, 30, 2]), seen[-1])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])


def test_other_devices_are_left_to_operations():
    assert fbank_loops.suit(torch.zeros(2, 3)) and not fbank_loops.suit(torch.zeros(2, 3, device="meta"))
