#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MusicQA: questions about music with answers that a language model wrote from tags and captions, nine for each clip.

Source:   https://huggingface.co/datasets/mu-llama/MusicQA
Licence:  tagged MIT; the audio is MagnaTagATune's and MTG-Jamendo's and has their terms.
Layout:   <corpus-dir>/{FinetuneMusicQA,EvalMusicQA}.json, lists of
              {"audio_name": "012542.wav", "conversation": [{"from": "human", "value": <question>},
                                                            {"from": "gpt", "value": <answer>}]}
          audio anywhere below (audios/ in audios.zip). A list that is absent is noted. PretrainMusicQA.json, about
          MusicCaps, is not read.
Expected: 7,779 clips and 70,011 rows (train, MagnaTagATune), 560 and 5,040 (test, MTG-Jamendo).
Ids:      musicqa:<stem>, a counter over all three lists. It does not say which clip of which corpus it is, so clips
          cannot be recognised in other corpora.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icefall_alp.data import audio_keys
from icefall_alp.data.captions import QuestionedAudio, clean_caption, group_questions
from icefall_alp.data.corpus_lists import SkipList, existing_lists, json_rows, text_field
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import clean_exit

SPLIT_OF_LIST = {"FinetuneMusicQA.json": "train", "EvalMusicQA.json": "test"}


def question_and_answer(row: dict[str, Any]) -> tuple[str, str]:
    """The two turns of a row. Raises ValueError when they are others."""
    turns = row.get("conversation")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversation is no list of turns")
    if [turn.get("from") for turn in turns] != ["human", "gpt"]:
        raise ValueError("conversation is not one turn of human and one of gpt")
    question, answer = (clean_caption(text_field(turn, "value")) for turn in turns)
    return question, answer


def musicqa(root: Path, skipped: SkipList) -> Iterator[QuestionedAudio]:
    """Yield every clip with its questions."""
    audio = index_audio(find_audio(root), str)
    for path in existing_lists((root / name for name in SPLIT_OF_LIST), skipped):
        split = SPLIT_OF_LIST[path.name]
        answers: dict[str, list[tuple[str, str]]] = defaultdict(list)
        with skipped.reading(path.name, split):
            for where, row in json_rows(path, skipped):
                with skipped.bad_row(where):
                    key = audio_keys.musicqa(text_field(row, "audio_name"))
                    with skipped.bad_row(where, key=key, split=split):
                        pair = question_and_answer(row)  # before answers[key], which makes a clip of the key
                        if pair in answers[key]:
                            skipped.repeated(True, where=where, key=key, split=split)
                        else:
                            answers[key].append(pair)
        for key, pairs in answers.items():
            with skipped.bad_row(f"{path.name}: {key}"):
                yield QuestionedAudio(key, audio.get(key.removeprefix("musicqa:")), split, group_questions(pairs))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("musicqa", musicqa(args.corpus_dir, skipped), skipped, args)


if __name__ == "__main__":
    main()
