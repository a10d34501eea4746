#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ESC-50: five-second environmental sounds from Freesound, 40 in each of 50 classes.

Source:   https://github.com/karolpiczak/ESC-50
Licence:  CC BY-NC 3.0; each sound has its own Freesound licence.
Layout:   <corpus-dir>/audio/<fold>-<Freesound id>-<take>-<target>.wav
          <corpus-dir>/meta/esc50.csv with filename,fold,target,category,esc10,src_file,take
Expected: 2,000 clips of 1,524 sounds. All are in the test split: here the corpus is only evaluated (zero-shot), and
          its sounds are kept out of the sources. The five folds are for cross-validation, which no stage does.
Ids:      fs:<src_file>/<take>; where in the sound a take lies is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import esc50 as esc50_key
from icefall_alp.data.audio_keys import esc50_file, freesound
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import rescue
from icefall_alp.data.manifests import preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit

COLUMNS = ("filename", "category", "src_file", "take")
CLASSES = (  # in the order of `target`
    "dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow", "rain", "sea_waves",
    "crackling_fire", "crickets", "chirping_birds", "water_drops", "wind", "pouring_water", "toilet_flush",
    "thunderstorm", "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing",
    "brushing_teeth", "snoring", "drinking_sipping", "door_wood_knock", "mouse_click", "keyboard_typing",
    "door_wood_creaks", "can_opening", "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick",
    "glass_breaking", "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane",
    "fireworks", "hand_saw",
)  # fmt: skip


def damaged_key(word: str) -> str:
    """Key of a file name or of a number that is neither fold nor target."""
    return freesound(word) if word.isdecimal() and len(word) > 2 else esc50_file(word)


def esc50(root: Path, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every clip with its class."""
    path = root / "meta/esc50.csv"
    with skipped.reading(path.name, "test"):
        for where, row in csv_rows(path, COLUMNS, skipped, rescue=rescue(damaged_key)):
            with skipped.bad_row(where):
                key = esc50_key(row["src_file"], row["take"])
                with skipped.bad_row(where, key=key, split="test"):
                    if row["category"] not in CLASSES:
                        raise ValueError(f"category {row['category']!r} is none of the 50")
                    yield LabelledAudio(key, f"audio/{row['filename']}", "test", (row["category"],))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("esc50", esc50(args.corpus_dir, skipped), skipped, args)
    write_classes(args.manifests_dir, "esc50", CLASSES)


if __name__ == "__main__":
    main()
