# SPDX-License-Identifier: Apache-2.0
"""The lists of each corpus, in the formats its publishers use, with the faults that real downloads have.

Faults: a row with too few columns and one without a start time (AudioCaps), rows whose audio is gone (AudioCaps), an
empty file (AudioSet), a truncated one (Clotho), one that holds no audio at all (WavCaps).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from .events import FSD50K_TAGS, MIDS, TAGS, mid_of
from .mixing import Rendered
from .planning import Item

CLOTHO_COLUMNS = ("file_name", "keywords", "sound_id", "sound_link", "start_end_samples", "manufacturer", "license")
SEGMENT_HEADER = (
    "# Segments csv of the embedded corpus",
    "# num_ytids={count}, num_segs={count}, num_unique_labels={labels}, num_positive_labels={positives}",
    "# YTID, start_seconds, end_seconds, positive_labels",
)
WAVCAPS_LISTS = {"AudioSet_SL": "as", "BBC_Sound_Effects": "bbc", "FreeSound": "fsd", "SoundBible": "sb"}


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]], encoding: str = "utf-8") -> None:
    """Write a comma-separated list; an empty header is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([header] if header else [])
        writer.writerows(rows)


def of_split(items: list[Item], *splits: str) -> list[Item]:
    """The items of some splits."""
    return [item for item in items if item.split in splits]


