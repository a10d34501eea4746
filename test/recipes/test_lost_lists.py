# SPDX-License-Identifier: Apache-2.0
"""A list that cannot be read, or not to its end, costs that list: what the others say is written, and then it is named.

What is lost may be of evaluated clips, so in the end it is an error. (AudioCaps, AudioSet: test_prepare_bad_input.py.)
"""

import io
import json
from pathlib import Path
from unittest.mock import patch

import pytest

from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import CORPORA, Workplace, run

METADATA = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
FSD50K = {"dev": "fname,labels,mids,split\n1,Bell,/m/0395lw,train\n", "eval": "fname,labels,mids\n2,Bell,/m/0395lw\n"}


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)


def prepare(place, corpus, *arguments):
    options = ("--corpus-dir", place.corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CORPORA)
    return run(f"prepare_{corpus}.py", *options, *arguments)


def lost(place, corpus):
    """Place and reason of the lists and rows that could not be read."""
    return [(e["where"], e["reason"]) for e in place.skipped(corpus) if e["reason"] in ("bad_list", "bad_row")]


def fsd50k(place, **texts):
    place.text("fsd50k/FSD50K.ground_truth/vocabulary.csv", "0,Bell,/m/0395lw\n")
    for part, text in (FSD50K | texts).items():
        place.text(f"fsd50k/FSD50K.ground_truth/{part}.csv", text)
    place.audio("fsd50k/FSD50K.dev_audio/1.wav", "fsd50k/FSD50K.eval_audio/2.wav")


@pytest.mark.parametrize(("part", "other"), [("dev", "test"), ("eval", "train")])
def test_one_of_fsd50ks_lists_with_another_delimiter_costs_not_the_other(place, part, other):
    fsd50k(place, **{part: FSD50K[part].replace(",", ";")})
    result = prepare(place, "fsd50k")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert f"{part}.csv:1: no column fname" in result.stderr and "All else is written" in result.stderr
    assert len(place.cuts(f"fsd50k_{other}")) == 1 and lost(place, "fsd50k") == [(f"{part}.csv", "bad_list")]
    assert json.loads((place.manifests / "fsd50k_report.json").read_text())["bad_list"] == 1


def clothoaqa(place, **metadata):
    for part, sound in (("development", 101), ("validation", 102), ("evaluation", 103)):
        row = f"{part}.wav,rain,{sound},link,,me,cc0\n"
        place.text(f"clotho/clotho_metadata_{part}.csv", metadata.get(part, METADATA + row))
    rows = {"train": "development", "val": "validation", "test": "evaluation"}
    for part, name in rows.items():
        place.text(f"clothoaqa/clotho_aqa_{part}.csv", f"file_name,QuestionText,answer\n{name}.wav,Does it rain?,yes\n")
        place.audio(f"clothoaqa/audio_files/{name}.wav")


@pytest.mark.parametrize("part", ["development", "evaluation"])
def test_one_of_clothos_metadata_lists_that_is_lost_costs_clothoaqa_no_clip(place, part):
    clothoaqa(place, **{part: METADATA.replace(",", ";")})
    result = prepare(place, "clothoaqa", "--clotho-dir", place.corpora / "clotho")
    name = f"clotho_metadata_{part}.csv"
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert f"{name}:1: no column file_name" in result.stderr and "All else is written" in result.stderr
    assert lost(place, "clothoaqa") == [(name, "bad_list")]
    keys = {split: [*place.cuts(f"clothoaqa_{split}")] for split in ("train", "valid", "test")}
    known = {"train": ["fs:101"], "valid": ["fs:102"], "test": ["fs:103"]}
    split = "train" if part == "development" else "test"
    assert keys == known | {split: [f"clotho:aqa/{part}.wav"]}


