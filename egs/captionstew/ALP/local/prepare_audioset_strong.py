#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AudioSet-strong: when each sound begins and ends in ten seconds of AudioSet, in 456 classes.

Source:   https://research.google.com/audioset/download_strong.html (lists), audio as for AudioSet.
Licence:  labels CC BY 4.0; the audio belongs to its uploaders.
Layout:   <corpus-dir>/audioset_{train,eval}_strong.tsv: TAB-separated with the columns
              segment_id,start_time_seconds,end_time_seconds,label   (one row for each event; the label is a MID)
          <corpus-dir>/mid_to_display_name.tsv: TAB-separated MID and name, no header
          audio anywhere below, named Y<id>, <id>, <id>_<start> or <id>_<start>_<end>: AudioSet's own folder will do.
Expected: 103,463 / 16,996 clips (train / test); about 934,000 / 139,538 events. 447 classes occur in train, 416 in
          test, 407 in both; the list of 456 is their union.
Ids:      yt:<id>:<start ms>; segment_id is <id>_<start in ms>. Times of events are seconds of the clip. A cut has its
          `events` in order of time, and as `labels` the classes among them; the classes are in the list's order.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from lookups import clip_file, read_classes

from icefall_alp.data.audio_keys import SCHEMES, YOUTUBE_CLIP_MS, youtube, youtube_clip, youtube_id
from icefall_alp.data.captions import EventAudio, SoundEvent
from icefall_alp.data.corpus_lists import SkipList, csv_rows
from icefall_alp.data.damaged_rows import rescue
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_classes, write_manifests
from icefall_alp.data.times import stretch
from icefall_alp.utils.errors import clean_exit

SPLIT_OF_LIST = {"train": "train", "eval": "test"}
CLIP_SECONDS = YOUTUBE_CLIP_MS / 1000
ROUNDING = 0.1  # seconds that an event may end after its clip, and then ends with it; more is a mistake
COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")


def display_names(root: Path, skipped: SkipList) -> dict[str, str]:
    """Display name of each MID, in the order of the list."""
    path = root / "mid_to_display_name.tsv"
    rows = csv_rows(path, ("mid", "display_name"), skipped, has_header=False, delimiter="\t")
    return read_classes(rows, skipped, "mid", "display_name")


def read_event(row: dict[str, str], names: dict[str, str]) -> SoundEvent:
    """The event of a row. Raises ValueError for an unknown label or times that bound nothing of the clip."""
    if row["label"] not in names:
        raise ValueError(f"label {row['label']!r} is not in mid_to_display_name.tsv")
    onset, offset = stretch(row["start_time_seconds"], row["end_time_seconds"])
    if onset >= CLIP_SECONDS or offset > CLIP_SECONDS + ROUNDING:
        raise ValueError(f"an event from {onset:g} s to {offset:g} s leaves the clip's ten seconds")
    return SoundEvent(names[row["label"]], onset, min(offset, CLIP_SECONDS))


def audioset_strong(args: argparse.Namespace, skipped: SkipList) -> Iterator[EventAudio]:
    """Yield every clip with its events; write the list of classes."""
    root, names = args.corpus_dir, display_names(args.corpus_dir, skipped)
    write_classes(args.manifests_dir, "audioset_strong", names.values())
    audio = index_audio(find_audio(root), youtube_id)
    for part, split in SPLIT_OF_LIST.items():
        events: dict[str, set[SoundEvent]] = defaultdict(set)
        path, damaged = root / f"audioset_{part}_strong.tsv", rescue(SCHEMES["youtube"], split)
        with skipped.reading(path.name, split):
            for where, row in csv_rows(path, COLUMNS, skipped, delimiter="\t", rescue=damaged):
                with skipped.bad_row(where):
                    key = youtube(*youtube_clip(row["segment_id"], "<id>_<ms>"))
                    with skipped.bad_row(where, key=key, split=split):
                        event = read_event(row, names)  # before events[key], which makes a clip of the key
                        if event in events[key]:
                            skipped.repeated(True, where=where, key=key, split=split)
                        events[key].add(event)
        for key, found in events.items():
            ordered = sorted(found, key=lambda event: (event.onset, event.offset, event.label))
            with skipped.bad_row(f"{path.name}: {key}"):
                yield EventAudio(key, clip_file(audio, key), split, tuple(ordered))


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    args = preparation_parser(__doc__).parse_args()
    with SkipList() as skipped:
        write_manifests("audioset_strong", audioset_strong(args, skipped), skipped, args)


if __name__ == "__main__":
    main()
