# SPDX-License-Identifier: Apache-2.0
"""Which clips the music corpora get: MusicCaps, JamendoMaxCaps, MagnaTagATune, MusicQA and NSynth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .captions import describe
from .families import Instrument, build_families
from .music import Note, Phrase
from .music_words import MAGNATAGATUNE_FOLDERS, ask_about_music
from .planning import Event, Item, Planner, pick
from .scenes import Layer, Scene, Sound, draw_scene, record

ARRANGEMENTS, SHARES = ("single", "sequence", "together", "background"), (0.45, 0.2, 0.2, 0.15)
MUSICCAPS = {"train": 300, "test": 220}
TRACKS, SEGMENTS = 45, 3
MAGNATAGATUNE = {"train": 300, "valid": 50, "test": 220}
MUSICQA = {"train": 260, "test": 220}
NSYNTH = {"train": 440, "valid": 55, "test": 250}
VELOCITIES = (50, 75, 100, 127)  # as in NSynth, without its faintest
NOTE_SECONDS, NOTE_CLIP_SECONDS = 0.9, 1.3
TRACK_IDS, CLIP_IDS, COUNTER = 1176900, 2, 12542


def music_scene(planner: Planner, rng: np.random.Generator, side: str) -> Scene:
    """One or two instruments."""
    arrangement = str(rng.choice(ARRANGEMENTS, p=SHARES))
    events = draw_instruments(planner, rng, side, 1 if arrangement == "single" else 2)
    return draw_scene(rng, events, arrangement, side, planner.speech)


def draw_instruments(planner: Planner, rng: np.random.Generator, side: str, number: int) -> list[Event]:
    """Different events of music."""
    music = [event for event in planner.usable(side) if event.domain == "music"]
    return [music[int(index)] for index in rng.choice(len(music), number, replace=False)]


def plan_musiccaps(planner: Planner) -> list[Item]:
    """One caption for each clip; the two splits are told apart by a column, not by folders."""
    items = []
    for split, full in MUSICCAPS.items():
        for ident in planner.youtube_ids(f"musiccaps/{split}", planner.count(full, 8)):
            rng = planner.rng("musiccaps", ident)
            scene = music_scene(planner, rng, "train" if split == "train" else "heldout")
            start = int(rng.integers(0, 30)) * 10
            texts, path = tuple(describe(scene, rng, 1)), f"audio/{ident}.flac"
            tags = tuple(scene.tags)
            items.append(Item("musiccaps", split, ident, path, f"yt:{ident}:{start}", scene, texts, tags, start))
    return items


def plan_jamendomaxcaps(planner: Planner) -> list[Item]:
    """Tracks of a few stretches, each with its own instrument and caption."""
    items = []
    for number in range(planner.count(TRACKS)):
        ident = str(TRACK_IDS + 7 * number)
        rng = planner.rng("jamendomaxcaps", ident)
        events = draw_instruments(planner, rng, "train", SEGMENTS)
        scene = replace(draw_scene(rng, events, "track", "train", planner.speech), margins=(0.0, 0.0))
        parts = [replace(scene, sounds=(sound,), arrangement="single") for sound in scene.sounds]
        texts = tuple(describe(part, rng, 1)[0] for part in parts)
        path = f"audio/{ident}.flac"
        items.append(Item("jamendomaxcaps", "train", ident, path, f"jam:{ident}", scene, texts, tuple(scene.tags)))
    return items


def plan_magnatagatune(planner: Planner) -> list[Item]:
    """Stretches of songs in folders 0-9 and a-f, which tell the split."""
    items, number = [], CLIP_IDS
    for split, full in MAGNATAGATUNE.items():
        folders = MAGNATAGATUNE_FOLDERS[split]
        for index in range(planner.count(full, 6)):
            number += 1 + index % 4
            rng = planner.rng("magnatagatune", number)
            scene = music_scene(planner, rng, "train" if split == "train" else "heldout")
            begin = 29 * (index % 5)
            name = f"embedded_ensemble-volume_{index // 20}-{index % 20:02d}-piece_{number}-{begin}-{begin + 29}"
            path = f"{folders[index % len(folders)]}/{name}.mp3"
            items.append(Item("magnatagatune", split, str(number), path, f"mtat:{number}", scene))
    return items


def plan_musicqa(planner: Planner, magnatagatune: list[Item]) -> list[Item]:
    """Questions about clips of MagnaTagATune under names that do not say so; MTG-Jamendo's test part is absent here."""
    items = []
    for split, full in MUSICQA.items():
        mine = [item for item in magnatagatune if item.split == split][: planner.count(full, 6)]
        for item in mine:
            ident = f"{COUNTER + len(items):06d}"
            questions = ask_about_music(item.scene, planner.rng("musicqa", ident))
            new = replace(item, corpus="musicqa", ident=ident, path=f"audios/{ident}.wav", questions=questions)
            items.append(new)
    return items


def plan_nsynth(planner: Planner) -> list[Item]:
    """Single notes, the families in turn; a split's instruments are numbered by family and source."""
    families = build_families(planner.events)
    items = []
    for split, full in NSYNTH.items():
        own = families["train" if split == "train" else "heldout"]
        for index in range(planner.count(full, len(own))):
            family = sorted(own)[index % len(own)]
            rng = planner.rng("nsynth", split, index)
            instrument = pick(rng, own[family])
            key, velocity = int(pick(rng, instrument.keys)), int(pick(rng, VELOCITIES))
            number = instrument.program + (0 if split == "train" else 500)
            ident = f"{family}_{instrument.source}_{number:03d}-{key:03d}-{velocity:03d}"
            path = f"nsynth-{split}/audio/{ident}.wav"
            details = {"family": family, "source": instrument.source}
            scene = note_scene(rng, instrument, key, velocity)
            items.append(Item("nsynth", split, ident, path, f"nsynth:{split}/{ident}", scene, details=details))
    return list({item.ident: item for item in reversed(items)}.values())[::-1]  # a note in one split only


def note_scene(rng: np.random.Generator, instrument: Instrument, key: int, velocity: int) -> Scene:
    """One note in a quiet room, held and then released."""
    phrase = Phrase(0, instrument.program, (Note(0.0, NOTE_SECONDS, key, velocity),))
    event = Event(instrument.family, "music", (instrument.family,), (("plays", "playing"),), "figure", ())
    scene = record(rng, (Sound(event, (Layer(phrase),)),), "single", noisy=0.0)
    flat = tuple(0.3 * gain for gain in scene.equaliser)
    return replace(scene, reverberation=0.0, margins=(0.0, 0.1), equaliser=flat)
