#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AudioCaps: ten-second YouTube clips with captions by crowd workers.

Source:   https://github.com/cdjkim/audiocaps (lists), audio from YouTube or through the authors' form.
Licence:  lists MIT, "academic purposes only"; the audio belongs to its uploaders.
Layout:   <corpus-dir>/{train,val,test}.csv, or in dataset/ (version 1, the paper's) and dataset2.0/ (version 2, with
          --list-version 2) as in the repository, with the columns audiocap_id,youtube_id,start_time,caption
          audio anywhere below, named <id>, Y<id>, <id>_<start> or <id>_<start>_<end>; flac, wav, ogg, opus or mp3.
Expected: 49,838 / 495 / 975 clips (train / valid / test) with 1 / 5 / 5 captions, one row for each caption.
          About 46,000 of the training clips can still be found on YouTube. Version 2 has 91,256 / 2,475 / 4,875 rows;
          its validation and test clips are those of version 1.
Ids:      yt:<id>:<start ms>; start_time is in seconds. All clips are from AudioSet's unbalanced training list.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lookups import clip_file

from icefall_alp.data.audio_keys import SCHEMES, youtube, youtube_id
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import rescue
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
SPLIT_OF_LIST = {"test": "test", "val": "valid", "train": "train"}  # where two rows contradict, the first one counts
FOLDER_OF_VERSION = {"1": "dataset", "2": "dataset2.0"}


def audiocaps(root: Path, version: str, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield a clip for each row of the three lists."""
    folder = root / FOLDER_OF_VERSION[version]
    lists = folder if folder.is_dir() else root
    audio = index_audio(find_audio(root), youtube_id)
    clips: dict[str, str] = {}  # key by number of the row
    for name, split in SPLIT_OF_LIST.items():
        damaged = rescue(SCHEMES["youtube"], split)
        with skipped.reading(f"{name}.csv", split):
            for where, row in csv_rows(lists / f"{name}.csv", COLUMNS, skipped, rescue=damaged):
                with skipped.bad_row(where):
                    key, number = youtube(row["youtube_id"], row["start_time"]), row["audiocap_id"]
                    with skipped.bad_row(where, key=key, split=split):
                        if not number.strip():
                            raise ValueError("empty audiocap_id")
                        path, captions = clip_file(audio, key), (clean_caption(row["caption"]),)
                        if clips.setdefault(number, key) != key:
                            skipped.repeated(False, where=where, key=key, split=split)
                            continue
                        yield CaptionedAudio(key, path, split, captions, row=number)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    parser = preparation_parser(__doc__)
    parser.add_argument("--list-version", default="1", choices=list(FOLDER_OF_VERSION), help="of the lists")
    args = parser.parse_args()
    with SkipList() as skipped:
        write_manifests("audiocaps", audiocaps(args.corpus_dir, args.list_version, skipped), skipped, args)


if __name__ == "__main__":
    main()
