#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""NSynth: single notes of four seconds from instruments of eleven families.

Source:   https://magenta.tensorflow.org/datasets/nsynth (the JSON/WAV archives)
Licence:  CC BY 4.0
Layout:   <corpus-dir>/nsynth-{train,valid,test}/examples.json: one object whose keys are the notes and whose values
              have note_str and instrument_family_str, among others
          <corpus-dir>/nsynth-{train,valid,test}/audio/<note>.wav
Expected: 289,205 / 12,678 / 4,096 notes (train / valid / test).
Ids:      nsynth:<note> (bass_synthetic_033-022-050 is instrument, pitch, velocity). The classes are the families in
          the publishers' order; test is said to have no synth_lead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icefall_alp.data.audio_keys import nsynth as note_key
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, json_members, json_object, text_field
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit

SPLITS = ("train", "valid", "test")
FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip


def family_of(row: Any) -> str:
    """The family of a note's row. Raises ValueError when it is none of the eleven."""
    family = text_field(json_object(row), "instrument_family_str")
    if family not in FAMILIES:
        raise ValueError(f"family {family!r} is none of {', '.join(FAMILIES)}")
    return family


def nsynth(root: Path, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every note with its family."""
    for split in SPLITS:
        folder = f"nsynth-{split}"
        audio = index_audio(find_audio(root, f"{folder}/audio"), str)
        with skipped.reading(f"{folder}/examples.json", split):
            for where, note, row in json_members(root / folder / "examples.json", skipped):
                with skipped.bad_row(where):
                    key = note_key(note)
                    with skipped.bad_row(where, key=key, split=split):
                        yield LabelledAudio(key, audio.get(note), split, (family_of(row),))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("nsynth", nsynth(args.corpus_dir, skipped), skipped, args)
    write_classes(args.manifests_dir, "nsynth", FAMILIES)


if __name__ == "__main__":
    main()
