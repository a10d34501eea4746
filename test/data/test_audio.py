# SPDX-License-Identifier: Apache-2.0
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from icefall_alp.data.audio import change_speed, decode_flac, encode_flac, mix_noise, mono_at_16_khz, read_audio


def test_reads_any_rate_format_and_channels(tmp_path):
    time = np.arange(44100) / 44100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros(44100)], axis=1) * 0.5
    soundfile.write(tmp_path / "a.flac", stereo, 44100)
    audio = read_audio(tmp_path / "a.flac", 0.25, 0.5).numpy()
    expected = 0.25 * np.sin(2 * np.pi * 440 * (np.arange(8000) / 16000 + 0.25))
    assert audio.shape == (8000,)
    assert np.abs(audio - expected)[200:-200].max() < 2e-3


@pytest.mark.parametrize("rate", [4001, 8000, 11127, 15999, 16001, 22050, 44056, 44099, 192001, 400009])
def test_any_whole_rate_keeps_pitch_and_length_in_bounded_memory(rate):
    tone = torch.sin(2 * np.pi * 1000 * torch.arange(2 * rate, dtype=torch.float64) / rate).float()
    tracemalloc.start()
    found = mono_at_16_khz(tone[:, None], rate).numpy()
    (_, peak), _ = tracemalloc.get_traced_memory(), tracemalloc.stop()
    expected = np.sin(2 * np.pi * 1000 * np.arange(32000) / 16000)
    assert abs(len(found) - 32000) <= 1 and found.dtype == np.float32
    # a rate that were 0.01 % off would end 1.25 radians late
    assert np.abs(found[500:31500] - expected[500:31500]).max() < 5e-3
    assert peak < 300e6


def test_a_file_at_an_odd_rate_is_read(tmp_path):
    soundfile.write(tmp_path / "odd.wav", np.sin(np.arange(44099) / 20) / 2, 44099)
    assert read_audio(tmp_path / "odd.wav", 0.0, 1.0).shape == (16000,)


def test_flac_gives_back_16_bit_audio_exactly():
    samples = np.random.default_rng(0).integers(-32768, 32768, size=5000).astype(np.int16)
    waveform = samples.astype(np.float32) / 32768
    assert np.array_equal(decode_flac(encode_flac(waveform)), samples)
    assert np.abs(decode_flac(encode_flac(waveform * 0.3)) - samples * 0.3).max() <= 0.51
    assert decode_flac(encode_flac(np.array([1.5, -1.5], dtype=np.float32))).tolist() == [32767, -32768]


@pytest.mark.parametrize("length", [0, 17, 26, 40, 4000, -1])
def test_flac_that_is_cut_off_is_named(length):
    with pytest.raises(ValueError, match="unreadable"):
        decode_flac(encode_flac(np.random.default_rng(0).uniform(-0.5, 0.5, size=9000))[:length])


def test_no_damaged_flac_gives_other_samples_or_ends_the_process():
    generator = np.random.default_rng(0)
    samples = np.rint(8000 * np.sin(np.arange(9000) / 30) + generator.normal(0, 50, 9000)).astype(np.int16)
    intact, num_named = np.frombuffer(encode_flac(samples / np.float32(32768)), dtype=np.uint8), 0
    for position in generator.integers(42, len(intact), size=400):  # what lies before is a header
        data = intact.copy()
        data[position] ^= 1 << generator.integers(8)
        try:
            assert np.array_equal(decode_flac(data), samples)
        except ValueError:
            num_named += 1
    assert num_named > 300


@pytest.mark.parametrize("noise_length", [100, 4000, 9000])
def test_noise_is_mixed_at_the_ratio_that_was_asked_for(noise_length):
    generator = np.random.default_rng(1)
    waveform = generator.normal(scale=0.1, size=4000).astype(np.float32)
    noise = generator.normal(scale=0.7, size=noise_length).astype(np.float32)
    mixed = mix_noise(waveform, noise, snr_db=12.0)
    ratio = 10 * np.log10(np.square(waveform).sum() / np.square(mixed - waveform).sum())
    assert mixed.shape == waveform.shape and mixed.dtype == np.float32 and abs(ratio - 12.0) < 0.01
    assert np.array_equal(mix_noise(waveform, np.zeros(10, dtype=np.float32), 12.0), waveform)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(factor):
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    faster = change_speed(tone, factor)
    assert abs(len(faster) - 16000 / factor) <= 1
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster))))
    assert abs(spectrum.argmax() * 16000 / len(faster) - 1000 * factor) < 2
