#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MagnaTagATune: 29 s of songs with the tags that players of a game agreed on; the 50 most frequent tags of 188.

Source:   https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset
Licence:  research use; the songs belong to Magnatune and its artists.
Layout:   <corpus-dir>/annotations_final.csv: TAB-separated with a header: clip_id, a column of 0 and 1 for each tag,
              mp3_path (f/<name>.mp3)
          <corpus-dir>/{0..9,a..f}/*.mp3, joined and unpacked from mp3.zip.00{1,2,3}
Expected: 15,244 / 1,529 / 4,332 clips (train / valid / test): those with one of the 50 tags among the 18,709 / 1,825 /
          5,329 in folders 0-b / c / d-f (12:1:3). The others are listed as bad rows. The paper's 19,425 / 4,856 clips
          are no known split.
Ids:      mtat:<clip_id>. Tags that mean the same ("no vocal", "no vocals") stay apart, as usual with this set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import magnatagatune as clip_key
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import UNKNOWN_SPLIT, rescue
from icefall_alp.data.manifests import preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit

TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo",
    "man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
    "no voice", "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip
SPLIT_OF_FOLDER = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}


def damaged_key(word: str) -> str:
    """Key of a clip id; a single 0 or 1 is a tag, and the first clip is 2."""
    if word in ("0", "1"):
        raise ValueError(f"{word!r} is a tag")
    return clip_key(word)


def read_tags(row: dict[str, str]) -> tuple[str, ...]:
    """The clip's tags among the 50. Raises ValueError when there is none."""
    if wrong := [tag for tag in TAGS if row[tag] not in ("0", "1")]:
        raise ValueError(f"tag {wrong[0]!r} is {row[wrong[0]]!r}, neither 0 nor 1")
    tags = tuple(tag for tag in TAGS if row[tag] == "1")
    if not tags:
        raise ValueError(f"none of the {len(TAGS)} tags")
    return tags


def magnatagatune(root: Path, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every clip that has one of the 50 tags."""
    path = root / "annotations_final.csv"
    columns = ("clip_id", *TAGS, "mp3_path")
    with skipped.reading(path.name, UNKNOWN_SPLIT):
        for where, row in csv_rows(path, columns, skipped, delimiter="\t", rescue=rescue(damaged_key)):
            with skipped.bad_row(where):
                key, mp3 = clip_key(row["clip_id"]), row["mp3_path"]
                folder, _, _ = mp3.partition("/")
                split = SPLIT_OF_FOLDER.get(folder, UNKNOWN_SPLIT)
                with skipped.bad_row(where, key=key, split=split):
                    if folder not in SPLIT_OF_FOLDER:
                        raise ValueError(f"mp3_path {mp3!r} is in none of the folders 0-9, a-f")
                    yield LabelledAudio(key, mp3, split, read_tags(row))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("magnatagatune", magnatagatune(args.corpus_dir, skipped), skipped, args)
    write_classes(args.manifests_dir, "magnatagatune", TAGS)


if __name__ == "__main__":
    main()
