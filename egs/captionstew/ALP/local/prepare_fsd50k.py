#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""FSD50K: Freesound clips tagged by people with 200 classes of the AudioSet ontology.

Source:   https://zenodo.org/records/4060432
Licence:  CC BY 4.0; each clip has its own Creative Commons licence.
Layout:   <corpus-dir>/FSD50K.dev_audio/<id>.wav, FSD50K.eval_audio/<id>.wav, and in FSD50K.ground_truth/
              dev.csv         fname,labels,mids,split   (split is train or val)
              eval.csv        fname,labels,mids
              vocabulary.csv  index,label,mid           (no header)
Expected: 36,796 / 4,170 / 10,231 clips (train / valid / test). The paper's 37,168 training clips are no official split.
Ids:      fs:<fname>; fname is the Freesound id. Labels are already propagated to their parents.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from lookups import read_classes

from icefall_alp.data.audio_keys import SCHEMES, freesound
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import UNKNOWN_SPLIT, rescue
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit

COLUMNS = {"dev": ("fname", "labels", "mids", "split"), "eval": ("fname", "labels", "mids")}
SPLIT_OF_VALUE = {"train": "train", "val": "valid", "test": "test"}


def mids(root: Path, skipped: SkipList) -> dict[str, str]:
    """MID of each class name, in index order."""
    path = root / "FSD50K.ground_truth/vocabulary.csv"
    rows = csv_rows(path, ("index", "label", "mid"), skipped, has_header=False)
    return read_classes(rows, skipped, "label", "mid")


def fsd50k(args: argparse.Namespace, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every clip with its labels; write the list of classes."""
    root, classes = args.corpus_dir, mids(args.corpus_dir, skipped)
    write_classes(args.manifests_dir, "fsd50k", classes)
    for part, columns in COLUMNS.items():
        audio = index_audio(find_audio(root, f"FSD50K.{part}_audio"), str)
        path, damaged = root / f"FSD50K.ground_truth/{part}.csv", rescue(SCHEMES["freesound"])
        with skipped.reading(path.name, UNKNOWN_SPLIT):  # both have evaluated clips
            for where, row in csv_rows(path, columns, skipped, rescue=damaged):
                with skipped.bad_row(where):
                    key, value = freesound(row["fname"]), row.get("split", "test")
                    split = SPLIT_OF_VALUE.get(value, UNKNOWN_SPLIT)
                    with skipped.bad_row(where, key=key, split=split):
                        if value not in SPLIT_OF_VALUE:
                            raise ValueError(f"split {value!r} is neither train nor val")
                        labels = tuple(row["labels"].split(","))
                        if unknown := [label for label in labels if label not in classes]:
                            raise ValueError(f"label {unknown[0]!r} is not in vocabulary.csv")
                        yield LabelledAudio(key, audio.get(row["fname"]), split, labels)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("fsd50k", fsd50k(args, skipped), skipped, args)


if __name__ == "__main__":
    main()
