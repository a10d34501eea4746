# SPDX-License-Identifier: Apache-2.0
"""Which clips the corpora of YouTube videos get: VGGSound, AudioSet-strong, AudioSetCaps and FusionAudio.

They share most of their audio with each other and with AudioCaps and AudioSet, as the real ones do.
"""

from __future__ import annotations

from dataclasses import replace

from .captions import describe
from .events import TAGS
from .planning import Item, Planner
from .scenes import draw_scene

VGGSOUND = {"train": 380, "test": 220}
AUDIOSET_STRONG = {"train": 240, "eval": 200}
STRONG_SECONDS, STRONG_QUIET = 8.0, 3.0  # of a clip; in short ones 100 false positives per hour are next to none
AUDIOSETCAPS = {"AudioSet": 120, "YouTube-8M": 100}
SHARED = {"audiocaps": 60, "vggsound": 100, "audioset": 100, "audiosetcaps": 30}  # WavCaps has AudioCaps' first ones
TRAP = "Y"  # a video whose id begins with Y must keep it
# event -> label of VGGSound
VGGSOUND_LABELS = {
    "dog": "dog barking", "cat": "cat meowing", "songbird": "bird chirping, tweeting", "rooster": "chicken crowing",
    "duck": "duck quacking", "goose": "goose honking", "owl": "owl hooting", "crow": "crow cawing",
    "cricket": "cricket chirping", "bee": "bee, wasp, etc. buzzing", "sheep": "sheep bleating",
    "cow": "cattle mooing", "pig": "pig oinking", "big cat": "lions roaring", "scream": "people screaming",
    "bell": "church bell ringing", "water": "splashing water", "record": "disc scratching",
    "a piano": "playing piano", "a marimba": "playing marimba, xylophone", "a xylophone": "playing marimba, xylophone",
    "an electric organ": "playing electronic organ", "a harmonica": "playing harmonica",
    "a nylon-string guitar": "playing acoustic guitar", "a steel-string guitar": "playing acoustic guitar",
    "a distorted electric guitar": "playing electric guitar", "a slap bass": "playing bass guitar",
    "a violin": "playing violin, fiddle", "a cello": "playing cello", "a harp": "playing harp",
    "a choir": "singing choir", "a trumpet": "playing trumpet", "a flute": "playing flute",
    "a square-wave synthesizer": "playing synthesizer", "a bass drum": "playing bass drum",
    "a snare drum": "playing snare drum", "a crash cymbal": "playing cymbal", "a hand drum": "playing tabla",
    "drum kit": "playing drum kit", "typing": "typing on computer keyboard", "run": "people running",
    "clap": "people clapping", "alarm": "alarm clock ringing", "siren": "police car (siren)",
    "male en-us": "male speech, man speaking", "female en-us": "female speech, woman speaking",
}  # fmt: skip


