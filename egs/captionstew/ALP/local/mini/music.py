# SPDX-License-Identifier: Apache-2.0
"""General MIDI notes from the soundfont that pip's pretty_midi brings, played by tinysoundfont.

What a note is made of are the samples in `soundfont.py`, and these are what training and held-out clips do not share.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import tinysoundfont

from .soundfont import DRUM_BANK, general_midi, soundfont_path
from .sources import SAMPLE_RATE

FLUSH_SAMPLES = 320
SWEEP_STEP = 160


@dataclass(frozen=True)
class Note:
    """One key pressed: onset and length in seconds."""

    onset: float
    length: float
    key: int
    velocity: int


@dataclass(frozen=True)
class Phrase:
    """Notes of one instrument.

    Attributes:
        bank: 0 melodic, 128 drum kits.
        program: General MIDI program, from 0, or the kit.
        notes: what is played.
        sweep: (semitones, hertz) of a sinusoidal pitch bend, None for none.
    """

    bank: int
    program: int
    notes: tuple[Note, ...]
    sweep: tuple[float, float] | None = None

    @property
    def sources(self) -> list[str]:
        """The recorded samples of the soundfont that the notes play."""
        presses = (((self.bank, self.program, note.key), note.velocity) for note in self.notes)
        return sorted({f"sf2:{name}" for press in presses for name in general_midi().samples(*press)})


@functools.lru_cache(maxsize=1)
def _synth() -> tuple[tinysoundfont.Synth, int]:
    synth = tinysoundfont.Synth(samplerate=SAMPLE_RATE)
    return synth, synth.sfload(str(soundfont_path()))


def play(phrase: Phrase, tail: float = 0.4) -> np.ndarray:
    """Render a phrase.

    Args:
        phrase: what to play.
        tail: seconds kept after the last note.

    Returns:
        (samples,) float32 at 16 kHz.
    """
    synth, font = _synth()
    synth.sounds_off()
    synth.generate(FLUSH_SAMPLES)  # voices fade out after sounds_off; what follows depends on the phrase only
    synth.program_select(0, font, phrase.bank, phrase.program, phrase.bank == DRUM_BANK)
    synth.pitchbend_range(0, 12.0)
    synth.pitchbend(0, 8192)
    events = [(round(n.onset * SAMPLE_RATE), 1, n.key, n.velocity) for n in phrase.notes]
    events += [(round((n.onset + n.length) * SAMPLE_RATE), 0, n.key, 0) for n in phrase.notes]
    end = max(time for time, *_ in events) + round(tail * SAMPLE_RATE)
    pieces, now = [], 0
    for time, on, key, velocity in [*sorted(events), (end, 0, 0, 0)]:
        pieces.append(_generate(synth, now, time, phrase.sweep))
        now = time
        if on:
            synth.noteon(0, key, velocity)
        elif time < end:
            synth.noteoff(0, key)
    return np.concatenate(pieces)


def _generate(synth: tinysoundfont.Synth, start: int, stop: int, sweep: tuple[float, float] | None) -> np.ndarray:
    pieces = [np.zeros(0, np.float32)]
    while start < stop:
        count = stop - start if sweep is None else min(SWEEP_STEP, stop - start)
        if sweep is not None:
            bend = sweep[0] / 12 * np.sin(2 * np.pi * sweep[1] * start / SAMPLE_RATE)
            synth.pitchbend(0, int(8192 + 8191 * bend))
        pieces.append(np.frombuffer(bytes(synth.generate(count)), np.float32).reshape(-1, 2).mean(axis=1))
        start += count
    return np.concatenate(pieces)
