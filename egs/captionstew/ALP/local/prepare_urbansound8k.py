#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""UrbanSound8K: street sounds of at most four seconds, cut from Freesound, in ten classes.

Source:   https://urbansounddataset.weebly.com/urbansound8k.html
Licence:  CC BY-NC 3.0; each sound has its own Freesound licence.
Layout:   <corpus-dir>/audio/fold<n>/<Freesound id>-<class>-<occurrence>-<slice>.wav
          <corpus-dir>/metadata/UrbanSound8K.csv with slice_file_name,fsID,start,end,salience,fold,classID,class
Expected: 8,732 clips of 1,297 sounds. All are in the test split: here the corpus is only evaluated, and its sounds
          are kept out of the sources. The ten folds are for cross-validation, which no stage does.
Ids:      fs:<fsID>:<start ms>-<end ms>; start and end are seconds of the Freesound sound. Slices of it overlap; of two
          classes of one stretch the second is noted as a duplicate (five sounds have two classes).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import freesound
from icefall_alp.data.audio_keys import urbansound8k as slice_sound
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import rescue
from icefall_alp.data.manifests import preparation_parser, write_classes, write_manifests
from icefall_alp.data.times import stretch
from icefall_alp.utils.errors import clean_exit

COLUMNS = ("slice_file_name", "fsID", "start", "end", "fold", "class")
CLASSES = (  # in the order of classID
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)


def slice_key(sound: str, start_seconds: str, end_seconds: str) -> str:
    """Key of a slice. Raises ValueError when the times are none."""
    start, end = (round(time * 1000) for time in stretch(start_seconds, end_seconds))
    return freesound(sound, f"[{start}, {end}]", sampling_rate=1000)


def damaged_key(word: str) -> str:
    """Key of the sound that a file name or an fsID names; both stand before every other number."""
    return freesound(word) if word.isdecimal() else slice_sound(word)


def urbansound8k(root: Path, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every clip with its class."""
    path = root / "metadata/UrbanSound8K.csv"
    with skipped.reading(path.name, "test"):
        for where, row in csv_rows(path, COLUMNS, skipped, rescue=rescue(damaged_key)):
            with skipped.bad_row(where):
                key = freesound(row["fsID"])
                with skipped.bad_row(where, key=key, split="test"):
                    key = slice_key(row["fsID"], row["start"], row["end"])
                    if row["class"] not in CLASSES:
                        raise ValueError(f"class {row['class']!r} is none of the ten")
                    audio = f"audio/fold{row['fold']}/{row['slice_file_name']}"
                    yield LabelledAudio(key, audio, "test", (row["class"],))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("urbansound8k", urbansound8k(args.corpus_dir, skipped), skipped, args)
    write_classes(args.manifests_dir, "urbansound8k", CLASSES)


if __name__ == "__main__":
    main()
