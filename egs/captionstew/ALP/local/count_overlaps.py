#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Count on the published lists what corpora share, beside the figures known for these lists.

    local/count_overlaps.py --lists-dir FOLDER

FOLDER has a folder for each corpus with its lists under the names that LISTS below gives; a figure whose lists are not
there is passed over. Ids are read by the readers and keys of the preparation scripts and compared by the merge's leak
filter, so a wrong figure is a fault of these, or another version of a list. Exit status 1 if one differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from lookups import segment_rows
from prepare_cremad import EMOTIONS
from prepare_cremad import read_list as cremad_list
from prepare_magnatagatune import SPLIT_OF_FOLDER
from prepare_musiccaps import BEGINS_ROW
from tqdm import tqdm

from icefall_alp.data import audio_keys
from icefall_alp.data.corpus_lists import SkipList, csv_rows, duration_field, json_object, json_rows, read_json
from icefall_alp.data.leaks import LeakFilter
from icefall_alp.utils.errors import UserError, clean_exit

LISTS = {
    "audiocaps": "audiocaps/{train,val,test}.csv",
    "audiocaps_wavcaps": "audiocaps/wavcaps_repo_audiocaps_{test,val}.csv",
    "audioset": "audioset/eval_segments.csv",
    "audioset_classes": "audioset/class_labels_indices.csv",
    "strong": "audioset_strong/eval_durations.csv",
    "strong_classes": "audioset_strong/mid_to_display_name.tsv",
    "musiccaps": "musiccaps/musiccaps-public.csv",
    "blacklist": "wavcaps/blacklist_exclude_{all_ac,test_ac,ub8k_esc50_vggsound}.json",
    "soundbible": "wavcaps/sb_final.json",
    "clotho": "clotho/wavcaps_repo_clotho_train.csv",
    "clotho_test": "clotho/wavcaps_repo_retrieval_clotho_test.json",
    "clothoaqa": "clothoaqa/fusionaudio_repo_Clotho-AQA_test.json",
    "urbansound8k": "urbansound8k/us8k.csv",
    "esc50": "urbansound8k/audiosep_esc50_eval.csv",
    "cremad": "cremad/SentenceFilenames.csv",
    "magnatagatune": "magnatagatune/musicnn_index_mtt.tsv",
    "airbench": "airbench/fusionaudio_repo_AIR-Bench-Chat_test.json",
}


