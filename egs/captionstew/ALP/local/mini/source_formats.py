# SPDX-License-Identifier: Apache-2.0
"""The lists of MusicCaps, AudioSetCaps, FusionAudio and JamendoMaxCaps, in their publishers' formats, with faults.

Faults: a caption over two lines and a row that is neither for training nor for evaluation (MusicCaps), clips that are
longer than the others and ids that are cut short (AudioSetCaps), rows of questions (FusionAudio), a stretch that ends
before it begins and tracks that are gone (JamendoMaxCaps).
"""

from __future__ import annotations

import json
from pathlib import Path

from .events import MIDS
from .formats import audioset_labels, of_split, write_csv
from .mixing import Rendered
from .music_words import aspects
from .planning import Item
from .scenes import TRACK_SECONDS

MUSICCAPS_COLUMNS = (
    "ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption", "author_id",
    "is_balanced_subset", "is_audioset_eval",
)  # fmt: skip
AUDIOSETCAPS_LISTS = {
    "AudioSet": ("AudioSetCaps_caption.csv", "Y{0}"),
    "VGGSound": ("VGGSound_AudioSetCaps_caption.csv", "{0}_000030"),
    "YouTube-8M": ("YouTube-8M_AudioSetCaps_caption.csv", "{0}_30_10"),
}


def write_musiccaps(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`musiccaps-public.csv`; both splits are in it."""
    rows: list[tuple] = []
    for index, item in enumerate(sorted(items, key=lambda item: item.ident)):
        mids = ",".join(MIDS[name] for name in audioset_labels(item))
        caption = item.captions[0].replace(", ", ",\n", 1) if index == 3 else item.captions[0]
        flags = (str(index % 5 == 0 and item.split == "test"), str(item.split == "test"))
        rows.append(
            (item.ident, item.start, item.start + 10, mids, str(aspects(item.scene)), caption, index % 9, *flags)
        )
    rows.insert(9, ("gone_music-", 30, 40, MIDS["Music"], "['piano']", "A piano plays.", 4, "False", "False"))
    rows.insert(12, ("-undecided_", 30, 40, MIDS["Music"], "['piano']", "A piano plays.", 4, "False", "maybe"))
    write_csv(root / "musiccaps-public.csv", MUSICCAPS_COLUMNS, rows)


def write_audiosetcaps(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """One list for each part; the forms of the ids differ."""
    for part, (name, form) in AUDIOSETCAPS_LISTS.items():
        rows = [(item.details["name"], item.captions[0]) for item in of_split(items, part)]
        rows.insert(3, (form.format("_gone_video"), "A dog barks."))
        rows.insert(5, (form.format("tooshort"), "A dog barks."))
        if part == "YouTube-8M":
            rows.insert(6, ("half-minute_0_30", "A dog barks."))
        write_csv(root / "Dataset" / name, ("id", "caption"), rows)


def write_fusionaudio(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """One list of captions, in which ids have two forms, and one of questions."""
    rows = []
    for index, item in enumerate(items):
        ident = f"audioset/Y{item.ident}.wav" if index % 2 else item.details["name"]
        rows.append(_fusionaudio_row(ident, "Describe what you hear.", "Audio Captioning", item.captions[0]))
    rows.insert(4, _fusionaudio_row("_gone_video_0_10", "Describe what you hear.", "Audio Captioning", "A dog barks."))
    asked = [
        _fusionaudio_row(item.details["name"], "Is anything heard?", "Close-ended question", "Yes.")
        for item in items[:20]
    ]
    for name, content in (("caption_train.json", rows), ("qa_train.json", asked)):
        (root / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _fusionaudio_row(ident: str, instruction: str, task: str, output: str) -> dict[str, str]:
    return {
        "audio_id": ident, "instruction": instruction, "input": "", "dataset": "audioset", "task": task,
        "output": output,
    }  # fmt: skip


def write_jamendomaxcaps(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """A row for each stretch, whole tracks as audio."""
    rows = []
    for item in items:
        for index, text in enumerate(item.captions):
            rows.append(_jamendo_row(item.ident, index * TRACK_SECONDS, (index + 1) * TRACK_SECONDS, text))
    rows.insert(4, _jamendo_row("1176899", 0.0, TRACK_SECONDS, "A piano plays."))
    rows.insert(6, _jamendo_row(items[0].ident, 30.0, 0.0, "A piano plays."))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "final_caption30sec.jsonl").write_text(lines, encoding="utf-8")


def _jamendo_row(ident: str, start: float, end: float, caption: str) -> dict[str, object]:
    return {"start_time": start, "end_time": end, "caption": caption, "id": ident}


SOURCE_WRITERS = {
    "musiccaps": write_musiccaps,
    "audiosetcaps": write_audiosetcaps,
    "fusionaudio": write_fusionaudio,
    "jamendomaxcaps": write_jamendomaxcaps,
}
