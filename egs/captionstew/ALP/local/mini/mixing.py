# SPDX-License-Identifier: Apache-2.0
"""From a scene to samples: render the layers, place them, add room, noise and microphone, set the level."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import fftconvolve, resample_poly

from .music import Phrase, play
from .scenes import EQUALISER_BANDS, TRACK_SECONDS, Layer, Scene, Sound
from .sources import SAMPLE_RATE, Recordings, load_recording, trim
from .speech import Utterance, speak

LAYER_SECONDS = 1.8  # of one recording
SOUND_SECONDS, SCENE_SECONDS = 2.2, 5.4  # of one sound, of all sounds of a sequence
TAIL_SECONDS = 0.5
SHORTEST_SECONDS = 1.05
BACKGROUND_DB = -14.0
FRAME = 400
HOP, HEARD_DB, PAUSE_SECONDS = 160, -30.0, 0.7


class Rendered(NamedTuple):
    """A file that was written: its length, level in dB of full scale, and `spans` where these are asked for."""

    corpus: str
    path: str
    seconds: float
    rms: float
    events: list[tuple[int, float, float]]


def render(scene: Scene, key: str, recordings: Recordings) -> np.ndarray:
    """Render a scene.

    Args:
        scene: what to render.
        key: of the clip; seeds noise and room.
        recordings: where the recordings are.

    Returns:
        (samples,) float32 mono at 16 kHz; the loudest sample is at `scene.peak_db`.
    """
    return mix_down(perform(scene, recordings), scene, key)


def perform(scene: Scene, recordings: Recordings) -> list[np.ndarray]:
    """Its sounds, each at the same level; (samples,) float32."""
    longest = min(SOUND_SECONDS, SCENE_SECONDS / len(scene.sounds)) if scene.arrangement != "track" else SOUND_SECONDS
    return [level(render_sound(sound, recordings, longest)) for sound in scene.sounds]


def mix_down(sounds: list[np.ndarray], scene: Scene, key: str) -> np.ndarray:
    """Place, record and level the sounds of `perform`; (samples,) float32."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    mix = arrange(sounds, scene)
    if scene.seconds:
        mix = fade(np.resize(mix, round(scene.seconds * SAMPLE_RATE)))
    if scene.reverberation:
        mix = fftconvolve(mix, room(scene.reverberation, rng))
    before, after = (round(margin * SAMPLE_RATE) for margin in scene.margins)
    after = max(after, round(SHORTEST_SECONDS * SAMPLE_RATE) - before - len(mix))
    mix = record(np.pad(mix, (before, after)), scene, rng)
    return (mix * (10 ** (scene.peak_db / 20) / np.abs(mix).max())).astype(np.float32)


