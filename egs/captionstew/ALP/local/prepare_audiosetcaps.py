#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AudioSetCaps: captions that language models wrote for clips of AudioSet, VGGSound and YouTube-8M.

Source:   https://huggingface.co/datasets/baijs/AudioSetCaps (lists), audio from YouTube or mirrors of the three.
Licence:  lists CC BY 4.0; the audio belongs to its uploaders.
Layout:   <corpus-dir>/ or <corpus-dir>/Dataset/ with the columns id,caption and the ids
              AudioSetCaps_caption.csv              Y<id>, no start         Y---1_cCGK4M
              VGGSound_AudioSetCaps_caption.csv     <id>_<start>            OxPnZzn1_L8_000883
              YouTube-8M_AudioSetCaps_caption.csv   <id>_<start>_<seconds>  9eUrEyAR3xk_84_10
          audio anywhere below, named by these ids; AudioSet also <id> and, with --audioset-dir, <id>_<start>_<end>.
          Times are in seconds. A list that is absent is noted and left out.
Expected: 1,910,920 + 182,189 + 4,023,990 = 6,117,099 clips, one caption each. AudioSet and VGGSound share clips, so
          there is less audio. Evaluation clips of AudioCaps and VGGSound are among them, for the merge to take out.
Ids:      yt:<id>:<start ms>; of AudioSet the start looked up in its segment lists (--audioset-dir), yt:<id>:as where
          they are not at hand. Keys stand for ten seconds; a row that names more is a bad row. Captions may go on over
          several lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lookups import add_audioset_dir, segment_starts

from icefall_alp.data.audio_keys import youtube, youtube_clip, youtube_file
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

FORM_OF_LIST = {
    "AudioSetCaps_caption.csv": "Y<id>",
    "VGGSound_AudioSetCaps_caption.csv": "<id>_<start>",
    "YouTube-8M_AudioSetCaps_caption.csv": "<id>_<start>_<seconds>",
}
BEGINS_ROW = r"[A-Za-z0-9_-]{11,12}(_[0-9]+){0,2},"


def clip_key(starts: dict[str, str], name: str, form: str) -> str:
    """Key of an id; one without a time is the segment that AudioSet has."""
    video, start = youtube_clip(name, form)
    return youtube(video, start or starts.get(video))


def file_key(starts: dict[str, str], stem: str) -> str:
    """Key of an audio file, which is named in any of the three ways."""
    video, start = youtube_file(stem)
    return youtube(video, start or starts.get(video))


def audiosetcaps(root: Path, audioset_dir: Path | None, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield the clips of the three lists."""
    starts = segment_starts(audioset_dir, skipped)
    folder = root / "Dataset" if (root / "Dataset").is_dir() else root
    lists = existing_lists((folder / name for name in FORM_OF_LIST), skipped)
    audio = index_audio(find_audio(root), partial(file_key, starts))  # by key: VGGSound has several clips of a video
    for path in lists:
        form = FORM_OF_LIST[path.name]
        with skipped.reading(path.name, "train"):
            for where, row in csv_rows(path, ("id", "caption"), skipped, begins_row=BEGINS_ROW):
                with skipped.bad_row(where):
                    key = clip_key(starts, row["id"], form)
                    yield CaptionedAudio(key, audio.get(key), "train", (clean_caption(row["caption"]),), row=form)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    parser = preparation_parser(__doc__)
    add_audioset_dir(parser)
    args = parser.parse_args()
    with SkipList() as skipped:
        write_manifests("audiosetcaps", audiosetcaps(args.corpus_dir, args.audioset_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
