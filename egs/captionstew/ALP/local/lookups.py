# SPDX-License-Identifier: Apache-2.0
"""What the lists of one corpus say about clips of another: AudioSet's start times, Clotho's Freesound ids."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from icefall_alp.data import audio_keys
from icefall_alp.data.corpus_lists import SkipList, csv_rows, existing_lists, utf8_or_latin1
from icefall_alp.data.damaged_rows import Rescue, rescue

SEGMENT_COLUMNS = ("ytid", "start_seconds", "end_seconds", "positive_labels")
SEGMENT_LISTS = ("balanced_train_segments.csv", "unbalanced_train_segments.csv", "eval_segments.csv")
CLOTHO_LISTS = {
    "clotho_metadata_development.csv": "train",
    "clotho_metadata_evaluation.csv": "test",
    "clotho_metadata_validation.csv": "valid",  # last: four names are in two parts; ClothoAQA tests none of these
}
CLOTHO_COLUMNS = ("file_name", "sound_id", "start_end_samples")


def segment_rows(path: Path, skipped: SkipList, damaged: Rescue | None = None) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of one of AudioSet's segment lists; `damaged` finds the clips of those that are none."""
    return csv_rows(path, SEGMENT_COLUMNS, skipped, has_header=False, rescue=damaged)


def add_audioset_dir(parser: argparse.ArgumentParser) -> None:
    """The option of corpora that name AudioSet's clips without saying where these begin."""
    parser.add_argument("--audioset-dir", type=Path, help="AudioSet's segment lists, for start times")


def segment_starts(audioset_dir: Path | None, skipped: SkipList) -> dict[str, str]:
    """Start in seconds of the one segment that AudioSet has of each video; of two rows the first counts."""
    starts: dict[str, str] = {}
    if audioset_dir is None:
        return starts
    for path in existing_lists((audioset_dir / name for name in SEGMENT_LISTS), skipped):
        with skipped.reading(path.name, "train"):  # a clip whose start is not known is kept out if its video is
            for where, row in segment_rows(path, skipped):
                with skipped.bad_row(where):
                    video, start = row["ytid"], row["start_seconds"]
                    key = audio_keys.youtube(video, start)
                    if video in starts:
                        skipped.repeated(key == audio_keys.youtube(video, starts[video]), where=where)
                    starts.setdefault(video, start)
    return starts


def _linked_sound(word: str) -> str:
    """Key of the sound that `https://freesound.org/people/<name>/sounds/<id>` leads to."""
    if "/sounds/" not in word:
        raise ValueError(f"{word!r} is no link to a sound")
    return audio_keys.SCHEMES["freesound"](word)


def clotho_keys(splits: dict[Path, str], skipped: SkipList) -> dict[str, str]:
    """Clotho's keys by file name, from the metadata of some splits; of two rows the first counts."""
    keys: dict[str, str] = {}
    for path, split in splits.items():
        damaged = rescue(_linked_sound, split)
        for where, row in csv_rows(path, CLOTHO_COLUMNS, skipped, encoding=utf8_or_latin1(path), rescue=damaged):
            with skipped.bad_row(where):
                key = audio_keys.clotho(split, row["file_name"])
                if row["sound_id"].strip().lower() not in ("", "not found"):
                    with skipped.bad_row(where):
                        key = audio_keys.freesound(row["sound_id"])  # known whatever the samples are, and it may leak
                        key = audio_keys.freesound(row["sound_id"], row["start_end_samples"])
                if row["file_name"] in keys:
                    skipped.repeated(key == keys[row["file_name"]], where=where)
                keys.setdefault(row["file_name"], key)
    return keys
