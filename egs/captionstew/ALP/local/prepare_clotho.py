#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clotho 2.1: crops of 15-30 s from Freesound with five captions each.

Source:   https://zenodo.org/records/4783391
Licence:  Tampere University's terms (research, no commerce, attribution); each sound has its own Freesound licence.
Layout:   <corpus-dir>/{development,validation,evaluation}/*.wav, and for each of the three beside them
              clotho_captions_<split>.csv   file_name,caption_1,...,caption_5
              clotho_metadata_<split>.csv   file_name,keywords,sound_id,...,start_end_samples,...
              all in ISO-8859-1, or saved again in UTF-8
Expected: 3,839 / 1,045 / 1,045 clips (train / valid / test), five captions each.
Ids:      fs:<sound_id>:<start ms>-<end ms> from the metadata (44.1 kHz samples), fs:<sound_id> where the samples
          are not given, clotho:<split>/<file name> where the sound is "Not found". File names alone are not ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lookups import add_clotho_keys

from icefall_alp.data import audio_keys
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, csv_rows, utf8_or_latin1
from icefall_alp.data.manifests import preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))
SPLIT_OF_FOLDER = {"development": "train", "validation": "valid", "evaluation": "test"}


def clotho(root: Path, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield each clip with its captions."""
    for folder, split in SPLIT_OF_FOLDER.items():
        # one list without the other is of no use: without its Freesound id no clip can be told to be evaluated
        with skipped.reading(folder, split):
            keys: dict[str, str] = {}
            add_clotho_keys(keys, root / f"clotho_metadata_{folder}.csv", split, skipped)
            path, named = root / f"clotho_captions_{folder}.csv", set()
            for where, row in csv_rows(path, ("file_name", *CAPTIONS), skipped, encoding=utf8_or_latin1(path)):
                name = row["file_name"]
                named.add(name)
                with skipped.bad_row(where):
                    key = keys.get(name) or audio_keys.clotho(split, name)
                    captions = []
                    for column in CAPTIONS:
                        with skipped.bad_row(f"{where} {column}", key=key, split=split):
                            captions.append(clean_caption(row[column]))
                    if captions:
                        yield CaptionedAudio(key, f"{folder}/{name}", split, tuple(captions), row="")
            for name in sorted(keys.keys() - named):  # its row may be damaged, and the clip is evaluated all the same
                skipped.add("bad_row", f"no captions of {name!r}", where=path.name, key=keys[name], split=split)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("clotho", clotho(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