class Lists:
    """The keys in the lists of a folder, each list read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped = SkipList()

    def path(self, name: str, part: str = "") -> Path:
        """Where a list, or one part of it, lies."""
        head, brace, tail = LISTS[name].partition("{")
        path = self.folder / (head + part + tail.partition("}")[2] if brace else head)
        if not path.is_file():
            raise FileNotFoundError(path)
        return path

    def rows(self, name: str, columns: tuple[str, ...], part: str = "", **options: object) -> list[dict[str, str]]:
        """Good rows of a list with separators."""
        return [row for _, row in csv_rows(self.path(name, part), columns, self.skipped, **options)]  # type: ignore[arg-type]

    def audiocaps(self, split: str) -> list[str]:
        """Keys of the rows of a split."""
        rows = self.rows("audiocaps", ("youtube_id", "start_time"), split)
        return [audio_keys.youtube(row["youtube_id"], row["start_time"]) for row in rows]

    def surviving_audiocaps(self, split: str) -> set[str]:
        """Videos of a split in the copy that WavCaps ships."""
        rows = self.rows("audiocaps_wavcaps", ("file_name",), split)
        return {audio_keys.SCHEMES["youtube"](row["file_name"]) for row in rows}

    @cached_property
    def audioset_eval(self) -> list[str]:
        """Keys of AudioSet's evaluation segments."""
        rows = segment_rows(self.path("audioset"), self.skipped)
        return [audio_keys.youtube(row["ytid"], row["start_seconds"]) for _, row in rows]

    @cached_property
    def strong_eval(self) -> set[str]:
        """Videos of AudioSet-strong's evaluation clips."""
        rows = self.rows("strong", ("name", "seconds"), has_header=False)
        return {audio_keys.youtube(audio_keys.youtube_clip(row["name"], "Y<id>")[0], None) for row in rows}

    @cached_property
    def musiccaps(self) -> list[tuple[str, str, str]]:
        """Key, is_audioset_eval and is_balanced_subset of each row."""
        columns = ("ytid", "start_s", "is_audioset_eval", "is_balanced_subset")
        rows = self.rows("musiccaps", columns, begins_row=BEGINS_ROW)
        return [(audio_keys.youtube(r["ytid"], r["start_s"]), r[columns[2]], r[columns[3]]) for r in rows]

    def blacklist(self, name: str, archive: str) -> list[str]:
        """Entries of one of WavCaps' blacklists, AudioSet or FreeSound."""
        content = json_object(read_json(self.path("blacklist", name).read_bytes()))
        return [str(entry) for entry in content[archive]]

    def blacklisted(self, name: str, archive: str) -> list[str]:
        """Keys of the entries; some sounds are "Not found"."""
        keys = []
        for number, entry in enumerate(self.blacklist(name, archive)):
            with self.skipped.bad_row(f"{name}: {archive}[{number}]"):
                keys.append(audio_keys.SCHEMES["youtube" if archive == "AudioSet" else "freesound"](entry))
        return keys

    def json_names(self, name: str, field: str, member: str | None = None) -> list[str]:
        """One field of each row of a JSON list."""
        return [str(row[field]) for _, row in json_rows(self.path(name), self.skipped, member)]

    @cached_property
    def urbansound8k(self) -> set[str]:
        """Sounds."""
        return {audio_keys.urbansound8k(row["file_name"]) for row in self.rows("urbansound8k", ("file_name",))}

    @cached_property
    def clotho_test(self) -> list[str]:
        """Sounds of Clotho's evaluation part, as far as they are known."""
        ids = self.json_names("clotho_test", "id", "data")
        return [audio_keys.freesound(sound) for sound in ids if sound.isdecimal()]

    def magnatagatune(self, split: str) -> int:
        """Clips in the folders of a split."""
        rows = self.rows("magnatagatune", ("clip", "path"), has_header=False, delimiter="\t")
        return sum(SPLIT_OF_FOLDER.get(row["path"].partition("/")[0]) == split for row in rows)


def shared(clips: object, others: object, strict: bool = False) -> int:
    """How many distinct clips collide with others, by the rules of the merge."""
    leaks = LeakFilter({"others": others}, strict)  # type: ignore[dict-item]
    return sum(bool(leaks.collisions(key)) for key in set(clips))  # type: ignore[call-overload]


def musiccaps(lists: Lists, is_eval: str) -> list[str]:
    """Keys of MusicCaps' rows with this is_audioset_eval."""
    return [key for key, flag, _ in lists.musiccaps if flag == is_eval]


def clothoaqa_names(lists: Lists) -> set[str]:
    """File names of ClothoAQA's test clips."""
    return {Path(name).name for name in lists.json_names("clothoaqa", "audio_id")}


def clotho_names(lists: Lists) -> set[str]:
    """File names of Clotho's development part."""
    return {row["file_name"] for row in lists.rows("clotho", ("file_name",))}


def airbench_music(lists: Lists) -> list[str]:
    """Keys of AIR-Bench's chat items about MusicCaps clips."""
    names = [name for name in lists.json_names("airbench", "audio_id") if "_musiccaps/" in name]
    return [audio_keys.SCHEMES["youtube"](name) for name in names]


