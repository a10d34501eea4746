# SPDX-License-Identifier: Apache-2.0
"""What can be said of a scene of music beside a caption: aspects, tags, questions and answers. All of it is true."""

from __future__ import annotations

import numpy as np

from .captions import ECHO_SECONDS, FAINT_DB, LOUD_DB, NOISE_DB, describe
from .scenes import FAST, FIGURES, SLOW, Scene, Sound, pick

Questions = tuple[tuple[str, tuple[str, ...]], ...]

MAGNATAGATUNE_FOLDERS = {"train": "0123456789ab", "valid": "c", "test": "def"}
# event -> tags of MagnaTagATune, in its spelling
TAGS = {
    "a piano": "piano", "a nylon-string guitar": "guitar", "a steel-string guitar": "guitar",
    "a distorted electric guitar": "guitar", "a violin": "violin strings", "a cello": "cello strings",
    "a harp": "harp strings", "a string orchestra": "strings", "a choir": "choir choral", "a voice": "voice vocal",
    "a flute": "flute", "a sitar": "sitar indian", "a square-wave synthesizer": "synth electronic",
    "drum kit": "drums beat beats", "a bass drum": "drums", "a snare drum": "drums", "a tom-tom": "drums",
}  # fmt: skip
SUNG, SUNG_TAGS = ("a choir", "a voice"), ("singing", "vocals")
NOT_SUNG_TAGS = ("no vocals", "no vocal", "no voice")
TEMPO = {"fast": FAST, "slow": SLOW}
# figure -> short answer
MOTION = {
    "rising": "the notes rise", "falling": "the notes fall", "repeated": "one note is repeated",
    "leaping": "the notes jump up and down", "chord": "a chord is held", "long": "one note is held",
}  # fmt: skip


def tempo_of(sound: Sound) -> str:
    """Fast, slow or "" for held notes; from the wordings of its manner, which all say the same."""
    said = sound.manner[0]
    return next((name for name, words in TEMPO.items() if any(said.endswith(word) for word in words)), "")


def figure_of(sound: Sound) -> str:
    """The figure of `scenes.FIGURES` that is played, or "" for drums."""
    said = sound.manner[0]
    return next((name for name, words in FIGURES.items() if any(said.startswith(word) for word in words)), "")


def names_of(scene: Scene) -> list[str]:
    """Instruments without article, in order."""
    return [sound.event.subjects[0].removeprefix("a ").removeprefix("an ") for sound in scene.sounds]


def recording_words(scene: Scene) -> list[str]:
    """Loud or quiet, noisy, echoing."""
    words = []
    if scene.peak_db >= LOUD_DB or scene.peak_db <= FAINT_DB:
        words.append("loud" if scene.peak_db >= LOUD_DB else "quiet")
    words += ["noisy"] if scene.noise_db >= NOISE_DB else []
    return words + (["reverberant"] if scene.reverberation >= ECHO_SECONDS else [])


def aspects(scene: Scene) -> list[str]:
    """The short phrases of MusicCaps' aspect_list."""
    tempi = [f"{tempo} tempo" for tempo in map(tempo_of, scene.sounds) if tempo]
    figures = [MOTION[figure] for figure in map(figure_of, scene.sounds) if figure]
    sung = any(sound.event.name in SUNG for sound in scene.sounds)
    voices = ["wordless singing"] if sung else ["instrumental"]
    return list(dict.fromkeys([*names_of(scene), *tempi, *figures, *recording_words(scene), *voices]))


def magnatagatune_tags(scene: Scene) -> set[str]:
    """Those of the fifty frequent tags that hold."""
    names = [sound.event.name for sound in scene.sounds]
    tags = {tag for name in names for tag in TAGS.get(name, "").split()}
    tags |= {tempo for tempo in map(tempo_of, scene.sounds) if tempo}
    tags |= set(SUNG_TAGS if any(name in SUNG for name in names) else NOT_SUNG_TAGS)
    words = recording_words(scene)
    tags |= {"loud"} if "loud" in words else {"quiet", "soft"} if "quiet" in words else set()
    return tags | ({"solo"} if len(names) == 1 and names[0] != "drum kit" else set())


def ask_about_music(scene: Scene, rng: np.random.Generator) -> Questions:
    """Open questions, each with one answer: what is played, by what, how, how fast, how it was recorded."""
    names, sounds = names_of(scene), scene.sounds
    instruments = " and ".join(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)
    motions = [MOTION[figure] for figure in map(figure_of, sounds) if figure] or ["a rhythm is played"]
    tempi = list(dict.fromkeys(filter(None, map(tempo_of, sounds)))) or ["held"]
    words = recording_words(scene) or ["clean"]
    pairs = (
        (("Describe the music.", "Put this clip into words."), describe(scene, rng, 1, full_stop="")[0]),
        (("Which instruments are playing?", "What do you hear being played?"), instruments),
        (("How do the notes move?", "What do the notes do?"), " and then ".join(dict.fromkeys(motions))),
        (("At what speed is it played?", "How fast is the music?"), f"it is {' and '.join(tempi)}"),
        (("What is the recording like?", "How does the recording sound?"), f"it is {' and '.join(words)}"),
    )
    return tuple((str(pick(rng, wordings)), (f"{answer[0].upper()}{answer[1:]}.",)) for wordings, answer in pairs)
