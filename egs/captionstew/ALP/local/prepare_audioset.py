#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AudioSet: ten seconds of two million videos, tagged with 527 classes.

Source:   https://research.google.com/audioset/download.html (lists), audio from YouTube or a mirror of it.
Licence:  labels CC BY 4.0; the audio belongs to its uploaders.
Layout:   <corpus-dir>/{balanced_train,unbalanced_train,eval}_segments.csv: comment lines with #, then
              YTID, start_seconds, end_seconds, "mid,mid"
          <corpus-dir>/class_labels_indices.csv with index,mid,display_name
          audio anywhere below, named Y<id>, <id>, <id>_<start> or <id>_<start>_<end>. One of the two training lists
          may be absent.
Expected: 22,160 + 2,041,789 segments (train), 20,371 (test), one segment for each video.
Ids:      yt:<id>:<start ms>. Labels are display names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from lookups import clip_file, read_classes, segment_rows

from icefall_alp.data.audio_keys import SCHEMES, check_youtube_times, youtube, youtube_id
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists
from icefall_alp.data.damaged_rows import rescue
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit

TRAIN_LISTS = ("balanced_train_segments.csv", "unbalanced_train_segments.csv")


def display_names(root: Path, skipped: SkipList) -> dict[str, str]:
    """Display name of each MID, in index order."""
    rows = csv_rows(root / "class_labels_indices.csv", ("index", "mid", "display_name"), skipped)
    return read_classes(rows, skipped, "mid", "display_name")


def audioset(args: argparse.Namespace, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every segment with its labels; write the list of classes."""
    root, names = args.corpus_dir, display_names(args.corpus_dir, skipped)
    write_classes(args.manifests_dir, "audioset", names.values())
    audio = index_audio(find_audio(root), youtube_id)
    lists = [(path, "train") for path in existing_lists((root / name for name in TRAIN_LISTS), skipped)]
    for path, split in [*lists, (root / "eval_segments.csv", "test")]:
        with skipped.reading(path.name, split):
            for where, row in segment_rows(path, skipped, rescue(SCHEMES["youtube"], split)):
                with skipped.bad_row(where):
                    key = youtube(row["ytid"], row["start_seconds"])
                    with skipped.bad_row(where, key=key, split=split):
                        check_youtube_times(row["start_seconds"], row["end_seconds"])
                        mids = row["positive_labels"].split(",")
                        if unknown := [mid for mid in mids if mid not in names]:
                            raise ValueError(f"label {unknown[0]!r} is not in class_labels_indices.csv")
                        yield LabelledAudio(key, clip_file(audio, key), split, tuple(names[mid] for mid in mids))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("audioset", audioset(args, skipped), skipped, args)


if __name__ == "__main__":
    main()