# what is counted, the figure known for the list, how it is counted here
FIGURES: tuple[tuple[str, int, Callable[[Lists], int]], ...] = (
    ("AudioCaps train clips", 49_838, lambda ls: len(set(ls.audiocaps("train")))),
    ("AudioCaps val clips", 495, lambda ls: len(set(ls.audiocaps("val")))),
    ("AudioCaps test clips", 975, lambda ls: len(set(ls.audiocaps("test")))),
    ("AudioCaps test captions", 4_875, lambda ls: len(ls.audiocaps("test"))),
    ("AudioCaps train clips of its own val and test videos", 0,
     lambda ls: shared(ls.audiocaps("train"), ls.audiocaps("val") + ls.audiocaps("test"), strict=True)),
    ("AudioCaps clips of AudioSet eval videos", 0, lambda ls: shared(
        ls.audiocaps("train") + ls.audiocaps("val") + ls.audiocaps("test"), ls.audioset_eval, strict=True)),
    ("AudioCaps test clips in WavCaps' copy", 957, lambda ls: len(ls.surviving_audiocaps("test"))),
    ("AudioCaps val clips in WavCaps' copy", 494, lambda ls: len(ls.surviving_audiocaps("val"))),
    ("AudioSet eval segments", 20_371, lambda ls: len(set(ls.audioset_eval))),
    ("AudioSet eval videos", 20_371, lambda ls: len({key.rpartition(":")[0] for key in ls.audioset_eval})),
    ("AudioSet eval ids with an underscore", 2_998,
     lambda ls: sum("_" in key for key in ls.audioset_eval)),
    ("AudioSet-strong eval clips", 16_935, lambda ls: len(ls.strong_eval)),
    ("AudioSet-strong eval clips inside AudioSet eval", 16_935, lambda ls: shared(ls.strong_eval, ls.audioset_eval)),
    ("AudioSet-strong classes", 456, lambda ls: len(strong_mids(ls))),
    ("AudioSet-strong classes among the 527", 382, lambda ls: len(strong_mids(ls) & {
        row["mid"] for row in ls.rows("audioset_classes", ("index", "mid", "display_name"))})),
    ("MusicCaps rows", 5_521, lambda ls: len(ls.musiccaps)),
    ("MusicCaps non-eval rows", 2_663, lambda ls: len(musiccaps(ls, "False"))),
    ("MusicCaps eval rows", 2_858, lambda ls: len(musiccaps(ls, "True"))),
    ("MusicCaps eval inside AudioSet eval, same start", 2_858,
     lambda ls: len(set(musiccaps(ls, "True")) & set(ls.audioset_eval))),
    ("MusicCaps balanced rows inside eval", 1_000,
     lambda ls: sum(flag == balanced == "True" for _, flag, balanced in ls.musiccaps)),
    ("MusicCaps clips of AudioSet-strong eval", 2_743,
     lambda ls: shared([key for key, _, _ in ls.musiccaps], ls.strong_eval)),
    ("WavCaps blacklist all_ac, AudioSet", 50_725, lambda ls: len(ls.blacklist("all_ac", "AudioSet"))),
    ("WavCaps blacklist all_ac, FreeSound", 5_929, lambda ls: len(ls.blacklist("all_ac", "FreeSound"))),
    ("WavCaps blacklist test_ac, AudioSet", 1_451, lambda ls: len(ls.blacklist("test_ac", "AudioSet"))),
    ("WavCaps blacklist test_ac, FreeSound", 2_090, lambda ls: len(ls.blacklist("test_ac", "FreeSound"))),
    ("WavCaps blacklist ub8k_esc50_vggsound, AudioSet", 15_510,
     lambda ls: len(ls.blacklist("ub8k_esc50_vggsound", "AudioSet"))),
    ("WavCaps blacklist ub8k_esc50_vggsound, FreeSound", 2_219,
     lambda ls: len(ls.blacklist("ub8k_esc50_vggsound", "FreeSound"))),
    ("WavCaps blacklist test_ac against AudioCaps test", 957,
     lambda ls: shared(ls.audiocaps("test"), ls.blacklisted("test_ac", "AudioSet"))),
    ("WavCaps blacklist test_ac against AudioCaps val", 494,
     lambda ls: shared(ls.audiocaps("val"), ls.blacklisted("test_ac", "AudioSet"))),
    ("WavCaps blacklist ub8k_esc50_vggsound against UrbanSound8K", 1_050,
     lambda ls: shared(ls.urbansound8k, ls.blacklisted("ub8k_esc50_vggsound", "FreeSound"))),
    ("WavCaps SoundBible clips", 1_232, lambda ls: len(ls.json_names("soundbible", "id", "data"))),
    ("WavCaps SoundBible clips over 60 s", 33, lambda ls: sum(
        (duration_field(row) or 0) > 60 for _, row in json_rows(ls.path("soundbible"), ls.skipped, "data"))),
    ("UrbanSound8K sounds", 1_297, lambda ls: len(ls.urbansound8k)),
    ("UrbanSound8K sounds in Clotho evaluation", 16, lambda ls: shared(ls.urbansound8k, ls.clotho_test)),
    ("Clotho development clips", 3_839, lambda ls: len(clotho_names(ls))),
    ("ClothoAQA test clips", 473, lambda ls: len(clothoaqa_names(ls))),
    ("ClothoAQA test clips in Clotho development", 254, lambda ls: len(clothoaqa_names(ls) & clotho_names(ls))),
    ("CREMA-D utterances", 7_442, lambda ls: len(cremad_list(ls.path("cremad").parent, ls.skipped))),
    ("CREMA-D actors", 91, lambda ls: len({row[2] for row in cremad_list(ls.path("cremad").parent, ls.skipped)})),
    ("CREMA-D utterances of the largest and of the smallest emotion", 1_271 - 1_087, lambda ls: emotion_range(ls)),
    ("MagnaTagATune train clips by folder", 18_709, lambda ls: ls.magnatagatune("train")),
    ("MagnaTagATune valid clips by folder", 1_825, lambda ls: ls.magnatagatune("valid")),
    ("MagnaTagATune test clips by folder", 5_329, lambda ls: ls.magnatagatune("test")),
    ("AIR-Bench music clips outside MusicCaps eval", 0, lambda ls: len(set(airbench_music(ls)))
     - shared(airbench_music(ls), musiccaps(ls, "True"))),
)  # fmt: skip


