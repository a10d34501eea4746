#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MUSAN: noise, music and speech to mix into training audio.

Source:   https://www.openslr.org/17
Licence:  CC BY 4.0; the LICENSE file of each folder names the licence of each recording.
Layout:   <corpus-dir>/{noise,music,speech}/<archive>/<name>.wav (the folder musan/ of the archive). A part that is
          absent is noted.
Expected: 930 + 660 + 426 = 2,016 recordings, all in the train split; music and speech are minutes long.
Ids:      musan:<stem>. The stems number the recordings of an archive and hold no id of Freesound or SoundBible, so
          what evaluation sets share with the noises cannot be told.
          The label is the part.
Lhotse:   its recipe finds and measures the same recordings, and a scan takes the lengths from its manifests:
              lhotse prepare musan DIR data/lhotse
              local/scan_audio.py --corpus-dir DIR --recordings data/lhotse/musan_recordings_*.jsonl.gz
          It stops at the first file that cannot be read and at a part that is absent; the scan alone goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import musan as musan_key
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.manifests import find_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import UserError, clean_exit

PARTS = ("noise", "music", "speech")


def musan(root: Path, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every recording with its part."""
    audio = {part: find_audio(root, part) for part in PARTS}
    if not any(audio.values()):
        raise UserError(f"{root}: no recordings below {', '.join(PARTS)}; see the layout in --help")
    for part, paths in audio.items():
        if not paths:
            skipped.add("no_list", "no recordings", where=part)
        for path in paths:
            with skipped.bad_row(path):
                yield LabelledAudio(musan_key(path), path, "train", (part,))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    skipped = SkipList()
    write_manifests("musan", musan(args.corpus_dir, skipped), skipped, args)
    write_classes(args.manifests_dir, "musan", PARTS)


if __name__ == "__main__":
    main()
