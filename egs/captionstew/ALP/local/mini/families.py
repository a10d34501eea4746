# SPDX-License-Identifier: Apache-2.0
"""The instrument families of NSynth, as far as General MIDI has them, split by recorded samples like all events."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .events import SIDES, Event
from .soundfont import Press, allot_samples, general_midi

# family: lowest and highest key, then programs by how the instrument makes its sound
_FAMILIES = """
bass 28 55 acoustic:32,43 electronic:33,34,35,36,37 synthetic:38,39
brass 46 77 acoustic:56,57,58,59,60,61 synthetic:62,63
flute 60 91 acoustic:72,73,74,75,76,77,79
guitar 40 76 acoustic:24,25 electronic:26,27,28,29,30,31
keyboard 36 88 acoustic:0,1,3,6 electronic:2,4,5,7
mallet 55 96 acoustic:8,9,10,11,12,13,14
organ 36 88 electronic:16,17,18 acoustic:19,20
reed 46 84 acoustic:64,65,66,67,68,69,70,71
string 40 88 acoustic:40,41,42,44,45,48,49
synth_lead 48 88 synthetic:80,81,82,83,84,85,86,87
vocal 48 79 acoustic:52,53 synthetic:54
"""


@dataclass(frozen=True)
class Instrument:
    """One program and the keys that one side may play, ascending.

    Attributes:
        family: of NSynth.
        source: acoustic, electronic or synthetic.
        program: General MIDI, from 0.
        keys: whose recorded samples all belong to the side.
    """

    family: str
    source: str
    program: int
    keys: tuple[int, ...]

    @property
    def presses(self) -> list[Press]:
        """The keys with bank and program."""
        return [(0, self.program, key) for key in self.keys]


def build_families(events: list[Event]) -> dict[str, dict[str, list[Instrument]]]:
    """Instruments by side and family.

    Args:
        events: the catalogue; a sample that it gave to a side stays there.

    Returns:
        Side -> family -> instruments. A family without a sample on a side is absent from it.
    """
    font = general_midi()
    placed = {
        sample: side
        for event in events
        for side in SIDES
        for voice in event.sides[side]
        for press in voice
        for sample in font.samples(press)
    }
    listed = [_instruments(line) for line in _FAMILIES.strip().splitlines()]
    sides = allot_samples(font, [[press for own in family for press in own.presses] for family in listed], placed)
    found: dict[str, dict[str, list[Instrument]]] = {side: {} for side in SIDES}
    for instrument in (instrument for family in listed for instrument in family):
        for side in SIDES:
            presses = [press for press in instrument.presses if {sides[name] for name in font.samples(press)} == {side}]
            if presses:
                own = replace(instrument, keys=tuple(key for *_, key in presses))
                found[side].setdefault(instrument.family, []).append(own)
    return found


def _instruments(line: str) -> list[Instrument]:
    """The programs of a line with those of its keys that sound."""
    family, low, high, *groups = line.split()
    font, found = general_midi(), []
    for source, _, programs in (group.partition(":") for group in groups):
        for program in map(int, programs.split(",")):
            keys = (key for key in range(int(low), int(high) + 1) if font.samples((0, program, key)))
            found.append(Instrument(family, source, program, tuple(keys)))
    return found