def plan_vggsound(planner: Planner) -> list[Item]:
    """One label for each clip; two clips of most videos, as in a quarter of the real ones."""
    events = [event for event in planner.usable("heldout") if event.name in VGGSOUND_LABELS]
    items = []
    for split, full in VGGSOUND.items():
        number = planner.count(full, 16)
        videos = planner.youtube_ids(f"vggsound/{split}", (number + 1) // 2)
        videos[4] = TRAP + videos[4][1:]
        for index in range(number):
            ident, event = videos[index // 2], events[index % len(events)]
            rng = planner.rng("vggsound", split, index)
            scene = draw_scene(rng, [event], "single", "train" if split == "train" else "heldout", planner.speech)
            start = 10 * (index // 2 % 20) + 20 * (index % 2)
            name, details = f"{ident}_{start:06d}", {"label": VGGSOUND_LABELS[event.name]}
            path, key, tags = f"video/{split}/{name}.wav", f"yt:{ident}:{start}", tuple(scene.tags)
            items.append(Item("vggsound", split, ident, path, key, scene, (), tags, start, details=details))
    return items


def plan_audioset_strong(planner: Planner) -> list[Item]:
    """Clips of about the real ones' length, in which sounds go on, with the times at which each is heard."""
    tags, items = planner.tags(("", *TAGS)), []
    for split, full in AUDIOSET_STRONG.items():
        side = "heldout" if split == "eval" else "train"
        for index, ident in enumerate(planner.youtube_ids(f"audioset_strong/{split}", planner.count(full, len(tags)))):
            rng = planner.rng("audioset_strong", ident)
            scene = planner.tagged_scene(rng, side, tags, index)
            before = round(float(rng.uniform(0.3, STRONG_QUIET - 0.3)), 3)
            margins = (before, round(STRONG_QUIET - before, 3))
            scene = replace(scene, seconds=STRONG_SECONDS - STRONG_QUIET, margins=margins)
            path, start = f"audio/{split}/Y{ident}.flac", int(rng.integers(0, 30)) * 10
            key = f"yt:{ident}:{start}"
            items.append(Item("audioset_strong", split, ident, path, key, scene, (), tuple(scene.tags), start))
    return items


def plan_audiosetcaps(
    planner: Planner, audiocaps: list[Item], audioset: list[Item], vggsound: list[Item]
) -> list[Item]:
    """Three parts with three forms of id, and evaluation clips in all of them."""
    items = []
    for part, full in AUDIOSETCAPS.items():
        for ident in planner.youtube_ids(f"audiosetcaps/{part}", planner.count(full, 8)):
            rng = planner.rng("audiosetcaps", part, ident)
            scene, start = planner.free_scene(rng, "train"), int(rng.integers(0, 30)) * 10
            new = Item("audiosetcaps", part, ident, "", f"yt:{ident}:{start}", scene, (), tuple(scene.tags), start)
            items.append(_captioned(planner, new, part))
    training = {"audiocaps": _of(audiocaps, "train"), "vggsound": _of(vggsound, "train")}
    for original, part in (("audiocaps", "AudioSet"), ("vggsound", "VGGSound")):
        for item in training[original][-planner.count(SHARED[original], 8) :]:
            items.append(_captioned(planner, item, part, "duplicate"))
    leaks = [(item, "AudioSet") for item in (*_of(audiocaps, "test")[8:11], *_of(audioset, "eval")[4:6])]
    leaks += [(item, "VGGSound") for item in _of(vggsound, "test")[3:6]]
    leaks += [(item, "YouTube-8M") for item in _of(vggsound, "test")[6:8]]
    return [*items, *(_captioned(planner, item, part, "leak") for item, part in leaks)]


def plan_fusionaudio(
    planner: Planner, audioset: list[Item], audiosetcaps: list[Item], musiccaps: list[Item]
) -> list[Item]:
    """AudioSet's training clips with captions, and evaluation clips of AudioSet and MusicCaps among them."""
    shared = _of(audioset, "balanced_train")[6:][: planner.count(SHARED["audioset"], 8)]
    others = [item for item in _of(audiosetcaps, "AudioSet") if not item.salt]
    shared += others[: planner.count(SHARED["audiosetcaps"], 4)]
    leaks = [*_of(audioset, "eval")[6:9], *_of(musiccaps, "test")[:2]]
    items = [_captioned(planner, item, "", "duplicate", "fusionaudio") for item in shared]
    return items + [_captioned(planner, item, "", "leak", "fusionaudio") for item in leaks]


def _captioned(planner: Planner, item: Item, part: str, salt: str = "", corpus: str = "audiosetcaps") -> Item:
    """The clip as one of the two caption corpora has it, with a caption of its own."""
    texts = tuple(describe(item.scene, planner.rng(corpus, part, item.path, item.ident), 1))
    name = {
        "AudioSet": f"Y{item.ident}",
        "VGGSound": f"{item.ident}_{item.start:06d}",
        "YouTube-8M": f"{item.ident}_{item.start}_10",
        "": f"{item.ident}_{item.start}_{item.start + 10}",
    }[part]
    folder = f"audio/{part}" if part else "audio"
    new = replace(item, corpus=corpus, split=part or "train", path=f"{folder}/{name}.flac", salt=salt)
    return replace(new, captions=texts, details={"name": name})


def _of(items: list[Item], split: str) -> list[Item]:
    return [item for item in items if item.split == split]
