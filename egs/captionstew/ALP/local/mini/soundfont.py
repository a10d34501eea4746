# SPDX-License-Identifier: Apache-2.0
"""Which recorded samples of the General MIDI soundfont a key plays, and which of them are for training.

Reads the preset, instrument and sample tables of a SoundFont 2 file (RIFF list `pdta`, SoundFont technical
specification 2.01, section 7). Neighbouring keys, and different programs and drum kits, often play the same sample,
so a side of the corpora is given samples, not keys: a key belongs to a side when all its samples do.
"""

from __future__ import annotations

import functools
import importlib.util
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

# sfGenOper of the tables, and the record layouts of section 7
INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, SAMPLE = 41, 43, 44, 53
LAYOUTS = {
    "phdr": "<20s3H3I", "pbag": "<2H", "pgen": "<2H", "inst": "<20sH", "ibag": "<2H", "igen": "<2H",
    "shdr": "<20s5IBb2H",
}  # fmt: skip
STEREO_TYPES = (2, 4)  # right and left half of a linked pair
WIDEST = 0x7F00  # a range is its lower end and, times 256, its upper end
HELDOUT_WEIGHT = 1.5  # training gets about three of five samples
DRUM_BANK = 128
Press = tuple[int, int, int]  # bank, program or kit, key


@dataclass(frozen=True)
class Zone:
    """Keys and velocities, both ends included, that play one sample."""

    sample: str
    keys: tuple[int, int]
    velocities: tuple[int, int]


@dataclass(frozen=True)
class Soundfont:
    """Tables of a soundfont.

    Attributes:
        presets: (bank, program) -> its zones.
        pairs: sample -> the other half of its stereo recording.
    """

    presets: dict[tuple[int, int], tuple[Zone, ...]]
    pairs: dict[str, str]

    def samples(self, press: Press, velocity: int | None = None) -> set[str]:
        """Names of the samples that a key plays at a velocity, or at any; with the other halves of stereo pairs."""
        bank, program, key = press
        played = {
            zone.sample
            for zone in self.presets[bank, program]
            if zone.keys[0] <= key <= zone.keys[1]
            and (velocity is None or zone.velocities[0] <= velocity <= zone.velocities[1])
        }
        return played | {self.pairs[name] for name in played if name in self.pairs}


def soundfont_path() -> Path:
    """The soundfont that pip's pretty_midi brings; found, not imported: the package needs more than its soundfont."""
    spec = importlib.util.find_spec("pretty_midi")
    return Path(spec.submodule_search_locations[0]) / "TimGM6mb.sf2"


@functools.lru_cache(maxsize=1)
def general_midi() -> Soundfont:
    """The tables of `soundfont_path()`."""
    return read_soundfont(soundfont_path())


def read_soundfont(path: Path) -> Soundfont:
    """Read the tables of a SoundFont 2 file.

    Args:
        path: the file.

    Returns:
        Its presets.

    Raises:
        KeyError: a table is missing.
    """
    tables = _tables(path.read_bytes())
    heads = tables["shdr"][:-1]  # the last record of every table only marks its end
    names = [_text(head[0]) for head in heads]
    instruments = [list(_zones(tables, "i", head[1], end[1])) for head, end in _spans(tables["inst"])]
    presets = {}
    for head, end in _spans(tables["phdr"]):
        found = []
        for outer in _zones(tables, "p", head[3], end[3]):
            for inner in instruments[outer[INSTRUMENT]]:
                keys, velocities = (_common(outer, inner, which) for which in (KEY_RANGE, VELOCITY_RANGE))
                if keys[0] <= keys[1] and velocities[0] <= velocities[1]:
                    found.append(Zone(names[inner[SAMPLE]], keys, velocities))
        presets[head[2], head[1]] = tuple(found)
    pairs = {names[i]: names[head[8]] for i, head in enumerate(heads) if head[9] in STEREO_TYPES}
    return Soundfont(presets, pairs)


def _tables(data: bytes) -> dict[str, list[tuple]]:
    tables = {}
    for name, start, stop in _chunks(data, 12, len(data)):
        if name == "LIST" and data[start : start + 4] == b"pdta":
            for table, first, last in _chunks(data, start + 4, stop):
                if table in LAYOUTS:
                    tables[table] = list(struct.iter_unpack(LAYOUTS[table], data[first:last]))
    return tables


def _chunks(data: bytes, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
    while start < stop:
        name, size = struct.unpack_from("<4sI", data, start)
        yield name.decode("latin-1"), start + 8, start + 8 + size
        start += 8 + size + size % 2


def _spans(table: list[tuple]) -> Iterator[tuple[tuple, tuple]]:
    return pairwise(table)


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin-1").strip()


def _zones(tables: dict[str, list[tuple]], level: str, start: int, stop: int) -> Iterator[dict[int, int]]:
    """Generators of each zone of a preset (level p) or instrument (i); a first zone without target is the default."""
    target = INSTRUMENT if level == "p" else SAMPLE
    bags, generators = tables[f"{level}bag"], tables[f"{level}gen"]
    default: dict[int, int] = {}
    for number in range(start, stop):
        zone = dict(generators[bags[number][0] : bags[number + 1][0]])
        if target in zone:
            yield default | zone
        elif number == start:
            default = zone


def _common(outer: dict[int, int], inner: dict[int, int], which: int) -> tuple[int, int]:
    ranges = [zone.get(which, WIDEST) for zone in (outer, inner)]
    return max(r % 256 for r in ranges), min(r // 256 for r in ranges)


# ---- sides ----------------------------------------------------------------------------------------------------------


def allot_samples(font: Soundfont, events: list[list[Press]], placed: dict[str, str] | None = None) -> dict[str, str]:
    """Give each sample to a side.

    Samples that ever sound together are one group (union-find). Event by event, the groups that no earlier event
    placed are dealt out, the one of most keys first: training gets the first, then about three of five. A key that
    would join groups of both sides joins none, and is for neither.

    Args:
        font: the soundfont.
        events: all keys that each event may play.
        placed: samples that have their side already.

    Returns:
        Sample -> "train" or "heldout".
    """
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    side = {find(name): where for name, where in (placed or {}).items()}
    for press in (press for presses in events for press in presses):
        groups = sorted({find(name) for name in font.samples(press)})
        where = {side[group] for group in groups if group in side}
        if len(where) < 2:
            parent |= dict.fromkeys(groups, groups[0])
            side |= dict.fromkeys(groups[:1], *where) if where else {}
    for presses in events:
        sizes = Counter(find(min(font.samples(press))) for press in presses)
        dealt = Counter(side[group] for group in sizes if group in side)
        for group, _ in sizes.most_common():
            if group not in side:
                side[group] = "heldout" if HELDOUT_WEIGHT * dealt["heldout"] < dealt["train"] else "train"
                dealt[side[group]] += 1
    return {name: side[find(name)] for name in parent}
