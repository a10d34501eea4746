#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AIR-Bench: questions about audio, multiple choice (foundation) and free (chat).

Source:   https://huggingface.co/datasets/qyang1021/AIR-Bench-Dataset
Licence:  CC BY-NC 4.0; the audio is of many corpora and has their terms.
Layout:   <corpus-dir>/Foundation/Foundation_meta.json, <corpus-dir>/Chat/Chat_meta.json: lists of
              {"path", "question", "answer_gt", "task_name", "dataset_name", "uniq_id"}, with "choice_a" to "choice_d"
              (the last two may be absent; answer_gt is the text of one) or "meta_info", a description for the judge
          beside each list <task_name>_<dataset_name>/<path>; misspelt names are the publishers' own
Expected: of the seven parts read here 4,780 foundation questions (emotion: IEMOCAP 1,000, MELD 1,000; gender: MELD
          1,000, Common Voice 780; age: Common Voice 1,000) and 800 chat questions (sound and music, 400 each). Which
          emotion half the paper used it does not say: both are prepared, each a part.
Ids:      airbench:<task_name>_<dataset_name>/<path>. File names say nothing about where the audio comes from in Clotho
          and MusicCaps (order numbers); the speech parts name files of their corpora.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icefall_alp.data.audio_keys import airbench
from icefall_alp.data.captions import Question, QuestionedAudio, check_choices
from icefall_alp.data.corpus_lists import SkipList, existing_lists, json_rows, text_field
from icefall_alp.data.manifests import preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

LISTS = ("Foundation/Foundation_meta.json", "Chat/Chat_meta.json")
PARTS = (
    "Speaker_Emotion_Recontion/iemocap",
    "Speaker_Emotion_Recontion/meld",
    "Speaker_Gender_Recognition/meld",
    "Speaker_Gender_Recognition/common_voice_13_en",
    "Speaker_Age_Prediction/common_voice_13.0_en",
    "sound_QA/clotho",
    "music_QA/musiccaps",
)  # of all tasks those that the paper reports


def part_of(row: dict[str, Any]) -> str:
    """Task and data set of a row, with a slash between. Raises ValueError when it has none."""
    return f"{text_field(row, 'task_name')}/{text_field(row, 'dataset_name')}"


def folder_of(part: str) -> str:
    """The folder of a part's audio."""
    return part.replace("/", "_")


def question_of(row: dict[str, Any], part: str, is_choice: bool) -> Question:
    """The question of a row. Raises ValueError when it cannot be asked or scored."""
    text, answer = text_field(row, "question"), text_field(row, "answer_gt")
    ident = "" if row.get("uniq_id") is None else str(row["uniq_id"])
    if not is_choice:
        meta = row.get("meta_info")
        reference = meta if isinstance(meta, str) else json.dumps(meta, ensure_ascii=False) if meta else ""
        if not reference.strip():
            raise ValueError("meta_info is absent: a judge would have nothing to go by")
        return Question(text, (answer,), task=part, id=ident, reference=reference)
    given = (row.get(f"choice_{letter}") for letter in "abcd")
    choices = tuple(str(choice) for choice in given if choice not in (None, ""))
    check_choices(f"{part} {ident}", choices, answer)
    return Question(text, (answer,), choices, part, ident)


def airbench_items(root: Path, skipped: SkipList) -> Iterator[QuestionedAudio]:
    """Yield every clip of the parts with its questions."""
    for path in existing_lists((root / name for name in LISTS), skipped):
        is_choice = path.parent.name == "Foundation"
        questions: dict[tuple[str, str], list[Question]] = {}
        asked: dict[Any, Any] = {}
        other_parts: Counter[str] = Counter()
        with skipped.reading(path.name, "test"):
            for where, row in json_rows(path, skipped):
                with skipped.bad_row(where):
                    part = part_of(row)
                    if part not in PARTS:
                        other_parts[part] += 1
                        continue
                    name = text_field(row, "path")
                    details = {"key": airbench(folder_of(part), name), "split": "test"}
                    with skipped.bad_row(where, **details):
                        question = question_of(row, part, is_choice)  # before a clip is made of the name
                        number = (part, question.id or (name, question))
                        if skipped.keep_first(asked, number, (name, question), where=where, **details):
                            questions.setdefault((part, name), []).append(question)
        for part, count in sorted(other_parts.items()):
            skipped.add("other_part", f"{count:,} questions of the part {part!r}", count, where=path.name)
        for (part, name), own in questions.items():
            with skipped.bad_row(f"{path.name}: {name}"):
                folder = folder_of(part)
                audio = f"{path.parent.name}/{folder}/{name}"
                yield QuestionedAudio(airbench(folder, name), audio, "test", tuple(own))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("airbench", airbench_items(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
