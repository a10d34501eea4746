# SPDX-License-Identifier: Apache-2.0
"""Captions for a scene: what sounds, in which order, how, and what the recording itself is like. All of it is true."""

from __future__ import annotations

import numpy as np

from .scenes import Scene, Sound, pick
from .speech import LANGUAGES, Utterance

# c1 a clause ("a dog barks"), g1 with a participle ("a dog barking"), p1 in the progressive ("a dog is barking")
TEMPLATES = {
    "single": ("{c1}", "{g1}", "{p1}", "the sound of {g1}"),
    "sequence": (
        "{c1}, then {c2}", "{g1} followed by {g2}", "first {c1} and then {c2}", "{c2} after {g1}", "{c1} before {c2}",
        "{g1} and afterwards {g2}",
    ),
    "three": (
        "{c1}, then {c2} and finally {c3}", "{g1} followed by {g2} and then {g3}", "first {c1}, next {c2}, last {c3}",
        "{c1}, after that {c2}, and {c3} at the end", "{g1}, {g2} and {g3} one after the other",
    ),
    "together": (
        "{c1} while {c2}", "{g1} and {g2} at the same time", "{p1} as {c2}", "{g1} together with {g2}",
        "{c2} while {c1}",
    ),
    "background": (
        "{c1} with {g2} in the background", "in the background {p2} while {c1}", "{g1} over the faint sound of {g2}",
        "{c1} and quietly behind it {c2}", "{g1} with {g2} softly behind",
    ),
}  # fmt: skip
NOISE = ("with steady noise", "over background noise", "in a noisy recording")
ECHO = ("in a reverberant room", "with a long echo", "in a large hall")
LOUD, FAINT = ("very loud", "at a high volume"), ("very faint", "at a low volume")
LOUD_DB, FAINT_DB, NOISE_DB, ECHO_SECONDS = -5.0, -20.0, -15.0, 0.9
ATTEMPTS = 60


def describe(scene: Scene, rng: np.random.Generator, count: int, full_stop: str = ".") -> list[str]:
    """Word a scene several times.

    Args:
        scene: what to describe.
        rng: chooses templates and wordings.
        count: how many captions.
        full_stop: how they end; AudioCaps' have none.

    Returns:
        `count` captions; they differ from each other unless the wordings run out.
    """
    captions: dict[str, None] = {}
    for _ in range(ATTEMPTS):
        captions.setdefault(_word(scene, rng) + full_stop)
        if len(captions) == count:
            break
    texts = list(captions)
    return [texts[i % len(texts)] for i in range(count)]


def _word(scene: Scene, rng: np.random.Generator) -> str:
    kind = "three" if scene.arrangement == "sequence" and len(scene.sounds) > 2 else scene.arrangement
    words: dict[str, str] = {}
    for number, sound in enumerate(scene.sounds[:3], start=1):
        words |= {f"{form}{number}": text for form, text in _forms(sound, rng).items()}
    text = str(pick(rng, TEMPLATES[kind])).format(**words)
    text = ", ".join([text, *recording_traits(scene, rng)])
    return text[0].upper() + text[1:]


def _forms(sound: Sound, rng: np.random.Generator) -> dict[str, str]:
    subject = str(pick(rng, sound.event.subjects))
    finite, participle = pick(rng, sound.event.verbs)
    manner = str(pick(rng, sound.manner))
    manner = f" {manner}" if manner else ""
    auxiliary = "is" if finite.split()[0].endswith("s") else "are"
    return {
        "c": f"{subject} {finite}{manner}",
        "g": f"{subject} {participle}{manner}",
        "p": f"{subject} {auxiliary} {participle}{manner}",
    }


def recording_traits(scene: Scene, rng: np.random.Generator) -> list[str]:
    """What can be said of the recording: echo, noise, level."""
    traits = []
    if scene.reverberation >= ECHO_SECONDS:
        traits.append(str(pick(rng, ECHO)))
    if scene.noise_db >= NOISE_DB:
        traits.append(str(pick(rng, NOISE)))
    if scene.peak_db >= LOUD_DB:
        traits.append(str(pick(rng, LOUD)))
    elif scene.peak_db <= FAINT_DB:
        traits.append(str(pick(rng, FAINT)))
    return traits


# ---- speaking style -------------------------------------------------------------------------------------------------


def style_tags(utterance: Utterance, sex: str, scene: Scene) -> dict[str, str]:
    """The columns of ParaSpeechCaps that describe a voice."""
    return {
        "gender": sex,
        "accent": LANGUAGES[utterance.language],
        "pitch": {30: "low-pitched", 70: "high-pitched"}.get(utterance.pitch, "medium-pitched"),
        "speaking_rate": {115: "slow speed", 235: "fast speed"}.get(utterance.rate, "measured speed"),
        "noise": "noisy environment" if scene.noise_db >= NOISE_DB else "clean environment",
    }


def describe_style(tags: dict[str, str], scene: Scene, rng: np.random.Generator) -> str:
    """One caption in the manner of ParaSpeechCaps: voice, language, pace, recording."""
    who = {"male": ("a man", "a male speaker"), "female": ("a woman", "a female speaker")}
    pace = {
        "slow speed": ("slowly", "at a slow pace"), "fast speed": ("quickly", "at a fast pace"),
        "measured speed": ("at a measured pace", "at a moderate speed"),
    }  # fmt: skip
    place = {
        "noisy environment": ("with steady noise in the background", "in a noisy recording"),
        "clean environment": ("in a clean recording", "with hardly any noise"),
    }
    words = {
        "who": str(pick(rng, who[tags["gender"]])), "pitch": tags["pitch"], "language": tags["accent"],
        "pace": str(pick(rng, pace[tags["speaking_rate"]])), "place": str(pick(rng, place[tags["noise"]])),
    }  # fmt: skip
    templates = (
        "{who} with a {pitch} voice speaks {language} {pace}, {place}",
        "in {language}, {who} reads numbers {pace} in a {pitch} voice, {place}",
        "{who} speaks {pace} in {language}, the voice is {pitch}, {place}",
        "{place}, {who} talks {pace} in {language} with a {pitch} tone",
    )
    text = str(pick(rng, templates)).format(**words)
    if scene.reverberation >= ECHO_SECONDS:
        text += f", {pick(rng, ECHO)}"
    return text[0].upper() + text[1:] + "."