def write_audiocaps(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`{train,val,test}.csv` with one row for each caption."""
    for split, first in (("train", 10000), ("val", 70000), ("test", 90000)):
        mine = of_split(items, split)
        triples = [(item.ident, item.start, text) for item in mine for text in item.captions]
        rows: list[tuple] = [(first + number, *triple) for number, triple in enumerate(triples)]
        if split == "train":
            rows.insert(7, (98001, "gone-_video", 30, "A door creaks"))
            rows.insert(11, (98002, "_gone_video", 0, "A dog barks"))
            rows.insert(13, (98003, "noStartHere", "n/a", "A bell rings"))
            rows.insert(17, (98004, "cut-off-row"))
        write_csv(root / f"{split}.csv", ("audiocap_id", "youtube_id", "start_time", "caption"), rows)


def write_clotho(items: list[Item], root: Path, rendered: dict[str, Rendered]) -> None:
    """Captions and metadata (ISO-8859-1) of the three splits; the second development file is truncated."""
    for split in ("development", "validation", "evaluation"):
        mine = of_split(items, split)
        captions = [(Path(item.path).name, *item.captions) for item in mine]
        metadata = [_clotho_metadata(item, index, rendered[item.path].seconds) for index, item in enumerate(mine)]
        if split == "development":
            name = "truncated_download.wav"
            (root / split / name).write_bytes((root / mine[1].path).read_bytes()[:30])
            captions.insert(1, (name, *mine[1].captions))
            metadata.insert(1, (name, "door", "299999", "https://freesound.org/s/299999", "[0, 100]", "café", "CC0"))
        header = ("file_name", *(f"caption_{n}" for n in range(1, 6)))
        write_csv(root / f"clotho_captions_{split}.csv", header, captions)
        write_csv(root / f"clotho_metadata_{split}.csv", CLOTHO_COLUMNS, metadata, "iso-8859-1")


def _clotho_metadata(item: Item, index: int, seconds: float) -> tuple:
    name = Path(item.path).name
    keywords = ";".join(sound.event.name for sound in item.scene.sounds)
    if index == 25:
        return (name, keywords, "Not found", "NA", "", "Jürgen", "CC0")
    # some crops have no samples, as the published list; those that another corpus shares are whole sounds
    samples = "" if item.split == "development" and index < 14 else f"[1024, {1024 + round(seconds * 44100)}]"
    return (name, keywords, item.ident, f"https://freesound.org/s/{item.ident}", samples, "Jürgen", "CC0")


def write_wavcaps(items: list[Item], root: Path, rendered: dict[str, Rendered]) -> None:
    """One JSON for each part; one FreeSound file is a web page instead of audio."""
    for part, short in WAVCAPS_LISTS.items():
        data = []
        for item in of_split(items, part):
            row = {
                "id": item.ident,
                "caption": item.captions[0],
                "audio": "wav_path",
                "duration": rendered[item.path].seconds,
            }
            if part == "AudioSet_SL":
                row["id"] += ".wav"
            elif part == "SoundBible":
                row["title"] = item.scene.sounds[0].event.name
            data.append(row)
        if part == "FreeSound":
            data.insert(3, {"id": "499999", "caption": "A bell rings.", "audio": "wav_path", "duration": 3.0})
            (root / "audio" / part / "499999.flac").write_text("<html>503 Service Unavailable</html>\n" * 40)
        path = root / "json_files" / part / f"{short}_final.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"num_captions_per_audio": 1, "data": data}, indent=1), encoding="utf-8")


def write_paraspeechcaps(items: list[Item], root: Path, rendered: dict[str, Rendered]) -> None:
    """One JSON-lines file for each list, with the published columns."""
    for split in ("train_base", "train_scaled", "dev", "holdout"):
        lines = []
        for item in of_split(items, split):
            source, _, relative = item.path.partition("/")
            tags = [item.details[name] for name in ("gender", "accent", "pitch", "speaking_rate", "noise")]
            row = {
                "source": source, "relative_audio_path": relative,
                "text_description": list(item.captions), "transcription": item.details["text"], "intrinsic_tags": [],
                "situational_tags": [], "basic_tags": tags, "all_tags": tags, "name": None,
                "speakerid": item.details["speaker"], "duration": rendered[item.path].seconds,
                "utterance_pitch_mean": None, "snr": -item.scene.noise_db, "phonemes": None,
                **{name: item.details[name] for name in ("gender", "accent", "pitch", "speaking_rate", "noise")},
            }  # fmt: skip
            lines.append(json.dumps(row))
        (root / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_audioset(items: list[Item], root: Path, rendered: dict[str, Rendered]) -> None:
    """The three segment lists and the class list; one audio file is empty.

    The unbalanced list has the clips that others took from AudioSet (split "unbalanced_train"): they were not
    downloaded, but their start times are known.
    """
    names = sorted({name for item in items for name in audioset_labels(item)})
    rows = [(index, MIDS[name], name) for index, name in enumerate(names)]
    write_csv(root / "class_labels_indices.csv", ("index", "mid", "display_name"), rows)
    for split in ("balanced_train", "unbalanced_train", "eval"):
        mine = of_split(items, split)
        labels = [[MIDS[name] for name in audioset_labels(item)] for item in mine]
        counts = {"count": len(mine), "labels": len(names), "positives": sum(map(len, labels))}
        lines = [line.format(**counts) for line in SEGMENT_HEADER]
        for item, mids in zip(mine, labels, strict=True):
            end = item.start + 10
            lines.append(f'{item.ident}, {item.start}.000, {end}.000, "{",".join(mids)}"')
        (root / f"{split}_segments.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / of_split(items, "balanced_train")[5].path).write_bytes(b"")


def audioset_labels(item: Item) -> list[str]:
    """Display names of an item's events: of their tags, "Music" for all music, "Sound effect" for other sounds."""
    names = {name for tag in item.tags for name in TAGS[tag][0]}
    events = [sound.event for sound in item.scene.sounds]
    names |= {"Music" for event in events if event.domain == "music"}
    names |= {"Sound effect" for event in events if event.domain == "sound" and not event.tag}
    return sorted(names)


def write_fsd50k(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`dev.csv`, `eval.csv`, `vocabulary.csv`; labels are propagated to their parents."""
    folder = root / "FSD50K.ground_truth"
    labels = {item.ident: fsd50k_labels(item) for item in items}
    vocabulary = sorted({name for names in labels.values() for name in names})
    write_csv(folder / "vocabulary.csv", (), [(i, name, mid_of(name)) for i, name in enumerate(vocabulary)])
    rows = {
        item.ident: (item.ident, ",".join(labels[item.ident]), ",".join(mid_of(name) for name in labels[item.ident]))
        for item in items
    }
    dev = [(*rows[item.ident], item.split) for item in of_split(items, "train", "val")]
    write_csv(folder / "dev.csv", ("fname", "labels", "mids", "split"), dev)
    test = [rows[item.ident] for item in of_split(items, "test")]
    write_csv(folder / "eval.csv", ("fname", "labels", "mids"), test)


def fsd50k_labels(item: Item) -> list[str]:
    """The classes of an item and their parents."""
    return sorted({name for tag in item.tags if tag in FSD50K_TAGS for name in (tag, *TAGS[tag][1])})


def write_voxceleb2(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`vox2_meta.csv`; the audio alone tells the speakers."""
    sexes = {Path(item.path).parts[2]: item.details["gender"][0] for item in items}
    rows = [(f"{name} ", f"n{index:06d} ", f"{sex} ", "dev") for index, (name, sex) in enumerate(sorted(sexes.items()))]
    write_csv(root / "vox2_meta.csv", ("VoxCeleb2 ID ", "VGGFace2 ID ", "Gender ", "Set"), rows)


FIRST_WRITERS: dict[str, Callable[[list[Item], Path, dict[str, Rendered]], None]] = {
    "audiocaps": write_audiocaps,
    "clotho": write_clotho,
    "wavcaps": write_wavcaps,
    "paraspeechcaps": write_paraspeechcaps,
    "audioset": write_audioset,
    "fsd50k": write_fsd50k,
    "voxceleb2": write_voxceleb2,
}
