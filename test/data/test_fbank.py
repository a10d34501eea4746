# SPDX-License-Identifier: Apache-2.0
import copy

import numpy as np
import pytest
import torch
from lhotse.features.kaldi.extractors import Fbank as LhotseFbank

from benchmarks.fbank import exact_fbank, kaldi_fbank
from icefall_alp.data import fbank_loops
from icefall_alp.data.fbank import PADDING, Fbank


@pytest.fixture(params=["loops", "operations"], autouse=True)
def form(request, monkeypatch):
    """What computes on a CPU."""
    if request.param == "operations":
        monkeypatch.setattr(fbank_loops, "suit", lambda waveforms: False)
    elif not fbank_loops.suit(torch.zeros(1)):
        pytest.skip("no loops in C here")


def noise(num_samples, scale=0.1):
    return (scale * np.random.default_rng(num_samples).standard_normal(num_samples)).astype(np.float32)


def speech_like(num_samples):
    """A gliding voice of many harmonics, switched on and off, with breath, a hum and an offset."""
    time = np.arange(num_samples) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 1.3 * time)) / 16000
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 30))
    gate = (np.sin(2 * np.pi * 3 * time) > -0.3).astype(np.float64)
    return (0.1 * voice * gate + 0.01 + 0.002 * np.sin(2 * np.pi * 50 * time)).astype(np.float32) + noise(
        num_samples, 1e-3
    )


def tone(num_samples, scale=0.1, noise_scale=1e-2):
    time = np.arange(num_samples) / 16000
    return (scale * np.sin(2 * np.pi * 997 * time)).astype(np.float32) + noise(num_samples, noise_scale)


def silence(num_samples):
    return np.zeros(num_samples, dtype=np.float32)


def quiet(num_samples):
    """A few steps of 16 bits."""
    return np.rint(noise(num_samples, 2.0)).astype(np.float32) / 32768


def click(num_samples):
    samples = silence(num_samples)
    samples[num_samples // 3] = 1.0
    return samples


def offset(num_samples):
    return noise(num_samples, 0.01) + np.float32(0.3)


def loud_tone(num_samples):
    return tone(num_samples, 0.5, 1e-4)


def extract(samples):
    features, feature_lens = Fbank()(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    assert features.shape[1] == feature_lens.item()
    return features[0].numpy()


@pytest.mark.parametrize("signal", [speech_like, quiet, click, silence])
@pytest.mark.parametrize("num_samples", [80, 400, 559, 560, 561, 1441, 16000, 47993])
def test_equal_to_kaldi(signal, num_samples):
    samples = signal(num_samples)
    expected = kaldi_fbank(samples)
    features = extract(samples)
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() < 1e-4
    assert np.abs(features - expected).mean() < 1e-5


SIGNALS = [noise, speech_like, tone, loud_tone, quiet, click, offset, silence]


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("num_samples", [400, 1441, 160000])
def test_equal_to_kaldis_formulas_in_float64(signal, num_samples):
    samples = signal(num_samples)
    assert np.abs(extract(samples) - exact_fbank(samples)).max() < 1e-6


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_differs_from_kaldi_is_its_own_rounding(signal):
    # In float32 a weak bin beside strong ones is good to 1e-3 only.
    samples = signal(160000)
    kaldi = kaldi_fbank(samples)
    assert (np.abs(extract(samples) - kaldi) <= np.abs(kaldi - exact_fbank(samples)) + 1e-6).all()


@pytest.mark.parametrize("signal", [noise, speech_like, tone])
def test_equal_to_lhotse(signal):
    samples = signal(32100)
    difference = np.abs(extract(samples) - LhotseFbank().extract(samples, 16000))
    assert difference.max() < 3e-3  # Lhotse itself is that far from Kaldi where a spectrum has a zero
    assert difference.mean() < 1e-5


def test_features_do_not_depend_on_batch_mates():
    lens = torch.tensor([16000, 400, 33333, 48000, 1360, 20001])
    waveforms = torch.from_numpy(noise(6 * 48000)).view(6, 48000)
    features, feature_lens = Fbank()(waveforms, lens)
    assert features.shape == (6, 300, 80)
    for row, length in enumerate(lens):
        alone, alone_lens = Fbank()(waveforms[row : row + 1, :length], lens[row : row + 1])
        assert alone_lens == feature_lens[row]
        assert torch.equal(alone[0], features[row, : feature_lens[row]])
        assert (features[row, feature_lens[row] :] == PADDING).all()
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert torch.equal(Fbank()(waveforms[order], lens[order])[0], features[order])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_read_as_float32(dtype):
    waveforms, lens = torch.from_numpy(noise(16000))[None].to(dtype), torch.tensor([16000])
    assert torch.equal(Fbank()(waveforms, lens)[0], Fbank()(waveforms.float(), lens)[0])


def test_as_many_lengths_as_waveforms_are_asked_for():
    with pytest.raises(ValueError, match="3 waveforms with lengths"):
        Fbank()(torch.zeros(3, 1600), torch.tensor([1600]))


def test_a_copy_and_a_module_in_half_precision_compute_the_same():
    waveforms, lens = torch.from_numpy(noise(16000))[None], torch.tensor([16000])
    expected = Fbank()(waveforms, lens)[0]
    with torch.device("meta"):
        made_elsewhere = Fbank()
    for fbank in (copy.deepcopy(Fbank()), Fbank().half(), made_elsewhere):
        assert torch.equal(fbank(waveforms, lens)[0], expected)


@pytest.mark.parametrize("num_clips", [1, 2, 3, 7])
def test_the_last_few_windows_are_computed_like_all_others(num_clips):
    waveforms = torch.from_numpy(noise(7 * 44000)).view(7, 44000)
    expected, _ = Fbank()(waveforms, torch.full((7,), 44000))
    for num_frames in [*range(3, 20), 63, 65, 255, 257, 258, 273]:
        length = num_frames * 160
        features, _ = Fbank()(waveforms[:num_clips, :length], torch.full((num_clips,), length))
        inside = num_frames - 2  # the windows that reach past the end see its mirror image
        assert torch.equal(features[:, :inside], expected[:num_clips, :inside])


@pytest.mark.parametrize("num_frames", [1024, 1025, 2047, 2500])
def test_a_clip_of_several_blocks_is_computed_like_its_parts(num_frames):
    waveform = torch.from_numpy(noise(2500 * 160))[None]
    features, _ = Fbank()(waveform[:, : num_frames * 160], torch.tensor([num_frames * 160]))
    for start in range(0, num_frames - 200, 317):
        part, _ = Fbank()(waveform[:, start * 160 : (start + 200) * 160], torch.tensor([200 * 160]))
        assert torch.equal(part[0, 2:-2], features[0, start + 2 : start + 198])


@pytest.mark.gpu
def test_equal_on_gpu():
    lens = torch.tensor([16000, 400, 33333])
    waveforms = torch.from_numpy(noise(3 * 33333)).view(3, -1)
    place = torch.device(torch.accelerator.current_accelerator())
    features, feature_lens = Fbank().to(place)(waveforms.to(place), lens.to(place))
    expected, expected_lens = Fbank()(waveforms, lens)
    assert torch.equal(feature_lens.cpu(), expected_lens)
    assert (features.cpu() - expected).abs().max() < 1e-5
