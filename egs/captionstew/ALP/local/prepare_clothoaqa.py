#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ClothoAQA: six questions about each of 1,991 Clotho clips, each answered by three people.

Source:   https://zenodo.org/records/6473207
Licence:  see LICENSE.txt of the source; the audio is Clotho's: research, each sound has its own Freesound licence.
Layout:   <corpus-dir>/audio_files/*.wav, <corpus-dir>/clotho_aqa_{train,val,test}.csv (ISO-8859-1) with one row for
          each answer: file_name,QuestionText,answer and further columns, which are not used
          <clotho-dir>/clotho_metadata_{development,validation,evaluation}.csv, see prepare_clotho.py
Expected: 1,174 / 344 / 473 clips (train / valid / test), 18 rows each. Every answer is kept: which of the three counts
          is for the task to say. A row that is there twice cannot be told from two people's equal answers.
Ids:      Clotho's, looked up by file name in its metadata (--clotho-dir): fs:<sound_id>:<start ms>-<end ms> or what
          prepare_clotho.py makes of it. clotho:aqa/<file name> where it is in none: a quarter of the test clips is not
          in Clotho 2.1. The splits are not Clotho's: of the 473 test clips 254 are in its development part, which is a
          source. While ClothoAQA is evaluated (corpora.yaml), the merge takes them out of Clotho's training captions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from lookups import CLOTHO_LISTS, add_clotho_keys

from icefall_alp.data import audio_keys
from icefall_alp.data.captions import QuestionedAudio, clean_caption, group_questions
from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists, utf8_or_latin1
from icefall_alp.data.manifests import preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

SPLIT_OF_LIST = {"train": "train", "val": "valid", "test": "test"}
COLUMNS = ("file_name", "QuestionText", "answer")


def clotho_keys(clotho_dir: Path | None, skipped: SkipList) -> dict[str, str]:
    """Clotho's keys by file name. A list that is lost may have evaluated clips: of Clotho, or of those asked about."""
    keys: dict[str, str] = {}
    if clotho_dir is None:
        return keys
    with skipped.reading(str(clotho_dir), "test"):
        for path in existing_lists((clotho_dir / name for name in CLOTHO_LISTS), skipped):
            with skipped.reading(path.name, "test"):
                add_clotho_keys(keys, path, CLOTHO_LISTS[path.name], skipped)
    return keys


def clothoaqa(root: Path, clotho_dir: Path | None, skipped: SkipList) -> Iterator[QuestionedAudio]:
    """Yield every clip with its questions."""
    keys = clotho_keys(clotho_dir, skipped)
    for part, split in SPLIT_OF_LIST.items():
        answers: dict[str, list[tuple[str, str]]] = defaultdict(list)
        path = root / f"clotho_aqa_{part}.csv"
        with skipped.reading(path.name, split):
            for where, row in csv_rows(path, COLUMNS, skipped, encoding=utf8_or_latin1(path)):
                with skipped.bad_row(where):
                    name = row["file_name"]
                    key = keys.get(name) or audio_keys.clotho("aqa", name)
                    with skipped.bad_row(where, key=key, split=split):
                        if not row["QuestionText"].strip() or not row["answer"].strip():
                            raise ValueError("empty question or answer")
                        answers[name].append((clean_caption(row["QuestionText"]), clean_caption(row["answer"])))
        for name, pairs in answers.items():
            key = keys.get(name) or audio_keys.clotho("aqa", name)
            with skipped.bad_row(f"{path.name}: {name}", key=key, split=split):
                yield QuestionedAudio(key, f"audio_files/{name}", split, group_questions(pairs))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    parser = preparation_parser(__doc__)
    parser.add_argument("--clotho-dir", type=Path, help="Clotho's metadata, for Freesound ids")
    args = parser.parse_args()
    with SkipList() as skipped:
        write_manifests("clothoaqa", clothoaqa(args.corpus_dir, args.clotho_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
