# SPDX-License-Identifier: Apache-2.0
"""The lists of the benchmarks and of what only helps, in their publishers' formats, with faults.

Faults: an event that ends before it begins (AudioSet-strong), a video that is gone (VGGSound), a file that was not
downloaded (VoxCeleb1), an emotion that is none of six (CREMA-D), clips with none of the frequent tags
(MagnaTagATune), a note without audio (NSynth).
"""

from __future__ import annotations

import json
from pathlib import Path

from prepare_magnatagatune import TAGS as FREQUENT_TAGS

from .events import MIDS, TAGS, Event
from .formats import of_split, write_csv
from .mixing import Rendered
from .music_words import magnatagatune_tags
from .planning import Item

RARE_TAGS = ("eerie", "jazz", "trumpet", "organ", "bells", "percussion", "clarinet", "plucking")
HUMAN_SOUNDS = ("Singing", "Laughter", "Clapping", "Applause", "Walk, footsteps", "Run")
NSYNTH_FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip
NSYNTH_SOURCES = ("acoustic", "electronic", "synthetic")


def strong_label(event: Event) -> str:
    """One of five broad names of AudioSet-strong: of many a narrow class there is one recording for test clips."""
    if event.domain == "music":
        return "Music"
    names = TAGS[event.tag][0] if event.tag else ("",)
    if names[0] in HUMAN_SOUNDS:
        return "Human sounds"
    return names[-1] if names[-1] in ("Speech", "Animal") else "Sound effect"


def write_audioset_strong(items: list[Item], root: Path, rendered: dict[str, Rendered]) -> None:
    """The two lists of events and the names; labels are MIDs."""
    header = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
    used = set()
    for part in ("train", "eval"):
        rows: list[tuple] = []
        for item in of_split(items, part):
            segment = f"{item.ident}_{item.start * 1000}"
            for index, onset, offset in rendered[item.path].events:
                label = strong_label(item.scene.sounds[index].event)
                used.add(label)
                rows.append((segment, f"{onset:.3f}", f"{offset:.3f}", MIDS[label]))
        if part == "train":
            rows.insert(4, (rows[3][0], "2.000", "1.000", rows[3][3]))
            rows.insert(9, ("-gone_video_30000", "0.000", "1.000", rows[3][3]))
        _write_tabs(root / f"audioset_{part}_strong.tsv", [header, *rows])
    _write_tabs(root / "mid_to_display_name.tsv", sorted((MIDS[name], name) for name in used))


