#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CREMA-D: twelve sentences acted in six emotions by 91 actors.

Source:   https://github.com/CheyneyComputerScience/CREMA-D (audio in git-lfs)
Licence:  Open Database License 1.0; its contents Database Contents License 1.0.
Layout:   <corpus-dir>/AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav, and beside the folder
              SentenceFilenames.csv   Stimulus_Number,Filename   (file names without extension)
              VideoDemographics.csv   ActorID,Age,Sex,...   (optional: gender and age, for questions)
Expected: 7,442 utterances. No split is official and the paper's 6,030 / 706 is no published one. Here a tenth of the
          actors is for test and a tenth for validation, drawn with a fixed seed: 73 / 9 / 9 actors with
          5,966 / 738 / 738 utterances (train / valid / test), so that no actor is in two splits.
Ids:      crema:<file stem>. The label is the emotion that the actor was asked for, not what listeners heard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from icefall_alp.data.audio_keys import crema
from icefall_alp.data.captions import LabelledAudio
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import UNKNOWN_SPLIT, rescue
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.utils.errors import clean_exit
from icefall_alp.utils.seeds import stable_seed

EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
ADJECTIVES = {"anger": "angry", "disgust": "disgusted", "fear": "fearful"}  # as questions call them
AGES = ("teens-twenties", "thirties-fourties", "fifties-sixties", "seventies-eighties")
SEED = 42  # changing it changes the benchmark and the counts in corpora.yaml
_STEM = re.compile(r"[0-9]{4}_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}")


def split_of_actors(actors: Iterable[str]) -> dict[str, str]:
    """The split of each actor; the same set of actors is always split in the same way."""
    drawn = sorted(set(actors), key=lambda actor: stable_seed(SEED, actor))
    held = round(len(drawn) / 10)
    return dict.fromkeys(drawn, "train") | dict.fromkeys(drawn[:held], "test") | dict.fromkeys(
        drawn[held : 2 * held], "valid"
    )  # fmt: skip


def stem_key(stem: str) -> str:
    """Key of a file stem. Raises ValueError when it is not one of CREMA-D's."""
    if not _STEM.fullmatch(stem):
        raise ValueError(f"{stem!r} is no CREMA-D name (1001_DFA_ANG_XX)")
    return crema(stem)


def read_list(root: Path, skipped: SkipList) -> list[tuple[str, str, str, str]]:
    """Each utterance as file:line, stem, actor and code of the emotion."""
    utterances = []
    path = root / "SentenceFilenames.csv"
    with skipped.reading(path.name, UNKNOWN_SPLIT):
        for where, row in csv_rows(path, ("Filename",), skipped, rescue=rescue(stem_key)):
            with skipped.bad_row(where):
                stem_key(row["Filename"])
                actor, _, emotion, _ = row["Filename"].split("_")
                utterances.append((where, row["Filename"], actor, emotion))
    return utterances


def demographics(root: Path, skipped: SkipList) -> dict[str, dict[str, str]]:
    """Gender and age, in AIR-Bench's four groups, of each actor; empty where the list is absent."""
    path = root / "VideoDemographics.csv"
    if not path.is_file():
        skipped.add("no_list", "no such file", where=path.name)
        return {}
    actors: dict[str, dict[str, str]] = {}
    with skipped.reading(path.name, "train"):  # it names no clip that anybody evaluates
        for where, row in csv_rows(path, ("ActorID", "Age", "Sex"), skipped):
            with skipped.bad_row(where):
                decade = int(row["Age"]) // 10 if row["Age"] else None
                if row["Sex"] not in ("Male", "Female") or decade not in (None, *range(1, 9)):
                    raise ValueError(f"sex {row['Sex']!r} and age {row['Age']!r} are not of an actor")
                age = {} if decade is None else {"age": AGES[(decade - 1) // 2]}
                skipped.keep_first(actors, row["ActorID"], {"gender": row["Sex"].lower(), **age}, where=where)
    return actors


def cremad(root: Path, skipped: SkipList) -> Iterator[LabelledAudio]:
    """Yield every utterance with its emotion."""
    utterances = read_list(root, skipped)
    audio = index_audio(find_audio(root, "AudioWAV"), str)
    splits = split_of_actors(actor for _, _, actor, _ in utterances)
    actors = demographics(root, skipped)
    for where, stem, actor, emotion in utterances:
        key, split = crema(stem), splits[actor]
        with skipped.bad_row(where, key=key, split=split):
            if emotion not in EMOTIONS:
                raise ValueError(f"emotion {emotion!r} is none of {', '.join(EMOTIONS)}")
            label = EMOTIONS[emotion]
            known = {"emotion": ADJECTIVES.get(label, label), **actors.get(actor, {})}
            yield LabelledAudio(key, audio.get(stem), split, (label,), attributes=known)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("cremad", cremad(args.corpus_dir, skipped), skipped, args)
    write_classes(args.manifests_dir, "cremad", EMOTIONS.values())


if __name__ == "__main__":
    main()
