# SPDX-License-Identifier: Apache-2.0
"""eSpeak NG through ctypes (the library that pip's espeakng-loader brings), and who speaks in the recordings.

The library keeps random and oscillator state between utterances. It is loaded afresh and seeded for every one of
them (about 3 ms), so that an utterance depends on its arguments only.
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import math
from dataclasses import dataclass

import espeakng_loader
import numpy as np
from scipy.signal import firwin, resample_poly

from .sources import SAMPLE_RATE, trim

AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARS_UTF8_ENDPAUSE = 1 | 0x1000
RATE, PITCH, PITCH_RANGE = 1, 3, 4

# what the captions speak of: eSpeak code -> English name
LANGUAGES = {
    "en-us": "English", "fr": "French", "ru": "Russian", "es": "Spanish", "el": "Greek", "cmn": "Mandarin",
}  # fmt: skip
# language of the spoken stamp descriptions -> sex of the one volunteer who reads nearly all of them
REAL_SPEAKERS = {
    "fr": "male", "ru": "male", "ro": "female", "ca": "male", "bg": "male", "es": "female", "be": "female",
    "el": "female", "da": "male",
}  # fmt: skip
# (sex, pool) -> eSpeak voice variants; the pools share no variant
VARIANTS = {
    ("male", "train"): ("m1", "m3", "m5", "m7", "Andy", "Gene", "Jacky", "Lee", "Marco", "Michael", "miguel", "rob"),
    ("male", "heldout"): ("m2", "m4", "m6", "john", "pablo", "travis"),
    ("male", "speaker"): ("m8", "Storm", "announcer", "edward", "grandpa", "Alex", "sandro", "michel"),
    ("female", "train"): ("f1", "f3", "f5", "Annie", "linda", "aunty", "steph"),
    ("female", "heldout"): ("f2", "f4", "belinda"),
    ("female", "speaker"): ("Alicia", "Andrea", "anika", "grandma", "steph2", "steph3"),
}
POOLS = ("train", "heldout", "speaker")


@dataclass(frozen=True)
class Utterance:
    """What eSpeak shall say.

    Attributes:
        language: eSpeak language code.
        variant: eSpeak voice variant.
        text: digits.
        rate: words per minute.
        pitch: 0-99, 50 is the voice's own.
        pitch_range: 0-99, 0 is monotonous.
    """

    language: str
    variant: str
    text: str
    rate: int = 165
    pitch: int = 50
    pitch_range: int = 50

    @property
    def source(self) -> str:
        """Identity of the rendering: voice and text."""
        return f"espeak:{self.language}+{self.variant}:{self.text}"


def number_text(rng: np.random.Generator, pool: str, groups: int = 2) -> str:
    """Digits to read aloud; the last number modulo 3 is the pool's, so no two pools ever share a text."""
    numbers = [str(rng.integers(2, 100)) for _ in range(groups - 1)]
    return " ".join([*numbers, str(3 * rng.integers(40, 3000) + POOLS.index(pool))])


def speak(utterance: Utterance) -> np.ndarray:
    """Render one utterance.

    Args:
        utterance: voice and text.

    Returns:
        (samples,) float32 at 16 kHz without leading and trailing silence.

    Raises:
        ValueError: eSpeak does not know the voice.
    """
    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    try:
        pieces, rate = _synthesise(library, utterance)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)
    samples = np.concatenate(pieces).astype(np.float32) / 32768
    return trim(resample_poly(samples, SAMPLE_RATE, rate, window=_lowpass(rate)).astype(np.float32))


@functools.lru_cache(maxsize=2)
def _lowpass(rate: int) -> np.ndarray:
    """The filter that resample_poly would design anew for every utterance."""
    longest = max(rate, SAMPLE_RATE) // math.gcd(rate, SAMPLE_RATE)
    return firwin(20 * longest + 1, 1 / longest, window=("kaiser", 5.0)).astype(np.float32)


def _synthesise(library: ctypes.CDLL, utterance: Utterance) -> tuple[list[np.ndarray], int]:
    pieces: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(wave: ctypes._Pointer, count: int, _events: ctypes.c_void_p) -> int:
        if wave and count > 0:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    data_path = str(espeakng_loader.get_data_path()).encode()
    rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, ctypes.c_char_p(data_path), 0)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    library.espeak_SetSynthCallback(collect)
    voice = f"{utterance.language}+{utterance.variant}"
    if library.espeak_SetVoiceByName(ctypes.c_char_p(voice.encode())):
        raise ValueError(f"eSpeak has no voice {voice}")
    for parameter, value in ((RATE, utterance.rate), (PITCH, utterance.pitch), (PITCH_RANGE, utterance.pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
    text = ctypes.create_string_buffer(utterance.text.encode())
    size = ctypes.c_size_t(len(text))
    library.espeak_Synth(text, size, 0, 1, 0, CHARS_UTF8_ENDPAUSE, None, None)
    library.espeak_Synchronize()
    return pieces, rate
