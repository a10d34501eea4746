#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MELD: utterances of a television series, each with an emotion.

Source:   https://github.com/declare-lab/MELD
Licence:  GPL 3.0; the audio is of a television series.
Layout:   <corpus-dir>/{train,dev,test}_sent_emo.csv with the columns Speaker, Emotion, Dialogue_ID, Utterance_ID and
              others, which are not used; audio, extracted from the .mp4 files and called as these, anywhere below
              {train,dev,test}/: dia<Dialogue_ID>_utt<Utterance_ID>.wav
Expected: 9,989 / 1,109 / 2,610 utterances (train / valid / test). AIR-Bench has items from here: train on train only.
Ids:      meld:<split>/<dia_utt>; numbers begin anew in each split. The gender of the six main characters is known by
          their name and of nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import meld
from icefall_alp.data.captions import AudioItem
from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

SPLIT_OF_LIST = {"train_sent_emo.csv": "train", "dev_sent_emo.csv": "valid", "test_sent_emo.csv": "test"}
COLUMNS = ("Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
EMOTIONS = {
    "anger": "angry", "disgust": "disgusted", "fear": "fearful", "joy": "happy", "neutral": "neutral",
    "sadness": "sad", "surprise": "surprised",
}  # fmt: skip
GENDERS = {
    "Monica": "female", "Phoebe": "female", "Rachel": "female", "Chandler": "male", "Joey": "male", "Ross": "male",
}  # fmt: skip


def meld_items(root: Path, skipped: SkipList) -> Iterator[AudioItem]:
    """Yield every utterance."""
    for path in existing_lists((root / name for name in SPLIT_OF_LIST), skipped):
        split = SPLIT_OF_LIST[path.name]
        audio = index_audio(find_audio(root, path.name.partition("_")[0]), str)
        with skipped.reading(path.name, split):
            for where, row in csv_rows(path, COLUMNS, skipped):
                with skipped.bad_row(where):
                    stem = f"dia{int(row['Dialogue_ID'])}_utt{int(row['Utterance_ID'])}"
                    key = meld(split, stem)
                    with skipped.bad_row(where, key=key, split=split):
                        if row["Emotion"] not in EMOTIONS:
                            raise ValueError(f"emotion {row['Emotion']!r} is none of {', '.join(EMOTIONS)}")
                        known = {"emotion": EMOTIONS[row["Emotion"]]}
                        if row["Speaker"] in GENDERS:
                            known["gender"] = GENDERS[row["Speaker"]]
                        yield AudioItem(key, audio.get(stem), split, attributes=known)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("meld", meld_items(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
