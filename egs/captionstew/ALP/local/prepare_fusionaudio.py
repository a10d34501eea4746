#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""FusionAudio-1.2M: captions that language models wrote for AudioSet's training clips from sound, speech and picture.

Source:   https://huggingface.co/datasets/SatsukiVie/FusionAudio (lists), audio as for AudioSet.
Licence:  lists CC BY-NC 4.0; the audio belongs to its uploaders.
Layout:   every *.json (a list of rows), *.jsonl and *.jsonl.gz (a row per line) directly in <corpus-dir>; the rows are
              {"audio_id": ..., "instruction": ..., "input": "", "dataset": ..., "task": ..., "output": <caption>}
          audio anywhere below, named <id>, Y<id>, <id>_<start> or <id>_<start>_<end>.
          The names of the lists, the words of `task` and the form of the ids are assumed: a row is a caption if its
          task speaks of captions or it has no task, and the rows of other tasks (questions) are counted as other_task.
          Ids are [<folder>/][Y]<id>[_<start>[_<end>]][.<extension>], times in seconds. --id-column and --id-pattern are
          for lists that differ.
Expected: about 1.2 million clips, one caption each.
Ids:      yt:<id>:<start ms>; the start from the id, else from AudioSet's segment lists (--audioset-dir), else
          yt:<id>:as. Keys stand for ten seconds; a row whose id names more, or an end before its start, is a bad row.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator

from lookups import add_audioset_dir, clip_file, segment_starts

from icefall_alp.data.audio_keys import check_youtube_times, youtube, youtube_id
from icefall_alp.data.captions import CaptionedAudio, clean_caption
from icefall_alp.data.corpus_lists import SkipList, json_rows, jsonl_rows, text_field
from icefall_alp.data.manifests import find_audio, index_audio, preparation_parser, write_manifests
from icefall_alp.utils.errors import UserError, clean_exit

SECONDS = r"[0-9]+(?:\.[0-9]+)?"
TIMES = rf"(?P<start>{SECONDS})(?:_(?P<end>{SECONDS}))?"
ID_PATTERN = rf"(?:.*/)?Y?(?P<id>[A-Za-z0-9_-]{{11}})(?:_{TIMES})?(?:\.[A-Za-z]\w*)?"


def compile_pattern(text: str) -> re.Pattern[str]:
    """The pattern of an id. Raises UserError when it is none or lacks the group `id`."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f"--id-pattern {text}: no regular expression: {error}") from error
    if "id" not in pattern.groupindex:
        raise UserError(
            f"--id-pattern {text}: needs a group (?P<id>...) for the video, may have (?P<start>...), (?P<end>...)"
        )
    return pattern


def clip_of(name: str, pattern: re.Pattern[str]) -> tuple[str, str | None]:
    """Video of an id, and start in seconds where it has one. Raises ValueError when it is none."""
    if not (match := pattern.fullmatch(name)):
        raise ValueError(f"{name!r} does not fit the id pattern")
    named = match.groupdict()
    if named.get("start") and named.get("end"):
        check_youtube_times(named["start"], named["end"])
    return match["id"], named.get("start")


def fusionaudio(args: argparse.Namespace, skipped: SkipList) -> Iterator[CaptionedAudio]:
    """Yield a clip for each row that is a caption."""
    pattern, starts = compile_pattern(args.id_pattern), segment_starts(args.audioset_dir, skipped)
    lists = sorted(path for suffix in ("json", "jsonl", "jsonl.gz") for path in args.corpus_dir.glob(f"*.{suffix}"))
    if not lists:
        raise UserError(f"{args.corpus_dir}: no .json or .jsonl list; see the layout in --help")
    audio = index_audio(find_audio(args.corpus_dir), youtube_id)
    for path in lists:
        other_tasks: Counter[str] = Counter()
        with skipped.reading(path.name, "train"):
            for where, row in (json_rows if path.suffix == ".json" else jsonl_rows)(path, skipped):
                task = str(row.get("task", "caption"))
                if "caption" not in task.casefold():
                    other_tasks[task] += 1
                    continue
                with skipped.bad_row(where):
                    video, start = clip_of(text_field(row, args.id_column), pattern)
                    key, caption = youtube(video, start or starts.get(video)), clean_caption(text_field(row, "output"))
                    yield CaptionedAudio(key, clip_file(audio, key), "train", (caption,), row="")
        for task, count in sorted(other_tasks.items()):
            skipped.add("other_task", f"{count:,} rows of the task {task!r}", count, where=path.name)


@clean_exit
def main() -> None:
    """Read the command line and write the manifests."""
    parser = preparation_parser(__doc__)
    add_audioset_dir(parser)
    parser.add_argument("--id-column", default="audio_id", help="name of the id in a row")
    parser.add_argument("--id-pattern", default=ID_PATTERN, help="of the whole id; groups `id`, `start`, `end`")
    args = parser.parse_args()
    with SkipList() as skipped:
        write_manifests("fusionaudio", fusionaudio(args, skipped), skipped, args)


if __name__ == "__main__":
    main()
