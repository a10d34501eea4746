#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VGGSound: ten seconds of YouTube videos, each with one of 309 classes.

Source:   https://www.robots.ox.ac.uk/~vgg/data/vggsound/ (list), audio from YouTube or a mirror of it.
Licence:  CC BY 4.0 for the list; the videos belong to their uploaders.
Layout:   <corpus-dir>/vggsound.csv: YouTube id, start_seconds, label, split   (no header; split is train or test)
          audio anywhere below, named <id>_<start in seconds, six digits>: ---g-f_I2yQ_000001.wav. Videos (mp4) are
          not read; take their sound out first.
Expected: 183,730 / 15,446 clips (train / test). Several clips may come from one video, so the id alone names none.
Ids:      yt:<id>:<start ms>. The classes are the sorted labels of the list.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from icefall_alp.data.audio_keys import SCHEMES, AudioKey, youtube
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import UNKNOWN_SPLIT, rescue
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit

COLUMNS = ("ytid", "start_seconds", "label", "split")
SPLITS = ("train", "test")


def file_stem(key: str) -> str:
    """How the publishers name the file of a clip."""
    clip = AudioKey.parse(key)
    return f"{clip.source.removeprefix('yt:')}_{(clip.start or 0) // 1000:06d}"


def vggsound(args: argparse.Namespace, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every clip with its label; write the list of classes."""
    audio = index_audio(find_audio(args.corpus_dir), str)
    classes = set()
    path, damaged = args.corpus_dir / "vggsound.csv", rescue(SCHEMES["youtube"])
    with skipped.reading(path.name, UNKNOWN_SPLIT):
        for where, row in csv_rows(path, COLUMNS, skipped, has_header=False, rescue=damaged):
            split = row["split"] if row["split"] in SPLITS else UNKNOWN_SPLIT
            with skipped.bad_row(where, split=split):
                key = youtube(row["ytid"], row["start_seconds"])
                with skipped.bad_row(where, key=key, split=split):
                    if row["split"] not in SPLITS:
                        raise ValueError(f"split {row['split']!r} is neither train nor test")
                    if not row["label"]:
                        raise ValueError("empty label")
                    classes.add(row["label"])
                    yield LabelledAudio(key, audio.get(file_stem(key)), split, (row["label"],))
    write_classes(args.manifests_dir, "vggsound", sorted(classes))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("vggsound", vggsound(args, skipped), skipped, args)


if __name__ == "__main__":
    main()
