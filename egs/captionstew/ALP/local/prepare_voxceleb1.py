#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb1 speaker identification: 1,251 speakers with the official split, in which every speaker is in all parts.

Source:   https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html; there also meta/iden_split.txt
Licence:  CC BY 4.0; the videos belong to their uploaders.
Layout:   <corpus-dir>/iden_split.txt: "<part> <speaker>/<YouTube id>/<utterance>.wav" (part 1 train, 2 valid, 3 test)
          audio anywhere below in <speaker>/<YouTube id>/<utterance>.wav; of dev and test both archives are needed.
Expected: 138,361 / 6,904 / 8,251 utterances (train / valid / test).
Ids:      vox:<speaker>/<YouTube id>/<utterance>. The label is the speaker; the numbers differ from VoxCeleb2's.
Lhotse:   its recipe makes the split for verification, whose test speakers are in no other part; for the lengths that
          it measured (needs vox1_meta.csv, the audio below wav/, and the net for a list of trials):
              mkdir -p data/lhotse && lhotse prepare voxceleb -v1 DIR data/lhotse
              local/scan_audio.py --corpus-dir DIR --recordings data/lhotse/voxceleb_recordings_*.jsonl.gz
          It looks up every utterance in a list of them, so that its time grows with their square.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import voxceleb
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import UNKNOWN_SPLIT, rescue
from icefall_alp.data.manifests import find_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit

SPLIT_OF_PART = {"1": "train", "2": "valid", "3": "test"}


def index_utterances(root: Path, skipped: SkipList) -> dict[str, str]:
    """Paths by key; audio whose path is no utterance's is noted."""
    index: dict[str, str] = {}
    for path in find_audio(root):
        with skipped.bad_row(path):
            index.setdefault(voxceleb(path), path)
    return index


def voxceleb1(args: argparse.Namespace, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every utterance of the list with its speaker; write the list of classes."""
    audio = index_utterances(args.corpus_dir, skipped)
    speakers = set()
    path = args.corpus_dir / "iden_split.txt"
    rows = csv_rows(path, ("part", "path"), skipped, has_header=False, delimiter=" ", rescue=rescue(voxceleb))
    with skipped.reading(path.name, UNKNOWN_SPLIT):
        for where, row in rows:
            with skipped.bad_row(where):
                key, split = voxceleb(row["path"]), SPLIT_OF_PART.get(row["part"], UNKNOWN_SPLIT)
                with skipped.bad_row(where, key=key, split=split):
                    if row["part"] not in SPLIT_OF_PART:
                        raise ValueError(f"part {row['part']!r} is none of 1, 2, 3")
                    speaker = key.removeprefix("vox:").split("/")[0]
                    speakers.add(speaker)
                    yield LabelledAudio(key, audio.get(key), split, (speaker,))
    write_classes(args.manifests_dir, "voxceleb1", sorted(speakers))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("voxceleb1", voxceleb1(args, skipped), skipped, args)


if __name__ == "__main__":
    main()
