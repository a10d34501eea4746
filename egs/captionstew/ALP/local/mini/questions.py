# SPDX-License-Identifier: Apache-2.0
"""ClothoAQA: clips of Clotho with six questions each, four for yes or no and two for one word. All answers are true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from .music_words import Questions
from .planning import Event, Item, Planner, pick
from .scenes import Scene, Sound
from .speech import LANGUAGES

FROM_CLOTHO = {"train": ("development", 260), "val": ("validation", 40), "test": ("evaluation", 60)}
NOT_IN_CLOTHO = 165  # of the test clips, a quarter in the real corpus
ANNOTATORS = 3
NUMBERS = ("one", "two", "three")
KINDS = {
    "speech": "Does anybody speak?",
    "music": "Is there any music?",
    "sound": "Is there a sound besides speech and music?",
}
TUNEFUL = ("Singing", "bell", "whale", "ringtone", "telephone", "record", "robot")  # music to some ears
WORDS = {"a music box": "music", "a drum kit": "drums", "a slap bass": "bass"}  # where the last word alone misleads


def plan_clothoaqa(planner: Planner, clotho: list[Item]) -> list[Item]:
    """Training clips from Clotho's development part; test clips are its evaluation part and some that it has not."""
    items = []
    for split, (part, full) in FROM_CLOTHO.items():
        mine = [item for item in clotho if item.split == part and not item.salt]
        for item in mine[-planner.count(full, 8) :]:  # the first ones are salted
            name = PurePosixPath(item.path).name
            items.append(replace(item, corpus="clothoaqa", split=split, ident=name, path=f"audio_files/{name}"))
    for index in range(planner.count(NOT_IN_CLOTHO, 6)):
        scene = planner.free_scene(planner.rng("clothoaqa", index), "heldout")
        name = f"{scene.sounds[0].event.name.replace(' ', '_')} outside_{index}.wav"
        items.append(Item("clothoaqa", "test", name, f"audio_files/{name}", f"clothoaqa:{index}", scene))
    return [replace(item, captions=(), questions=_asked(planner, item)) for item in items]


def _asked(planner: Planner, item: Item) -> Questions:
    pairs = ask(item.scene, planner.events, planner.rng("clothoaqa/questions", item.ident))
    return tuple((question, (answer,) * ANNOTATORS) for question, answer in pairs)


def ask(scene: Scene, events: list[Event], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Six pairs of question and answer.

    Args:
        scene: what is asked about.
        events: all there are, for what is not heard.
        rng: chooses among questions and wordings.

    Returns:
        Four questions for yes or no, then two for one word.
    """
    number = len(scene.sounds)
    orders = [("Is only one kind of sound heard?", _yes(number == 1))]
    if number > 1:
        orders.append(("Are the sounds heard one after the other?", _yes(scene.arrangement == "sequence")))
    pairs = [(happens(pick(rng, scene.sounds).event, rng), "yes")]
    pairs.append((happens(pick(rng, not_heard(scene, events)), rng), "no"))
    kinds = [pick(rng, own) for own in _kinds(scene) if own]
    if len(kinds) == 2:
        pairs.pop(int(rng.integers(2)))
    pairs += [*kinds, pick(rng, orders)]
    shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
    return [*shuffled, ("How many different sounds are there?", NUMBERS[number - 1]), _about_maker(scene, rng)]


def _kinds(scene: Scene) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What can be asked about the kinds of sound in a scene: with the answer yes, and with no."""
    tuneful = any(sound.event.tag in TUNEFUL or sound.event.name in TUNEFUL for sound in scene.sounds)
    domains = {sound.event.domain for sound in scene.sounds}
    clear = [kind for kind in KINDS if kind == "speech" or not tuneful]
    yes = [(KINDS[kind], "yes") for kind in clear if kind in domains]
    return yes, [(KINDS[kind], "no") for kind in clear if kind not in domains]


def not_heard(scene: Scene, events: list[Event]) -> list[Event]:
    """Events that a listener could not take for one of the scene: of another class, and they do something else."""
    tags = {sound.event.tag for sound in scene.sounds} - {""}
    verbs = {form for sound in scene.sounds for _, form in sound.event.verbs}
    subjects = {subject for sound in scene.sounds for subject in sound.event.subjects}
    heard = {sound.event.name for sound in scene.sounds}
    played = any(sound.event.domain == "music" for sound in scene.sounds)
    return [
        event
        for event in events
        if event.name not in heard
        and event.tag not in tags
        and not subjects & set(event.subjects)
        and ((event.domain == "music" and played) or not verbs & {form for _, form in event.verbs})
    ]


def happens(event: Event, rng: np.random.Generator) -> str:
    """Whether it does."""
    subject = str(pick(rng, event.subjects))
    finite, participle = pick(rng, event.verbs)
    return f"{'Is' if finite.split()[0].endswith('s') else 'Are'} {subject} {participle}?"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _about_maker(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """What makes a sound that the arrangement singles out, or the language of the only speaker."""
    sound = scene.sounds[0]
    if len(scene.sounds) == 1 and sound.event.maker == "voice" and rng.random() < 0.7:
        return "Which language is spoken?", LANGUAGES[sound.event.material[0]].lower()
    where = {
        "single": "What is heard?",
        "sequence": "What is heard first?",
        "together": f"What is heard together with {scene.sounds[-1].event.subjects[0]}?",
        "background": "What is heard in the foreground?",
    }[scene.arrangement]
    return where, maker_word(sound)


def maker_word(sound: Sound) -> str:
    """One word for what sounds; for people who do something, what they do."""
    subject, (_, participle) = sound.event.subjects[0], sound.event.verbs[0]
    if subject in WORDS:
        return WORDS[subject]
    return participle.split()[0] if subject in ("someone", "a person", "something") else subject.split()[-1]
