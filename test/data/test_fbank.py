# SPDX-License-Identifier: Apache-2.0
import kaldi_native_fbank
import numpy as np
import pytest
import torch
from lhotse.features.kaldi.extractors import Fbank as LhotseFbank

from icefall_alp.data.fbank import PADDING, Fbank


def kaldi_fbank(samples):
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = 80
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = -400.0
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(16000, samples)
    fbank.input_finished()
    return np.stack([fbank.get_frame(frame) for frame in range(fbank.num_frames_ready)])


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


@pytest.mark.parametrize("signal", [noise, tone])
def test_equal_to_kaldi_but_where_a_spectrum_is_next_to_zero(signal):
    # There Kaldi is further than that from the definition, too: see below.
    samples = signal(160000)
    difference = np.abs(extract(samples) - kaldi_fbank(samples))
    assert difference.max() < 2e-3
    assert (difference > 1e-4).mean() < 1e-3
    assert difference.mean() < 1e-5


def exact_fbank(samples):
    """The definition, window by window in float64."""
    num_frames, length = (len(samples) + 80) // 160, len(samples)
    positions = (np.arange(num_frames)[:, None] * 160 - 120 + np.arange(400)) % (2 * length)
    frames = samples.astype(np.float64)[np.minimum(positions, 2 * length - 1 - positions)]
    frames -= frames.mean(axis=1, keepdims=True)
    frames -= 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(frames, n=512)) ** 2
    return np.log(np.maximum(power @ exact_weights(), np.finfo(np.float32).eps))


def exact_weights():
    """The filters, corner by corner."""
    corners = np.linspace(np.log(1 + 20 / 700), np.log(1 + 7600 / 700), 82)
    places = np.log(1 + np.arange(257) * 31.25 / 700)
    triangles = [np.interp(places, corners[k : k + 3], [0.0, 1.0, 0.0]) for k in range(80)]
    return np.stack(triangles, axis=1)


@pytest.mark.parametrize("signal", [noise, speech_like, tone, loud_tone, quiet, click, offset])
def test_as_close_to_the_definition_as_kaldi_itself(signal):
    # A weak bin beside strong ones is good to 1e-3 in float32, Kaldi's as well as these.
    samples = signal(160000)
    exact = exact_fbank(samples)
    ours, kaldi = (np.abs(features - exact) for features in (extract(samples), kaldi_fbank(samples)))
    assert ours.max() < 3e-3
    assert ours.mean() < kaldi.mean()
    assert np.quantile(ours, 0.999) < 1.1 * np.quantile(kaldi, 0.999)


def test_an_offset_costs_less_precision_than_in_kaldi():
    samples = offset(160000)
    exact = exact_fbank(samples)
    ours, kaldi = (np.abs(features - exact) for features in (extract(samples), kaldi_fbank(samples)))
    assert ours.max() < 0.7 * kaldi.max()


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
    assert (features.cpu() - expected).abs().max() < 1e-3