def strong_mids(lists: Lists) -> set[str]:
    """MIDs of AudioSet-strong's classes."""
    return {row["mid"] for row in lists.rows("strong_classes", ("mid", "name"), has_header=False, delimiter="\t")}


def emotion_range(lists: Lists) -> int:
    """How many more utterances the most frequent emotion has than the least frequent."""
    emotions = [row[3] for row in cremad_list(lists.path("cremad").parent, lists.skipped)]
    counts = [emotions.count(code) for code in EMOTIONS]
    return max(counts) - min(counts)


@clean_exit
def main() -> None:
    """Read the command line, count, print counted beside known."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--lists-dir", type=Path, required=True, help="folder with a folder of lists for each corpus")
    args = parser.parse_args()
    if not args.lists_dir.is_dir():
        raise UserError(f"{args.lists_dir}: no such folder")
    lists = Lists(args.lists_dir)
    lines, absent, wrong = [], 0, 0
    for name, known, count in tqdm(FIGURES, unit="figure", disable=None):
        try:
            counted = count(lists)
        except FileNotFoundError:
            absent += 1
            continue
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{name}: the lists it is counted on are damaged ({error!r})") from error
        wrong += counted != known
        lines.append(f"| {name} | {counted:,} | {known:,} | {'' if counted == known else 'differs'} |")
    print("\n".join(["| figure | counted | known | |", "|---|---:|---:|---|", *lines]))
    print(f"{len(lines) - wrong} agree, {wrong} differ, {absent} of lists that are not here")
    for entry in lists.skipped.entries:
        print(f"left out: {entry['where']}: {entry['cause']}")
    if wrong or not lines:
        sys.exit(1)


if __name__ == "__main__":
    main()
