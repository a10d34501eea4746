# SPDX-License-Identifier: Apache-2.0
"""Which clips the speech benchmarks get: CREMA-D and VoxCeleb1."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

import numpy as np
from prepare_cremad import split_of_actors

from .planning import VIDEOS, Item, Planner, utterance_sound
from .scenes import Scene, record
from .speech import LANGUAGES, VARIANTS, Utterance, number_text

ACTORS, FIRST_ACTOR = 36, 1001  # so that four are for test, two of each sex
UTTERANCES = {"train": 13, "valid": 18, "test": 54}  # of an actor
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
LEVELS = {"LO": 0.6, "MD": 1.0, "HI": 1.4}  # of the first sentence; share of what an emotion changes
NEUTRAL = (160, 50, 45, -9.0)  # words per minute, pitch, pitch range, dB of the loudest sample
JITTER = (10.0, 6.0, 8.0, 4.0)  # from one utterance to the next
# what an emotion changes of NEUTRAL
EMOTIONS = {
    "ANG": (35, 8, 35, 4.0), "DIS": (-40, -14, 20, -2.0), "FEA": (60, 26, -25, -4.0), "HAP": (15, 20, 45, 1.5),
    "NEU": (0, 0, 0, 0.0), "SAD": (-55, -10, -40, -5.0),
}  # fmt: skip
SPEAKERS, VOXCELEB1_UTTERANCES = 6, 3


def utterance_names() -> list[str]:
    """The 82 utterances of an actor: every sentence in six emotions, the first in three levels of five of them."""
    first, *others = SENTENCES
    names = [f"{first}_{emotion}_{level}" for emotion in EMOTIONS if emotion != "NEU" for level in LEVELS]
    names += [f"{first}_NEU_XX"]
    return names + [f"{sentence}_{emotion}_XX" for sentence in others for emotion in EMOTIONS]


def plan_cremad(planner: Planner) -> list[Item]:
    """Actors say sentences in six emotions; the preparation's own draw says which actors are for test.

    Test actors say most, training actors little, so that a small corpus has enough of both.
    """
    actors = [str(FIRST_ACTOR + index) for index in range(planner.count(ACTORS, 10))]
    splits = split_of_actors(actors)
    items = []
    for split, full in UTTERANCES.items():
        side = "train" if split == "train" else "heldout"
        texts = {name: number_text(planner.rng("cremad", side, name), side, groups=1) for name in SENTENCES}
        for index, actor in enumerate(actor for actor in actors if splits[actor] == split):
            sex = ("female", "male")[index % 2]
            voices = VARIANTS[sex, side]
            half = len(voices) // 2
            voices = {"train": voices, "valid": voices[:half], "test": voices[half:]}[split]
            voice = voices[index // 2 % len(voices)]
            order = planner.rng("cremad", actor).permutation(utterance_names()).tolist()
            by_emotion = [[name for name in order if name[4:7] == emotion] for emotion in EMOTIONS]
            in_turn = [name for row in zip_longest(*by_emotion) for name in row if name]
            for name in in_turn[: planner.count(full, 12)]:
                items.append(_acted(planner, split, actor, name, sex, voice, texts[name[:3]]))
    return items


def _acted(planner: Planner, split: str, actor: str, name: str, sex: str, voice: str, text: str) -> Item:
    rng = planner.rng("cremad", actor, name)
    scene = acted_scene(rng, name[4:7], LEVELS.get(name[8:], 1.0), sex, voice, text)
    ident = f"{actor}_{name}"
    path = f"AudioWAV/{ident}.wav"
    details = {"gender": sex, "actor": actor, "emotion": name[4:7]}
    return Item("cremad", split, ident, path, f"crema:{ident}", scene, details=details)


def acted_scene(rng: np.random.Generator, emotion: str, degree: float, sex: str, voice: str, text: str) -> Scene:
    """An utterance in quiet surroundings; rate, pitch, its range and loudness tell the emotion."""
    jitter = rng.normal(0.0, JITTER)
    values = [base + degree * change + j for base, change, j in zip(NEUTRAL, EMOTIONS[emotion], jitter, strict=True)]
    rate, pitch, spread = (round(float(value)) for value in values[:3])
    utterance = Utterance("en-us", voice, text, rate, int(np.clip(pitch, 0, 99)), int(np.clip(spread, 0, 99)))
    scene = record(rng, (utterance_sound(utterance, sex),), "single", noisy=0.0)
    return replace(scene, reverberation=0.0, peak_db=round(float(min(values[3], -1.0)), 2))


def plan_voxceleb1(planner: Planner) -> list[Item]:
    """Speakers of the third pool; every speaker is in all parts of the list, by video."""
    items = []
    parts = dict(zip(("train", "valid", "test"), range(1, 1 + VIDEOS), strict=True))
    for speaker in range(planner.count(SPEAKERS)):
        name, sex = f"id1{speaker + 1:04d}", ("male", "female")[speaker % 2]
        variants = VARIANTS[sex, "speaker"]
        language = list(LANGUAGES)[(5 * speaker + 3) % len(LANGUAGES)]
        for part, title in zip(parts, planner.youtube_ids(f"voxceleb1/{name}", VIDEOS), strict=True):
            for index in range(VOXCELEB1_UTTERANCES):
                rng = planner.rng("voxceleb1", name, title, index)
                text = number_text(rng, "speaker", groups=3)
                utterance = Utterance(language, variants[speaker // 2 % len(variants)], text, 160, 40)
                scene = record(rng, (utterance_sound(utterance, sex),), "single", noisy=0.3)
                path = f"wav/{name}/{title}/{index + 1:05d}.wav"
                details = {"part": str(parts[part])}
                items.append(Item("voxceleb1", part, path, path, f"vox:{path}", scene, details=details))
    return items