def _write_tabs(path: Path, rows: list[tuple]) -> None:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def write_vggsound(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`vggsound.csv` without a header."""
    rows = [(item.ident, item.start, item.details["label"], item.split) for item in items]
    rows.insert(5, ("_gone-video", 30, rows[0][2], "train"))
    write_csv(root / "vggsound.csv", (), rows)


def write_voxceleb1(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`iden_split.txt`: the part and the path below `wav/`."""
    lines = [f"{item.details['part']} {item.path.removeprefix('wav/')}" for item in items]
    lines.insert(3, "1 id10001/gone-_video/00001.wav")
    (root / "iden_split.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_cremad(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """The list of all file names and who the actors are."""
    names = sorted(item.ident for item in items)
    names.insert(7, names[0][:9] + "JOY_XX")
    lines = ['"Stimulus_Number","Filename"', *(f'{number},"{name}"' for number, name in enumerate(names, start=1))]
    (root / "SentenceFilenames.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sexes = {item.details["actor"]: item.details["gender"].title() for item in items}
    lines = ['"ActorID","Age","Sex","Race","Ethnicity"']
    lines += [f'{actor},,"{sex}","Unknown","Unknown"' for actor, sex in sorted(sexes.items())]
    (root / "VideoDemographics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_magnatagatune(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`annotations_final.csv`, TAB-separated and quoted: a column for each tag, some of them rare ones."""
    columns = sorted((*FREQUENT_TAGS, *RARE_TAGS))
    rows: list[tuple] = [("clip_id", *columns, "mp3_path")]
    for index, item in enumerate(items):
        tags = {"eerie"} if index % 100 == 50 else magnatagatune_tags(item.scene)
        rows.append((item.ident, *(int(name in tags) for name in columns), item.path))
    lines = ("\t".join(f'"{field}"' for field in row) for row in rows)
    (root / "annotations_final.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_nsynth(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`examples.json` of each split."""
    for split in ("train", "valid", "test"):
        examples = {item.ident: _nsynth_example(item, number) for number, item in enumerate(of_split(items, split))}
        if split == "train":
            gone = "bass_synthetic_999-040-100"
            examples[gone] = {**next(iter(examples.values())), "note_str": gone}
        path = root / f"nsynth-{split}" / "examples.json"
        path.write_text(json.dumps(examples, indent=1) + "\n", encoding="utf-8")


def _nsynth_example(item: Item, number: int) -> dict[str, object]:
    instrument, pitch, velocity = item.ident.rsplit("-", 2)
    family, source = item.details["family"], item.details["source"]
    return {
        "note": number, "note_str": item.ident, "instrument_str": instrument, "pitch": int(pitch),
        "velocity": int(velocity), "sample_rate": item.rate, "qualities": [0] * 10, "qualities_str": [],
        "instrument_family": NSYNTH_FAMILIES.index(family), "instrument_family_str": family,
        "instrument_source": NSYNTH_SOURCES.index(source), "instrument_source_str": source,
    }  # fmt: skip


def write_urbansound8k(items: list[Item], root: Path, rendered: dict[str, Rendered]) -> None:
    """`metadata/UrbanSound8K.csv`: slices of a sound by start and end."""
    header = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
    rows = []
    for item in items:
        start = 2.5 * int(item.details["slice"])
        times = (f"{start:.6f}", f"{start + rendered[item.path].seconds:.6f}")
        names = (item.details["fold"], item.details["number"], item.details["class"])
        rows.append((Path(item.path).name, item.ident, *times, 1, *names))
    write_csv(root / "metadata/UrbanSound8K.csv", header, rows)


def write_esc50(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """`meta/esc50.csv`."""
    header = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    rows = []
    for item in items:
        details = item.details
        of_ten = details["class"] in ("dog", "rooster", "clock_tick")
        names = (details["fold"], details["number"], details["class"], of_ten, item.ident, details["take"])
        rows.append((Path(item.path).name, *names))
    write_csv(root / "meta/esc50.csv", header, rows)


def write_musan(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """No list: folders tell the part. As in the real corpus, a LICENSE lies in each of them."""
    for folder in sorted({Path(item.path).parent for item in items}):
        (root / folder / "LICENSE").write_text("The embedded recordings and engines; see provenance.json.\n")


def write_clothoaqa(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """One row for each answer, ISO-8859-1."""
    for split in ("train", "val", "test"):
        rows = [
            (item.ident, question, answer, "yes")
            for item in of_split(items, split)
            for question, answers in item.questions
            for answer in answers
        ]
        rows.insert(5, (rows[0][0], "", rows[0][2], "yes"))
        header = ("file_name", "QuestionText", "answer", "confidence")
        write_csv(root / f"clotho_aqa_{split}.csv", header, rows, "iso-8859-1")


def write_musicqa(items: list[Item], root: Path, _rendered: dict[str, Rendered]) -> None:
    """Two lists of conversations; one clip of the first is gone."""
    for split, name in (("train", "FinetuneMusicQA.json"), ("test", "EvalMusicQA.json")):
        rows = [
            _conversation(Path(item.path).name, question, answers[0])
            for item in of_split(items, split)
            for question, answers in item.questions
        ]
        if split == "train":
            rows.insert(6, _conversation("099999.wav", "Which instruments are playing?", "A piano."))
        (root / name).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _conversation(name: str, question: str, answer: str) -> dict[str, object]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"audio_name": name, "conversation": turns}


BENCHMARK_WRITERS = {
    "audioset_strong": write_audioset_strong,
    "vggsound": write_vggsound,
    "voxceleb1": write_voxceleb1,
    "cremad": write_cremad,
    "magnatagatune": write_magnatagatune,
    "nsynth": write_nsynth,
    "urbansound8k": write_urbansound8k,
    "esc50": write_esc50,
    "musan": write_musan,
    "clothoaqa": write_clothoaqa,
    "musicqa": write_musicqa,
}
