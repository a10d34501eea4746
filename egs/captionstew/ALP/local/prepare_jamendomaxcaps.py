#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""JamendoMaxCaps: tracks of the Jamendo archive, of which a language model captioned stretches of thirty seconds.

Source:   https://huggingface.co/datasets/amaai-lab/JamendoMaxCaps
Licence:  CC BY-SA 3.0 (card); each track has its own Creative Commons licence.
Layout:   <corpus-dir>/final_caption30sec.jsonl (or the earlier caption30sec.jsonl), one row for each stretch:
              {"start_time": 60.0, "end_time": 90.0, "caption": ..., "id": "1176956"}
          whole tracks anywhere below, named <track id>. The parquet files hold them as <track id>.mp3 and have to be
          unpacked.
Expected: about 362,000 tracks and 1.8 million captions; a clip is one stretch.
Ids:      jam:<track id>:<start ms>-<end ms>. The cut lies in the recording of the track and ends with it at the latest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icefall_alp.data.audio_keys import jamendo
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, jsonl_rows, text_field
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.data.times import stretch
from icefall_alp.utils.errors import UserError, clean_exit

LISTS = ("final_caption30sec.jsonl", "caption30sec.jsonl")


def stretch_of_row(row: dict[str, Any]) -> tuple[float, float]:
    """Start and end in seconds. Raises ValueError when they bound nothing."""
    times = row.get("start_time"), row.get("end_time")
    if not all(isinstance(time, (int, float)) for time in times):
        raise ValueError(f"start_time {times[0]!r} and end_time {times[1]!r} are no numbers")
    return stretch(*times)


def jamendomaxcaps(root: Path, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield every captioned stretch."""
    path = next((root / name for name in LISTS if (root / name).is_file()), None)
    if path is None:
        raise UserError(f"{root}: neither {' nor '.join(LISTS)} is there; see the layout in --help")
    tracks = index_audio(find_audio(root), jamendo)
    for where, row in jsonl_rows(path, skipped):
        with skipped.bad_row(where):
            track, (start, end) = text_field(row, "id"), stretch_of_row(row)
            yield CaptionedAudio(
                jamendo(track, start, end),
                tracks.get(jamendo(track)),
                "train",
                (clean_caption(text_field(row, "caption")),),
                start=start,
                duration=end - start,
            )


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    skipped = SkipList()
    write_manifests("jamendomaxcaps", jamendomaxcaps(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
