# SPDX-License-Identifier: Apache-2.0
"""Audio files and FLAC in memory to waveforms, mono at 16 kHz; and what is done to waveforms in training.

Waveforms are float32 in [-1, 1].
"""

from __future__ import annotations

import functools
import io
import math
from fractions import Fraction
from pathlib import Path

import miniaudio
import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from icefall_alp.data.fbank import SAMPLING_RATE

LOUDEST = 2.0**31  # numbers of 32 bits that were not scaled
_MAX_KERNEL = 1_000_000  # taps that torchaudio may hold, one filter per phase; 44.1 kHz needs 70,560
_MAX_FACTOR = 200_000  # of the one filter that serves rates with more phases: 20 taps per unit


def read_audio(path: Path, start: float, duration: float) -> Tensor:
    """Read a stretch of a file as mono at 16 kHz, whatever its format, rate and number of channels.

    Args:
        path: a file that libsndfile reads.
        start: seconds into the file.
        duration: seconds.

    Returns:
        (S,) float32.

    Raises:
        ValueError: the audio is unreadable, too short, or its samples are none; the message is the cause.
    """
    if not path.is_file():
        raise ValueError("no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(round(start * rate), file.frames))
            samples = file.read(round(duration * rate), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise ValueError(f"unreadable: {' '.join(str(error).split())}") from error
    if len(samples) == 0:
        raise ValueError("empty")
    if len(samples) < (duration - 0.1) * rate:
        raise ValueError(f"ends early: {len(samples) / rate:.2f} s of {duration:.2f} s")
    check_samples(samples)
    return mono_at_16_khz(torch.from_numpy(samples), rate)


def check_samples(samples: np.ndarray) -> None:
    """Raise ValueError, with the cause, where samples of any shape are none of audio, of whatever scale."""
    if not np.isfinite(samples).all():
        raise ValueError("NaN or infinite samples")
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > LOUDEST:
        raise ValueError(f"samples up to {peak:.1e} instead of 1")


def mono_at_16_khz(samples: Tensor, rate: int) -> Tensor:
    """Average the channels of samples (S, channels) at `rate` Hz, any whole number, and resample them: (S',)."""
    return _resample(samples.mean(dim=1), rate)


def _resample(waveform: Tensor, rate: int) -> Tensor:
    """A waveform (S,) at `rate` Hz at 16 kHz, in bounded memory even where the two share no factor."""
    if rate == SAMPLING_RATE:
        return waveform
    ratio = Fraction(rate, SAMPLING_RATE)
    if ratio.numerator * ratio.denominator <= _MAX_KERNEL:
        return _resampler(rate)(waveform)
    from scipy.signal import resample_poly  # takes up to seconds to import, and few files need it

    if max(ratio.numerator, ratio.denominator) > _MAX_FACTOR:
        ratio = ratio.limit_denominator(max(1, int(_MAX_FACTOR / ratio)))  # less than 0.0003 % off
    return torch.from_numpy(resample_poly(waveform.numpy(), ratio.denominator, ratio.numerator))


@functools.lru_cache(maxsize=8)
def _resampler(rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, SAMPLING_RATE)


def encode_flac(waveform: np.ndarray) -> bytes:
    """FLAC of a waveform (S,), 16 bits; what lies outside [-1, 1] is clipped."""
    stream = io.BytesIO()
    samples = np.clip(np.rint(waveform.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(stream, samples, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def decode_flac(data: bytes | memoryview) -> np.ndarray:
    """Samples (S,) int16 of what `encode_flac` made; in half of libsndfile's time, which would be most of a loader's.

    Raises:
        ValueError: the data are damaged.
    """
    data = bytes(data)
    try:
        samples = np.frombuffer(miniaudio.flac_read_s16(data).samples, dtype=np.int16)
    except miniaudio.MiniaudioError as error:
        raise ValueError(f"unreadable: {error}") from error
    num_samples = int.from_bytes(data[18:26], "big") & (1 << 36) - 1  # STREAMINFO, RFC 9639, section 8.2
    if len(samples) != num_samples:  # a frame that is cut off, or fails its own checksum, is left out
        raise ValueError(f"unreadable: {len(samples)} of {num_samples} samples")
    return samples


def mix_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise, repeated or cut to the waveform's length, so that the ratio of energies is `snr_db`."""
    noise = np.resize(noise, waveform.shape)
    energies = (np.square(x, dtype=np.float64).mean() for x in (waveform, noise))
    signal_energy, noise_energy = energies
    if signal_energy == 0 or noise_energy == 0:
        return waveform
    gain = math.sqrt(signal_energy / (noise_energy * 10 ** (snr_db / 10)))
    return waveform + np.float32(gain) * noise


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Play a waveform faster, which also raises its pitch: S samples become about S / factor."""
    if factor == 1.0:
        return waveform
    return _resample(torch.from_numpy(waveform), round(SAMPLING_RATE * factor)).numpy()
