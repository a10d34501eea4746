#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AIR-Bench's embedded twin, in its published layout, from the test halves of three embedded corpora.

  local/make_mini_airbench.py --corpora-dir data/corpora

CREMA-D's twin gives emotion and gender (multiple choice), ClothoAQA's and MusicQA's give free questions about sounds
and music; what the other questions say about a clip is the description for a judge. Speakers' ages are nowhere to be
heard in the embedded corpora, so there is no such part.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from prepare_clothoaqa import clothoaqa
from prepare_cremad import cremad
from prepare_musicqa import musicqa

from icefall_alp.data.captions import AudioItem, QuestionedAudio
from icefall_alp.data.corpus_lists import SkipList
from icefall_alp.data.manifests import read_header
from icefall_alp.evaluation.questions import most_frequent
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.errors import clean_exit
from icefall_alp.utils.seeds import stable_seed

SEED = 42
CHAT_CLIPS, QUESTIONS_PER_CLIP = 100, 2  # of each chat part
MOST_WORDS = 8  # of an answer: whole captions are another task
EMOTIONS = ("angry", "happy", "neutral", "sad")  # always these four in this order: a letter always means the same
GENDERS = ("female", "male")
Row = dict[str, Any]


def readable(items: Iterable[AudioItem], root: Path) -> Iterator[Any]:
    """The test clips whose audio can be read; the preparation of the corpus lists the others."""
    for item in items:
        if item.split == "test" and item.path is not None:
            try:
                read_header(root / item.path)
            except (OSError, ValueError):
                continue
            yield item


def foundation_rows(root: Path) -> Iterator[tuple[Row, Path]]:
    """Questions about emotion and gender, with the file each is about."""
    parts = (
        ("Speaker_Emotion_Recontion", "iemocap", "emotion", "What emotion does the speaker show?", EMOTIONS),
        ("Speaker_Gender_Recognition", "meld", "gender", "What is the gender of the speaker?", GENDERS),
    )
    for item in readable(cremad(root, SkipList()), root):
        for task, dataset, attribute, question, values in parts:
            answer = item.attributes[attribute]
            if answer not in values:
                continue
            row = {"path": Path(item.path).name, "question": question, "answer_gt": answer}
            row |= {f"choice_{letter}": value for letter, value in zip("abcd"[: len(values)], values, strict=True)}
            yield row | {"task_name": task, "dataset_name": dataset}, root / item.path


def chat_rows(items: Iterable[QuestionedAudio], root: Path, task: str, dataset: str) -> Iterator[tuple[Row, Path]]:
    """Free questions with short answers, each with what the others say."""
    drawn = sorted(readable(items, root), key=lambda item: stable_seed(SEED, task, item.key))
    for item in drawn[:CHAT_CLIPS]:
        pairs = [(question.text, most_frequent(question.answers)) for question in item.questions]
        short = [i for i, (_, answer) in enumerate(pairs) if len(answer.split()) <= MOST_WORDS]
        draw = np.random.default_rng(stable_seed(SEED, "questions", item.key))
        for i in sorted(draw.permutation(short)[:QUESTIONS_PER_CLIP].tolist()):
            known = " ".join(f"{question} {answer}" for k, (question, answer) in enumerate(pairs) if k != i)
            row = {"path": Path(item.path).name, "question": pairs[i][0], "answer_gt": pairs[i][1]}
            yield row | {"meta_info": known, "task_name": task, "dataset_name": dataset}, root / item.path


def write_list(rows: Iterable[tuple[Row, Path]], folder: Path, name: str) -> None:
    """Write one list and copy its audio."""
    listed = []
    for number, (row, audio) in enumerate(rows):
        listed.append(row | {"uniq_id": number})
        target = folder / f"{row['task_name']}_{row['dataset_name']}" / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(audio, target)
    (folder / name).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


@clean_exit
def main() -> None:
    """Read the three corpora, write the fourth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora-dir", type=Path, required=True, help="the embedded corpora")
    root: Path = parser.parse_args().corpora_dir
    sounds = chat_rows(clothoaqa(root / "clothoaqa", None, SkipList()), root / "clothoaqa", "sound_QA", "clotho")
    music = chat_rows(musicqa(root / "musicqa", SkipList()), root / "musicqa", "music_QA", "musiccaps")
    with atomic_folder(root / "airbench") as folder:
        write_list(foundation_rows(root / "cremad"), folder / "Foundation", "Foundation_meta.json")
        write_list([*sounds, *music], folder / "Chat", "Chat_meta.json")


if __name__ == "__main__":
    main()
