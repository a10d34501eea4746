#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MusicCaps: ten-second YouTube clips of music, each described by a musician.

Source:   https://huggingface.co/datasets/google/MusicCaps (list), audio from YouTube.
Licence:  list CC BY-SA 4.0; the audio belongs to its uploaders.
Layout:   <corpus-dir>/musiccaps-public.csv with the columns
              ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,
              is_audioset_eval   (the last two True or False); a few captions go on over several lines
          audio anywhere below, named <id>, Y<id>, <id>_<start> or <id>_<start>_<end>.
Expected: 2,663 / 2,858 clips (train / test), one caption each, one clip for each video. Test is is_audioset_eval,
          which AudioSet's evaluation list has with the same start. The paper's 500 test clips are an unpublished choice
          from it.
Ids:      yt:<ytid>:<start ms>; start_s is in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lookups import clip_file

from icefall_alp.data.audio_keys import SCHEMES, check_youtube_times, youtube, youtube_id
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import UNKNOWN_SPLIT, rescue
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

COLUMNS = ("ytid", "start_s", "end_s", "caption", "is_audioset_eval")
BEGINS_ROW = r"[A-Za-z0-9_-]{11},[0-9]"
SPLIT_OF_EVAL = {"False": "train", "True": "test"}


def musiccaps(root: Path, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield every clip with its caption."""
    audio = index_audio(find_audio(root), youtube_id)
    path, damaged = root / "musiccaps-public.csv", rescue(SCHEMES["youtube"])
    with skipped.reading(path.name, UNKNOWN_SPLIT):
        for where, row in csv_rows(path, COLUMNS, skipped, begins_row=BEGINS_ROW, rescue=damaged):
            value = row["is_audioset_eval"]
            split = SPLIT_OF_EVAL.get(value, UNKNOWN_SPLIT)
            with skipped.bad_row(where, split=split):
                key = youtube(row["ytid"], row["start_s"])
                with skipped.bad_row(where, key=key, split=split):
                    if value not in SPLIT_OF_EVAL:
                        raise ValueError(f"is_audioset_eval {value!r} is neither True nor False")
                    check_youtube_times(row["start_s"], row["end_s"])
                    yield CaptionedAudio(key, clip_file(audio, key), split, (clean_caption(row["caption"]),), row="")


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("musiccaps", musiccaps(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
