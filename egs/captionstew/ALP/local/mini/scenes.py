# SPDX-License-Identifier: Apache-2.0
"""Drawing what happens in a clip: how an event is performed, and which performances make up a scene.

Everything here is decided before anything is rendered, so that captions, labels and sources are known and the
rendering (`mixing.py`) is a pure function of the scene.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from .events import Event, side_of
from .music import Note, Phrase
from .soundfont import Press
from .sources import Recordings
from .speech import LANGUAGES, REAL_SPEAKERS, VARIANTS, Utterance, number_text

EQUALISER_BANDS = (60.0, 250.0, 700.0, 1800.0, 4000.0, 8000.0)
FAST, SLOW = ("quickly", "at a fast tempo", "rapidly"), ("slowly", "at a slow tempo", "unhurriedly")
TICK_TOCK = 2 ** (4 / 12)  # from the tick to the tock of a clock
LEAP = 7  # semitones, at least
RHYTHM_SECONDS = 2.1
TRACK_SECONDS = 2.5
FIGURES = {
    "rising": ("rising notes", "notes that climb", "an upward run"),
    "falling": ("falling notes", "notes that descend", "a downward run"),
    "repeated": ("the same note over and over", "one repeated note", "a single pitch again and again"),
    "leaping": ("two alternating notes", "notes that jump up and down", "a low and a high note in turn"),
    "chord": ("a held chord", "a sustained chord", "several notes at once"),
    "long": ("one long note", "a single sustained note", "one held tone"),
}


@dataclass(frozen=True)
class Layer:
    """One piece of sound and when it is heard.

    Attributes:
        part: key of a recording, a phrase or an utterance.
        onsets: seconds, one for each time it is heard.
        speed: playing speed; also moves the pitch.
    """

    part: str | Phrase | Utterance
    onsets: tuple[float, ...] = (0.0,)
    speed: float = 1.0

    @property
    def sources(self) -> list[str]:
        """What no other side may use."""
        if isinstance(self.part, str):
            return [self.part]
        return self.part.sources if isinstance(self.part, Phrase) else [self.part.source]


@dataclass(frozen=True)
class Sound:
    """An event as it is performed once; `manner` has wordings of how, each of them true."""

    event: Event
    layers: tuple[Layer, ...]
    manner: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Scene:
    """What is heard in a clip and how it was recorded.

    Attributes:
        sounds: in order of appearance; in a background scene the second is the background.
        arrangement: single, sequence, together, background or track (a sound every TRACK_SECONDS).
        peak_db: level of the loudest sample, dB of full scale.
        noise_db: steady noise relative to the sounds.
        noise_slope: of the noise, dB for each octave.
        reverberation: seconds to -60 dB, 0 for none.
        equaliser: gains at EQUALISER_BANDS, dB.
        margins: seconds before and after the sounds.
        gaps: seconds between the sounds of a sequence.
        seconds: repeat the scene up to this length, 0 for once.
    """

    sounds: tuple[Sound, ...]
    arrangement: str
    peak_db: float
    noise_db: float
    noise_slope: float
    reverberation: float
    equaliser: tuple[float, ...]
    margins: tuple[float, float]
    gaps: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def sources(self) -> list[str]:
        """All recordings and renderings in the scene."""
        return sorted({source for sound in self.sounds for layer in sound.layers for source in layer.sources})

    @property
    def tags(self) -> list[str]:
        """Classes of the events, without doubles."""
        return list(dict.fromkeys(sound.event.tag for sound in self.sounds if sound.event.tag))


def pick(rng: np.random.Generator, items: tuple | list) -> object:
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def pick_voice(rng: np.random.Generator, event: Event, side: str) -> tuple[int, int, list[int]]:
    """One instrument of an event: bank, program and the keys that the side may play, ascending."""
    presses = pick(rng, event.sides[side])
    bank, program, _ = presses[0]
    return bank, program, [key for *_, key in presses]


# ---- performances ---------------------------------------------------------------------------------------------------


def _recording(event: Event, side: str, rng: np.random.Generator, _speech: dict) -> Sound:
    key = pick(rng, side_of(event.material, side))
    times = int(pick(rng, (1, 1, 2, 3)))
    speed = float(2 ** rng.uniform(-0.3, 0.3))
    layer = Layer(key, tuple(np.cumsum([0.0, *rng.uniform(0.55, 0.8, times - 1)]).round(3).tolist()), round(speed, 3))
    return Sound(event, (layer,), ("again and again", "repeatedly") if times == 3 else ("",))


def _figure(event: Event, side: str, rng: np.random.Generator, _speech: dict) -> Sound:
    bank, program, keys = pick_voice(rng, event, side)
    fast = bool(rng.random() < 0.5)
    step = float(rng.uniform(0.11, 0.17) if fast else rng.uniform(0.38, 0.48))
    name, played = _line(rng, keys, int(rng.integers(7, 11) if fast else rng.integers(4, 6)))
    velocity = int(rng.integers(75, 120))
    held = name in ("chord", "long")
    length = float(rng.uniform(1.2, 2.2)) if held else step * 0.95
    notes = tuple(
        Note(0.0 if held else round(i * step, 4), round(length, 4), key, velocity) for i, key in enumerate(played)
    )
    tempo = ("",) if held else tuple(f" {word}" for word in (FAST if fast else SLOW))
    manner = tuple(f"{figure}{word}" for figure in FIGURES[name] for word in tempo)
    return Sound(event, (Layer(Phrase(bank, program, notes)),), manner)


def _line(rng: np.random.Generator, keys: list[int], count: int) -> tuple[str, list[int]]:
    """A figure of about `count` notes and its keys; where a side has few keys only what these can play."""
    chord = [int(pick(rng, keys))]
    while above := [key for key in keys if key >= chord[-1] + 3]:
        chord.append(above[0])
    low = [key for key in keys if key + LEAP <= keys[-1]]
    possible = {"rising": len(keys) > 3, "falling": len(keys) > 3, "leaping": bool(low), "chord": len(chord) > 2}
    name = str(pick(rng, tuple(figure for figure in FIGURES if possible.get(figure, True))))
    if name in ("rising", "falling"):
        stride = 2 if len(keys) > 2 * count else 1
        span = stride * (min(count, len(keys)) - 1) + 1
        start = int(rng.integers(len(keys) - span + 1))
        line = keys[start : start + span : stride]
        return name, line if name == "rising" else line[::-1]
    if name == "leaping":
        key = int(pick(rng, low))
        return name, [key, min(other for other in keys if other >= key + LEAP)] * (count // 2)
    return name, chord[:4] if name == "chord" else chord[:1] * (1 if name == "long" else count)


def _note(event: Event, side: str, rng: np.random.Generator, _speech: dict) -> Sound:
    bank, program, keys = pick_voice(rng, event, side)
    note = Note(0.0, round(float(rng.uniform(1.2, 2.1)), 3), int(pick(rng, keys)), int(rng.integers(90, 125)))
    return Sound(event, (Layer(Phrase(bank, program, (note,))),))


def _hit(rng: np.random.Generator, presses: tuple[Press, ...]) -> Phrase:
    bank, program, key = pick(rng, presses)
    return Phrase(bank, program, (Note(0.0, 0.2, key, int(rng.integers(80, 125))),))


def _drum(event: Event, side: str, rng: np.random.Generator, _speech: dict) -> Sound:
    own, voices = side_of(event.material, side), event.sides[side]
    part = pick(rng, own) if own and (not voices or rng.random() < 0.5) else _hit(rng, voices[0])
    fast = bool(rng.random() < 0.5)
    step = float(rng.uniform(0.09, 0.15) if fast else rng.uniform(0.45, 0.65))
    onsets = tuple(round(i * step, 4) for i in range(int(rng.integers(8, 16) if fast else rng.integers(3, 6))))
    return Sound(event, (Layer(part, onsets, round(float(2 ** rng.uniform(-0.25, 0.25)), 3)),), FAST if fast else SLOW)


def _groove(event: Event, side: str, rng: np.random.Generator, _speech: dict) -> Sound:
    fast = bool(rng.random() < 0.5)
    beat = float(rng.uniform(0.28, 0.36) if fast else rng.uniform(0.55, 0.7))
    beats = 8 if fast else 4
    grids = (range(0, 2 * beats, 4), range(2, 2 * beats, 4), range(2 * beats))
    layers = tuple(
        Layer(_hit(rng, drum), tuple(round(i * beat / 2, 4) for i in grid))
        for drum, grid in zip(event.sides[side], grids, strict=True)
    )
    return Sound(event, layers, FAST if fast else SLOW)


def _hits(event: Event, side: str, rng: np.random.Generator, _speech: dict) -> Sound:
    rhythm = event.material[0]
    hit = _hit(rng, pick(rng, event.sides[side]))
    if rhythm == "typing":
        onsets = np.cumsum(rng.gamma(1.2, 0.09, int(rng.integers(12, 24))) + 0.04)
    elif rhythm == "knock":
        groups = [start + np.arange(rng.integers(3, 5)) * rng.uniform(0.16, 0.22) for start in (0.0, 1.3)]
        onsets = np.concatenate(groups[: int(rng.integers(1, 3))])
    else:
        period = {"clock": (0.24, 0.5), "walk": (0.52, 0.68), "run": (0.26, 0.33), "clap": (0.22, 0.4)}[rhythm]
        step = rng.uniform(*period)
        jitter = 0.0 if rhythm == "clock" else 0.02
        count = int(RHYTHM_SECONDS / step)
        onsets = np.arange(count) * step + rng.normal(0.0, jitter, count)
    times = tuple(np.maximum(onsets, 0.0).round(4).tolist())
    speed = round(float(2 ** rng.uniform(-0.3, 0.3)), 3)
    if rhythm == "clock":
        return Sound(event, (Layer(hit, times[::2], speed), Layer(hit, times[1::2], round(speed * TICK_TOCK, 3))))
    return Sound(event, (Layer(hit, times, speed),))


def _tone(event: Event, side: str, rng: np.random.Generator, _speech: dict) -> Sound:
    bank, program, keys = pick_voice(rng, event, side)
    key = int(pick(rng, keys))
    velocity = int(rng.integers(80, 120))
    sweep = None
    if event.name == "siren":
        notes = [Note(0.0, round(float(rng.uniform(1.8, 2.2)), 3), key, velocity)]
        sweep = (round(float(rng.uniform(3, 7)), 2), round(float(rng.uniform(0.4, 1.6)), 2))
    elif event.name == "alarm":
        period, length = float(rng.uniform(0.25, 0.5)), float(rng.uniform(0.4, 0.6))
        starts = np.arange(int(RHYTHM_SECONDS / period)) * period
        notes = [Note(round(float(start), 4), round(period * length, 4), key, velocity) for start in starts]
    else:
        step, other = float(rng.uniform(0.045, 0.07)), int(pick(rng, [k for k in keys if 3 <= abs(k - key) <= 6]))
        rings = [start + i * step for start in (0.0, 1.2) for i in range(14)]
        notes = [Note(round(t, 4), step, (key, other)[i % 2], velocity) for i, t in enumerate(rings)]
    return Sound(event, (Layer(Phrase(bank, program, tuple(notes), sweep)),))


def _voice(event: Event, side: str, rng: np.random.Generator, speech: dict) -> Sound:
    language, sex = event.material
    name = LANGUAGES[language]
    real = speech.get((language, side), [])
    if REAL_SPEAKERS.get(language) == sex and real and rng.random() < 0.6:
        return Sound(event, (Layer(str(pick(rng, real))),), (f"in {name}", name))
    rate = int(pick(rng, (115, 165, 165, 235)))
    pitch = int(pick(rng, (30, 50, 50, 70)))
    part = Utterance(language, str(pick(rng, VARIANTS[sex, side])), number_text(rng, side), rate, pitch)
    pace = {115: tuple(f" {w}" for w in SLOW[::2]), 235: tuple(f" {w}" for w in FAST[::2])}.get(rate, ("",))
    return Sound(event, (Layer(part),), tuple(f"{form}{word}" for form in (f"in {name}", name) for word in pace))


MAKERS: dict[str, Callable[[Event, str, np.random.Generator, dict], Sound]] = {
    "recording": _recording, "figure": _figure, "note": _note, "drum": _drum, "groove": _groove, "hits": _hits,
    "tone": _tone, "voice": _voice,
}  # fmt: skip


# ---- scenes ---------------------------------------------------------------------------------------------------------


def split_spoken(recordings: Recordings) -> dict[tuple[str, str], list[str]]:
    """Spoken recordings by (language, pool): two of five train, one is held out, two are for speakers.

    Files that begin with the same word (`cow`, `cow_white`) often hold the same take: they go to one pool.
    """
    pools = ("train", "heldout", "speaker", "speaker", "train")
    spoken: dict[tuple[str, str], list[str]] = {}
    for language in REAL_SPEAKERS:
        for key in recordings.spoken(language):
            word = re.split(r"[^A-Za-z]", PurePosixPath(key).name)[0].lower()
            spoken.setdefault((language, pools[zlib.crc32(word.encode()) % len(pools)]), []).append(key)
    return spoken


def draw_scene(rng: np.random.Generator, events: list[Event], arrangement: str, side: str, speech: dict) -> Scene:
    """Perform the events of a clip and choose how it is recorded.

    Args:
        rng: the clip's own.
        events: what happens, in order.
        arrangement: see `Scene`.
        side: "train" or "heldout".
        speech: spoken recordings by (language, pool).

    Returns:
        The scene.
    """
    sounds = tuple(MAKERS[event.maker](event, side, rng, speech) for event in events)
    return record(rng, sounds, arrangement)


def record(rng: np.random.Generator, sounds: tuple[Sound, ...], arrangement: str, noisy: float = 0.15) -> Scene:
    """Choose room, noise, microphone and level for some sounds; `noisy` is the share of clips with audible noise."""
    noise_db = rng.uniform(-14, -5) if rng.random() < noisy else rng.uniform(-45, -25)
    reverberation = rng.uniform(0.9, 1.8) if rng.random() < 0.2 else rng.choice([0.0, rng.uniform(0.15, 0.35)])
    return Scene(
        sounds=sounds,
        arrangement=arrangement,
        peak_db=round(float(rng.uniform(-24, -2)), 2),
        noise_db=round(float(noise_db), 2),
        noise_slope=round(float(rng.uniform(-6, 1)), 2),
        reverberation=round(float(reverberation), 3),
        equaliser=tuple(rng.normal(0.0, 3.0, len(EQUALISER_BANDS)).round(2).tolist()),
        margins=tuple(rng.uniform(0.05, 0.3, 2).round(3).tolist()),
        gaps=tuple(rng.uniform(0.05, 0.3, len(sounds)).round(3).tolist()),
    )
