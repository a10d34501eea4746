# SPDX-License-Identifier: Apache-2.0
"""Lists that are looked up while others are read: classes, AudioSet's start times, Clotho's Freesound ids."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from icefall_alp.data import audio_keys
from icefall_alp.data.audio_scan import AudioIndex, stem_of
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


def read_classes(
    rows: Iterable[tuple[str, dict[str, str]]], skipped: SkipList, name: str, value: str
) -> dict[str, str]:
    """A class list, in its order: the column `value` by the column `name`; of two rows the first counts."""
    classes: dict[str, str] = {}
    for where, row in rows:
        with skipped.bad_row(where):
            if not row[name] or not row[value]:
                raise ValueError(f"empty {name} or {value}")
            skipped.keep_first(classes, row[name], row[value], where=where)
    return classes


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


def clip_file(audio: AudioIndex, key: str) -> str | None:
    """The file of a YouTube clip in an index by video; None without one.

    Of several files of the video it is the one that names the clip's start or, where none does, one that names none.
    """
    _, video, _ = key.split(":")
    paths = audio.every(video)

    def unlike(path: str) -> int:
        _, start = audio_keys.youtube_file(stem_of(path))
        return 1 if start is None else 2 * (audio_keys.youtube(video, start) != key)

    return min(paths, key=unlike) if len(paths) > 1 else next(iter(paths), None)


def _linked_sound(word: str) -> str:
    """Key of the sound that `https://freesound.org/people/<name>/sounds/<id>` leads to."""
    if "/sounds/" not in word:
        raise ValueError(f"{word!r} is no link to a sound")
    return audio_keys.SCHEMES["freesound"](word)


def add_clotho_keys(keys: dict[str, str], path: Path, split: str, skipped: SkipList) -> None:
    """Put Clotho's keys by file name into `keys`, from the metadata of a split; of two rows the first counts."""
    damaged = rescue(_linked_sound, split)
    for where, row in csv_rows(path, CLOTHO_COLUMNS, skipped, encoding=utf8_or_latin1(path), rescue=damaged):
        with skipped.bad_row(where):
            key = audio_keys.clotho(split, row["file_name"])
            if row["sound_id"].strip().lower() not in ("", "not found"):
                with skipped.bad_row(where):
                    key = audio_keys.freesound(row["sound_id"])  # known whatever the samples are, and it may leak
                    key = audio_keys.freesound(row["sound_id"], row["start_end_samples"])
            skipped.keep_first(keys, row["file_name"], key, where=where)
