#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""WavCaps: web sounds whose descriptions a language model rewrote into captions, in four parts.

Source:   https://huggingface.co/datasets/cvssp/WavCaps
Licence:  tagged CC BY 4.0, with the words "academic uses only"; each archive has its own terms.
Layout:   <corpus-dir>/json_files/{AudioSet_SL/as,BBC_Sound_Effects/bbc,FreeSound/fsd,SoundBible/sb}_final.json, each
              {"num_captions_per_audio": 1, "data": [{"id": ..., "caption": ..., "duration": ...}, ...]}
          audio (32 kHz flac in the zips) under any folder named after its part, such as audio/FreeSound/<id>.flac or
          FreeSound_flac/<id>.flac; numbers of two parts may be equal. A part that is absent is noted and left out.
Expected: 108,317 + 31,201 + 262,300 + 1,232 = 403,050 clips, one caption each; many are longer than a minute.
Ids:      AudioSet_SL "Yb0RFKhbpFJA.wav" is yt:<id>:<start ms>, the start looked up in AudioSet's segment lists
          (--audioset-dir), yt:<id>:as where they are not at hand; bbc:<id>, fs:<number>, sb:<number>.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from lookups import add_audioset_dir, segment_starts

from icefall_alp.data import audio_keys
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, duration_field, existing_lists, json_rows, text_field
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

LISTS = {"AudioSet_SL": "as", "BBC_Sound_Effects": "bbc", "FreeSound": "fsd", "SoundBible": "sb"}


def audioset_key(starts: dict[str, str], name: str) -> str:
    """Key of `Y<id>`."""
    video, _ = audio_keys.youtube_clip(name, "Y<id>")
    return audio_keys.youtube(video, starts.get(video))


def wavcaps(root: Path, audioset_dir: Path | None, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield the clips of all parts."""
    key_of: dict[str, Callable[[str], str]] = {
        "AudioSet_SL": partial(audioset_key, segment_starts(audioset_dir, skipped)),
        "BBC_Sound_Effects": audio_keys.bbc,
        "FreeSound": audio_keys.freesound,
        "SoundBible": audio_keys.soundbible,
    }
    paths = find_audio(root)
    lists = [root / "json_files" / part / f"{short}_final.json" for part, short in LISTS.items()]
    for path in existing_lists(lists, skipped):
        part = path.parent.name
        mine = [p for p in paths if any(folder.startswith(part) for folder in PurePosixPath(p).parts[:-1])]
        audio = index_audio(mine, str)
        with skipped.reading(path.name, "train"):
            for where, row in json_rows(path, skipped, member="data"):
                with skipped.bad_row(where):
                    name = text_field(row, "id").removesuffix(".wav")
                    duration_field(row)  # the file's own counts, but a row with a broken one is not to be trusted
                    caption = clean_caption(text_field(row, "caption"))
                    yield CaptionedAudio(key_of[part](name), audio.get(name), "train", (caption,), row="")


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    parser = preparation_parser(__doc__)
    add_audioset_dir(parser)
    args = parser.parse_args()
    with SkipList() as skipped:
        write_manifests("wavcaps", wavcaps(args.corpus_dir, args.audioset_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
