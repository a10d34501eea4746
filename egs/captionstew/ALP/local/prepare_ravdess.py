#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RAVDESS: two sentences spoken by 24 actors in eight emotions.

Source:   https://zenodo.org/records/1188976 (Audio_Speech_Actors_01-24.zip)
Licence:  CC BY-NC-SA 4.0.
Layout:   <corpus-dir>/**/Actor_<01-24>/03-01-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav, the numbers
              of modality (03 audio), channel (01 speech), and so on. Songs (03-02-...) are not read.
Expected: 1,440 files. No split is official: actors 21 to 24 are for test, so 1,200 / 240 (train / test).
Ids:      ravdess:<file stem>. Actors with even numbers are women; ages are not published by actor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from icefall_alp.data.audio_keys import ravdess
from icefall_alp.data.captions import AudioItem
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.manifests import find_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgusted", "surprised")  # numbers 01 to 08
TEST_ACTORS = range(21, 25)
_STEM = re.compile(r"03-(0[12])-(0[1-8])-0[12]-0[12]-0[12]-(0[1-9]|1[0-9]|2[0-4])")


def ravdess_items(root: Path, skipped: SkipList) -> Iterator[AudioItem]:
    """Yield every spoken file."""
    num_songs = 0
    for path in find_audio(root):
        with skipped.bad_row(path):
            match = _STEM.fullmatch(PurePosixPath(path).stem)
            if match is None:
                raise ValueError("no RAVDESS name (03-01-06-01-02-01-12)")
            if match[1] == "02":
                num_songs += 1
                continue
            actor = int(match[3])
            known = {"emotion": EMOTIONS[int(match[2]) - 1], "gender": "male" if actor % 2 else "female"}
            yield AudioItem(ravdess(path), path, "test" if actor in TEST_ACTORS else "train", attributes=known)
    if num_songs:
        skipped.add("song", f"{num_songs} songs; only speech is read", num_songs, where=str(root.name))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    skipped = SkipList()
    write_manifests("ravdess", ravdess_items(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