def spans(sounds: list[np.ndarray], scene: Scene) -> list[tuple[int, float, float]]:
    """When the sounds of `perform` are heard.

    Args:
        sounds: of the scene, in its order.
        scene: as drawn.

    Returns:
        (index of the sound, onset, offset), seconds in the clip, as `mix_down` places them; pauses of less than
        PAUSE_SECONDS do not end a sound.
    """
    found = []
    longest, starts, before = max(map(len, sounds)), places(sounds, scene), round(scene.margins[0] * SAMPLE_RATE)
    once = max(start + len(sound) for start, sound in zip(starts, sounds, strict=True))
    for index, (start, sound) in enumerate(zip(starts, sounds, strict=True)):
        looped = np.resize(sound, longest) if scene.arrangement == "background" and index else sound
        track = np.pad(looped, (start, once - start - len(looped)))
        track = np.resize(track, round(scene.seconds * SAMPLE_RATE) or once)
        power = (track[: len(track) // HOP * HOP].reshape(-1, HOP) ** 2).mean(axis=1)
        heard = np.flatnonzero(power > power.max() * 10 ** (HEARD_DB / 10))
        cuts = np.flatnonzero(np.diff(heard) * HOP > PAUSE_SECONDS * SAMPLE_RATE)
        for first, last in zip(heard[[0, *(cuts + 1)]], heard[[*cuts, -1]], strict=True):
            onset, offset = ((before + hop * HOP) / SAMPLE_RATE for hop in (first, last + 1))
            found.append((index, round(float(onset), 3), round(float(offset), 3)))
    return found


def render_sound(sound: Sound, recordings: Recordings, longest: float) -> np.ndarray:
    """All layers of one sound at their times, cut after `longest` seconds; (samples,) float32."""
    placed = [(part, onset) for layer in sound.layers for part, onset in _placed(layer, recordings)]
    out = np.zeros(max(onset + len(part) for part, onset in placed), np.float32)
    for part, onset in placed:
        out[onset : onset + len(part)] += part
    return fade(out[: round(longest * SAMPLE_RATE)])


def _placed(layer: Layer, recordings: Recordings) -> list[tuple[np.ndarray, int]]:
    if isinstance(layer.part, Phrase):
        samples = play(layer.part)
    elif isinstance(layer.part, Utterance):
        samples = speak(layer.part)
    else:
        samples = fade(load_recording(recordings.path(layer.part))[: round(LAYER_SECONDS * SAMPLE_RATE)])
    samples = trim(samples)
    if layer.speed != 1.0:
        times = np.arange(0, len(samples) - 1, layer.speed)
        samples = np.interp(times, np.arange(len(samples)), samples).astype(np.float32)
    return [(samples, round(onset * SAMPLE_RATE)) for onset in layer.onsets]


def fade(samples: np.ndarray, length: int = 240) -> np.ndarray:
    """Fade out the last samples, so that a cut does not click."""
    length = min(length, len(samples))
    out = samples.copy()
    out[len(out) - length :] *= np.linspace(1, 0, length, dtype=np.float32)
    return out


def level(samples: np.ndarray) -> np.ndarray:
    """Scale to unit RMS over the frames within 20 dB of the loudest."""
    usable = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME) if len(samples) >= FRAME else samples[None]
    power = (usable.astype(np.float64) ** 2).mean(axis=1)
    active = power[power >= power.max(initial=0.0) * 0.01]
    rms = float(np.sqrt(active.mean())) if active.size else 0.0
    if rms <= 0.0:
        raise ValueError("a sound without samples")
    return samples / rms


def places(sounds: list[np.ndarray], scene: Scene) -> list[int]:
    """The sample at which each sound begins."""
    if scene.arrangement == "track":
        return [round(index * TRACK_SECONDS * SAMPLE_RATE) for index in range(len(sounds))]
    starts = [0] * len(sounds)
    if scene.arrangement == "sequence":
        for index in range(1, len(sounds)):
            starts[index] = starts[index - 1] + len(sounds[index - 1]) + round(scene.gaps[index] * SAMPLE_RATE)
    return starts


def arrange(sounds: list[np.ndarray], scene: Scene) -> np.ndarray:
    """Place the sounds one after the other, or all at once; (samples,) float32."""
    starts = places(sounds, scene)
    longest = max(len(sound) for sound in sounds)
    mix = np.zeros(max(start + len(sound) for start, sound in zip(starts, sounds, strict=True)), np.float32)
    for index, (start, sound) in enumerate(zip(starts, sounds, strict=True)):
        gain = 1.0
        if scene.arrangement == "background" and index:
            gain, sound = 10 ** (BACKGROUND_DB / 20), np.resize(sound, longest)
        mix[start : start + len(sound)] += gain * sound
    return mix


def room(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Impulse response: the direct sound, then noise that decays by 60 dB in `seconds`."""
    time = np.arange(round(min(seconds, TAIL_SECONDS) * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    response = tail * (0.5 / np.sqrt((tail**2).sum()))
    response[0] = 1.0
    return response.astype(np.float32)


def _gains(frequencies: np.ndarray, bands: tuple[float, ...], decibels: tuple[float, ...]) -> np.ndarray:
    return np.exp(np.interp(np.log(np.maximum(frequencies, 20.0)), np.log(bands), decibels) * (np.log(10) / 20))


def record(samples: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Add the scene's noise and colour all by its microphone; (samples,) float32.

    The noise has `noise_db` against unit RMS, and its spectrum falls by `-noise_slope` dB for each octave above 100 Hz.
    The microphone's gains run linearly, in dB over log frequency, between EQUALISER_BANDS. Both are made in the
    frequency domain, where each is a product.
    """
    size = next_fast_len(len(samples), real=True)
    frequencies = rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    noise = rng.standard_normal((len(frequencies), 2), np.float32).view(np.complex64)[:, 0]
    noise *= (np.maximum(frequencies, 100.0) / 100.0) ** np.float32(scene.noise_slope / (20 * np.log10(2)))
    # Parseval: a bin stands for two, but for the first and last, and a transform has `size` times its signal's power
    noise *= size * 10 ** (scene.noise_db / 20) / np.sqrt(2 * np.vdot(noise, noise).real)
    gains = _gains(frequencies, EQUALISER_BANDS, scene.equaliser).astype(np.float32)
    return irfft((rfft(samples.astype(np.float32), size) + noise) * gains, size)[: len(samples)]


def write_audio(samples: np.ndarray, path: Path, rate: int, channels: int) -> None:
    """Write 16-bit wav or flac, or mp3, by the suffix.

    Args:
        samples: (samples,) at 16 kHz.
        path: where; folders are made.
        rate: sampling rate of the file.
        channels: 1, or 2 with the sound a little to one side.
    """
    if rate != SAMPLE_RATE:
        samples = np.clip(resample_poly(samples, rate // 100, SAMPLE_RATE // 100), -1.0, 1.0)
    if channels == 2:
        samples = np.stack([samples, 0.7 * samples], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()  # libsndfile waits for the disk after every file that it writes itself
    subtype = None if path.suffix == ".mp3" else "PCM_16"
    soundfile.write(encoded, samples, rate, format=path.suffix[1:], subtype=subtype)
    path.write_bytes(encoded.getbuffer())
