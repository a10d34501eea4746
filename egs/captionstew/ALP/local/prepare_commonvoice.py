#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Common Voice (English): sentences read by volunteers, some of whom say their gender and age.

Source:   https://commonvoice.mozilla.org/datasets
Licence:  CC0.
Layout:   <corpus-dir>/en/{train,dev,test}.tsv, TAB-separated and unquoted, with the columns client_id, path, age and
              gender and others, which are not used; <corpus-dir>/en/clips/<path>
Expected: depends on the release. AIR-Bench draws from release 13, questions for training use the train list only.
Ids:      cv:<file stem>. Clips whose speaker says neither gender nor age are left out: there is nothing to ask. Ages
          are joined to AIR-Bench's four; speakers in their nineties, whom it does not have, keep their gender alone.
          Other words in these two columns are counted.
Lhotse:   its recipe finds and measures the same clips, and a scan takes the lengths from its manifests:
              lhotse prepare commonvoice -l en DIR data/lhotse
              local/scan_audio.py --corpus-dir DIR --recordings data/lhotse/cv-en_recordings_*.jsonl.gz
          It passes over clips that are not there, and stops at the first that cannot be read; the scan alone goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import commonvoice
from icefall_alp.data.captions import AudioItem
from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists
from icefall_alp.data.manifests import preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

SPLIT_OF_LIST = {"train.tsv": "train", "dev.tsv": "valid", "test.tsv": "test"}
GENDERS = {"male": "male", "female": "female", "male_masculine": "male", "female_feminine": "female"}
AGES = {
    "teens": "teens-twenties", "twenties": "teens-twenties", "thirties": "thirties-fourties",
    "fourties": "thirties-fourties", "fifties": "fifties-sixties", "sixties": "fifties-sixties",
    "seventies": "seventies-eighties", "eighties": "seventies-eighties",
}  # fmt: skip
COLUMNS = ("path", "age", "gender")
VALUES = {"gender": GENDERS, "age": AGES}


def common_voice(root: Path, skipped: SkipList) -> Iterator[AudioItem]:
    """Yield every clip whose speaker's gender or age is known."""
    for path in existing_lists((root / "en" / name for name in SPLIT_OF_LIST), skipped):
        split = SPLIT_OF_LIST[path.name]
        num_unknown = 0
        not_asked: Counter[tuple[str, str]] = Counter()
        with skipped.reading(path.name, split):
            for where, row in csv_rows(path, COLUMNS, skipped, delimiter="\t", has_quotes=False):
                with skipped.bad_row(where):
                    not_asked.update(
                        (name, row[name]) for name in VALUES if row[name] and row[name] not in VALUES[name]
                    )
                    known = {name: values[row[name]] for name, values in VALUES.items() if row[name] in values}
                    if not known:
                        num_unknown += 1
                        continue
                    key = commonvoice(row["path"])
                    yield AudioItem(key, f"en/clips/{row['path']}", split, attributes=known)
        for (name, value), count in sorted(not_asked.items()):
            skipped.add("not_asked", f"{name} {value!r} of {count:,} clips", count, where=path.name)
        if num_unknown:
            skipped.add("nothing_known", f"{num_unknown} clips without gender or age", num_unknown, where=path.name)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("commonvoice", common_voice(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
