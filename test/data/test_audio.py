# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile

from icefall_alp.data.audio import change_speed, decode_flac, encode_flac, mix_noise, read_audio


def test_reads_any_rate_format_and_channels(tmp_path):
    time = np.arange(44100) / 44100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros(44100)], axis=1) * 0.5
    soundfile.write(tmp_path / "a.flac", stereo, 44100)
    audio = read_audio(tmp_path / "a.flac", 0.25, 0.5).numpy()
    expected = 0.25 * np.sin(2 * np.pi * 440 * (np.arange(8000) / 16000 + 0.25))
    assert audio.shape == (8000,)
    assert np.abs(audio - expected)[200:-200].max() < 2e-3


def test_a_rate_without_common_factor_is_refused_before_it_fills_the_memory(tmp_path):
    soundfile.write(tmp_path / "odd.wav", np.zeros(44099), 44099)
    with pytest.raises(ValueError, match="44099"):
        read_audio(tmp_path / "odd.wav", 0.0, 1.0)


def test_flac_gives_back_16_bit_audio_exactly():
    samples = np.random.default_rng(0).integers(-32768, 32768, size=5000).astype(np.int16)
    waveform = samples.astype(np.float32) / 32768
    assert np.array_equal(decode_flac(encode_flac(waveform)), samples)
    assert np.abs(decode_flac(encode_flac(waveform * 0.3)) - samples * 0.3).max() <= 0.51
    assert decode_flac(encode_flac(np.array([1.5, -1.5], dtype=np.float32))).tolist() == [32767, -32768]
    with pytest.raises(ValueError, match="unreadable"):
        decode_flac(encode_flac(waveform)[:40])


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
