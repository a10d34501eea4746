# SPDX-License-Identifier: Apache-2.0
"""Which clips the corpora get that only help: UrbanSound8K and ESC-50 for the leak filter, MUSAN as noise."""

from __future__ import annotations

from dataclasses import replace

from .events import Event
from .planning import Item, Planner, utterance_sound
from .scenes import draw_scene, record
from .speech import VARIANTS, Utterance, number_text

URBANSOUND8K, ESC50, MUSAN = 40, 40, 8
URBANSOUND8K_IDS, ESC50_IDS = 150000, 200000
# event -> class and its number
URBANSOUND8K_CLASSES = {
    "dog": ("dog_bark", 3), "siren": ("siren", 8), "a harmonica": ("street_music", 9), "a violin": ("street_music", 9),
    "drum kit": ("street_music", 9),
}  # fmt: skip
ESC50_CLASSES = {
    "dog": ("dog", 0), "rooster": ("rooster", 1), "pig": ("pig", 2), "cow": ("cow", 3), "cat": ("cat", 5),
    "bee": ("insects", 7), "sheep": ("sheep", 8), "crow": ("crow", 9), "cricket": ("crickets", 13),
    "songbird": ("chirping_birds", 14), "clap": ("clapping", 22), "walk": ("footsteps", 25), "laugh": ("laughing", 26),
    "knock": ("door_wood_knock", 30), "typing": ("keyboard_typing", 32), "alarm": ("clock_alarm", 37),
    "clock": ("clock_tick", 38), "siren": ("siren", 42), "bell": ("church_bells", 46),
}  # fmt: skip
PARTS = {"noise": "free-sound", "music": "fma", "speech": "librivox"}


def plan_urbansound8k(planner: Planner) -> list[Item]:
    """Two slices of most sounds."""
    events = _known(planner, URBANSOUND8K_CLASSES)
    items = []
    for index in range(planner.count(URBANSOUND8K, 6)):
        event = events[index // 2 % len(events)]
        name, number = URBANSOUND8K_CLASSES[event.name]
        rng = planner.rng("urbansound8k", index)
        scene = draw_scene(rng, [event], "single", "heldout", planner.speech)
        sound, fold = str(URBANSOUND8K_IDS + 31 * (index // 2)), 1 + index // 2 % 10
        path = f"audio/fold{fold}/{sound}-{number}-0-{index % 2}.wav"
        details = {"class": name, "number": str(number), "fold": str(fold), "slice": str(index % 2)}
        items.append(Item("urbansound8k", "test", sound, path, f"fs:{sound}/{index % 2}", scene, details=details))
    return items


def plan_esc50(planner: Planner) -> list[Item]:
    """Two takes of most sounds."""
    events = _known(planner, ESC50_CLASSES)
    items = []
    for index in range(planner.count(ESC50, 6)):
        event = events[index // 2 % len(events)]
        name, number = ESC50_CLASSES[event.name]
        rng = planner.rng("esc50", index)
        scene = draw_scene(rng, [event], "single", "heldout", planner.speech)
        sound, take, fold = str(ESC50_IDS + 29 * (index // 2)), "AB"[index % 2], 1 + index // 2 % 5
        path = f"audio/{fold}-{sound}-{take}-{number}.wav"
        details = {"class": name, "number": str(number), "fold": str(fold), "take": take}
        items.append(Item("esc50", "test", sound, path, f"fs:{sound}/{take}", scene, details=details))
    return items


def plan_musan(planner: Planner) -> list[Item]:
    """Sounds, music and speech of the training side, to be mixed into training audio."""
    items = []
    for part, archive in PARTS.items():
        events = [event for event in planner.usable("train") if event.domain == {"noise": "sound"}.get(part, part)]
        for index in range(planner.count(MUSAN)):
            rng = planner.rng("musan", part, index)
            if part == "speech":
                voice = VARIANTS["male", "train"][index % len(VARIANTS["male", "train"])]
                utterance = Utterance("en-us", voice, number_text(rng, "train"))
                scene = record(rng, (utterance_sound(utterance, "male"),), "single")
            else:
                event = events[int(rng.integers(len(events)))]
                scene = draw_scene(rng, [event], "single", "train", planner.speech)
            name = f"{part}-{archive}-{index:04d}"
            items.append(Item("musan", "train", name, f"{part}/{archive}/{name}.wav", f"musan:{name}", scene))
    return items


def plan_leaks(planner: Planner, *corpora: list[Item]) -> list[Item]:
    """Sounds of the benchmarks from Freesound that WavCaps holds too."""
    items = []
    for item in (item for corpus in corpora for item in corpus[:4:2]):
        rng = planner.rng("planted", item.corpus, item.ident)
        items.append(replace(planner.wavcaps_item("FreeSound", item.ident, item.key, item.scene, rng), salt="leak"))
    return items


def _known(planner: Planner, classes: dict[str, tuple[str, int]]) -> list[Event]:
    return [event for event in planner.usable("heldout") if event.name in classes]