def test_a_clotho_folder_without_metadata_costs_clothoaqa_no_clip(place):
    clothoaqa(place)
    result = prepare(place, "clothoaqa", "--clotho-dir", place.corpora / "clothoaqa")
    assert result.returncode == 1 and "clotho_metadata_development.csv" in result.stderr
    assert listed_keys(place.manifests, "clothoaqa", "test") == {"clotho:aqa/evaluation.wav"}
    assert [reason for _, reason in lost(place, "clothoaqa")] == ["bad_list"]


def test_a_list_of_cremads_actors_that_is_lost_costs_what_it_says_of_them(place):
    place.text("cremad/SentenceFilenames.csv", "Stimulus_Number,Filename\n1,1001_DFA_ANG_XX\n")
    place.text("cremad/VideoDemographics.csv", "ActorID;Age;Sex\n1001;51;Male\n")
    place.audio("cremad/AudioWAV/1001_DFA_ANG_XX.wav")
    place.prepare("cremad")
    (cut,) = place.cuts("cremad_train").values()
    assert cut["supervisions"][0]["custom"]["attributes"] == {"emotion": "angry"}
    assert lost(place, "cremad") == [("VideoDemographics.csv", "bad_list")]


# ---- lists that end too early ---------------------------------------------------------------------------------------


class Failing(io.BytesIO):
    """A file on a disk that gives two lines and no more."""

    def __next__(self):
        if self.tell() and self.getvalue()[: self.tell()].count(b"\n") == 2:
            raise OSError(5, "Input/output error")
        return super().__next__()


LISTS = {  # corpus: its list, two lines of it, the clip in them
    "esc50": (
        "meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take\n1-9-A-0.wav,1,0,dog,True,9,A\n",
        "fs:9/A",
    ),
    "urbansound8k": (
        "metadata/UrbanSound8K.csv",
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n9-3-0-0.wav,9,1.5,4.25,1,5,3,dog_bark\n",
        "fs:9:1500-4250",
    ),
    "vggsound": ("vggsound.csv", "---g-f_I2yQ,1,people marching,test\n" * 2, "yt:---g-f_I2yQ:1000"),
    "voxceleb1": ("iden_split.txt", "3 id10001/1zcIwhmdeo4/00001.wav\n" * 2, "vox:id10001/1zcIwhmdeo4/00001"),
    "musiccaps": (
        "musiccaps-public.csv",
        "ytid,start_s,end_s,caption,author_id,is_audioset_eval\n-0Gj8-vB1q4,30,40,A harp.,4,True\n",
        "yt:-0Gj8-vB1q4:30000",
    ),
    "cremad": ("SentenceFilenames.csv", "Stimulus_Number,Filename\n1,1001_DFA_ANG_XX\n", "crema:1001_DFA_ANG_XX"),
    "fsd50k": ("FSD50K.ground_truth/eval.csv", FSD50K["eval"], "fs:2"),
}


@pytest.mark.parametrize("corpus", LISTS)
def test_a_list_of_evaluated_clips_that_the_disk_gives_up_is_read_so_far_and_is_an_error(place, corpus):
    name, text, key = LISTS[corpus]
    if corpus == "fsd50k":
        fsd50k(place, dev="fname,labels,mids,split\n")
    place.text(f"{corpus}/{name}", text * 3)
    place.audio("musiccaps/-0Gj8-vB1q4.wav")  # a source is nothing without audio
    opened = Path.open

    def failing(path, mode="r", *rest, **options):
        with opened(path, mode, *rest, **options) as stream:
            if path.name == Path(name).name and mode == "rb":
                return Failing(stream.read())
        return opened(path, mode, *rest, **options)

    with patch.object(Path, "open", failing):
        result = prepare(place, corpus)
    assert result.returncode == 1 and f"{Path(name).name}:3: the file ends too early" in result.stderr, result.stderr
    skipped = place.skipped(corpus)
    cuts = {cut["id"] for path in place.manifests.glob("*_cuts.jsonl.gz") for cut in read_jsonl(path)}
    assert key in {entry.get("key") for entry in skipped} | cuts
    assert (f"{Path(name).name}:3", "bad_row") in [(entry.get("where"), entry["reason"]) for entry in skipped]
