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
          they are not at hand. Keys stand for ten seconds; a row that names more is a bad row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prepare_wavcaps import segment_starts

from icefall_alp.data.audio_keys import YOUTUBE_CLIP_MS, youtube, youtube_id
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

NUM_TIMES = {
    "AudioSetCaps_caption.csv": 0,
    "VGGSound_AudioSetCaps_caption.csv": 1,
    "YouTube-8M_AudioSetCaps_caption.csv": 2,
}


def times_in(name: str) -> list[str]:
    """The times behind the video in an id or file stem, by position: the video may hold `_` and begin with Y."""
    return name.partition(youtube_id(name))[2].split("_")[1:]


def check_times(name: str, num_times: int) -> None:
    """Raise ValueError unless an id has as many times as its list gives, of at most ten seconds."""
    times = times_in(name)
    if len(times) != num_times:
        raise ValueError(f"{name!r} has {len(times)} times behind the video instead of {num_times}")
    if num_times == 2 and float(times[1]) * 1000 > YOUTUBE_CLIP_MS:
        raise ValueError(f"{name!r} is longer than the ten seconds that its key would stand for")


def clip_key(starts: dict[str, str], name: str) -> str:
    """Key of an id or file stem; one without a time is the segment that AudioSet has."""
    video, times = youtube_id(name), times_in(name)
    return youtube(video, times[0] if times else starts.get(video))


def audiosetcaps(root: Path, audioset_dir: Path | None, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield the clips of the three lists."""
    key_of = partial(clip_key, segment_starts(audioset_dir, skipped))
    folder = root / "Dataset" if (root / "Dataset").is_dir() else root
    lists = existing_lists((folder / name for name in NUM_TIMES), skipped)
    audio = index_audio(find_audio(root), key_of)  # by key, not by video: VGGSound has several clips of one
    for path in lists:
        for where, row in csv_rows(path, ("id", "caption"), skipped):
            with skipped.bad_row(where):
                check_times(row["id"], NUM_TIMES[path.name])
                key = key_of(row["id"])
                yield CaptionedAudio(key, audio.get(key), "train", (clean_caption(row["caption"]),))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    parser = preparation_parser(__doc__)
    parser.add_argument("--audioset-dir", type=Path, help="AudioSet's segment lists, for start times")
    args = parser.parse_args()
    skipped = SkipList()
    write_manifests("audiosetcaps", audiosetcaps(args.corpus_dir, args.audioset_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
