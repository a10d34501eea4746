# SPDX-License-Identifier: Apache-2.0
"""Rows that repeat or contradict an earlier one, in lists of classes, actors, events and numbered captions.

Of two rows the first counts; the other is one counted line with file and row. (Clips: test_prepare_bad_input.py.)
"""

import json

import pytest

from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import Workplace, captions, labels, source

AUDIOCAPS = "audiocap_id,youtube_id,start_time,caption\n"
CLIP = "b0RFKhbpFJA"
ABSENT = ("missing", "no_list")


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)


def repeated(place, corpus):
    """Place and reason of the rows that were there before, as often as the report counts them."""
    noted = [(entry["where"], entry["reason"]) for entry in place.skipped(corpus) if entry["reason"] not in ABSENT]
    report = json.loads((place.manifests / f"{corpus}_report.json").read_text())
    for reason in ("duplicate", "contradiction", "bad_row"):
        assert report.get(reason, 0) == [kind for _, kind in noted].count(reason)
    return noted


def test_audioset_classes(place):
    rows = ("0,/m/09x0r,Speech", "1,/m/05tny_,Bark", "0,/m/09x0r,Speech", "1,/m/05tny_,Meow", "2,,Walk")
    place.text("audioset/class_labels_indices.csv", "index,mid,display_name\n" + "\n".join(rows) + "\n")
    place.text("audioset/balanced_train_segments.csv", f'{CLIP}, 30.000, 40.000, "/m/05tny_,/m/09x0r"\n')
    place.text("audioset/eval_segments.csv", "# nothing\n")
    place.audio(f"audioset/{CLIP}.wav")
    place.prepare("audioset")
    assert labels(place.cuts("audioset_train")[f"yt:{CLIP}:30000"]) == ["Bark", "Speech"]
    assert (place.manifests / "audioset_classes.txt").read_text() == "Speech\nBark\n"
    assert repeated(place, "audioset") == [
        ("class_labels_indices.csv:4", "duplicate"),
        ("class_labels_indices.csv:5", "contradiction"),
        ("class_labels_indices.csv:6", "bad_row"),
    ]


def test_audioset_strong_classes_and_events(place):
    header = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    place.text("audioset_strong/mid_to_display_name.tsv", "/m/1\tBark\n/m/1\tBark\n/m/1\tMeow\n")
    event = f"{CLIP}_30000\t0.5\t2.25\t/m/1\n"
    place.text("audioset_strong/audioset_train_strong.tsv", header + event + event.replace("2.25", "3.5") + event)
    place.text("audioset_strong/audioset_eval_strong.tsv", header)
    place.audio(f"audioset_strong/{CLIP}.wav")
    place.prepare("audioset_strong")
    (cut,) = place.cuts("audioset_strong_train").values()
    events = cut["supervisions"][0]["custom"]["events"]
    assert [(event["label"], event["offset"]) for event in events] == [("Bark", 2.25), ("Bark", 3.5)]
    assert (place.manifests / "audioset_strong_classes.txt").read_text() == "Bark\n"
    assert repeated(place, "audioset_strong") == [
        ("mid_to_display_name.tsv:2", "duplicate"),
        ("mid_to_display_name.tsv:3", "contradiction"),
        ("audioset_train_strong.tsv:4", "duplicate"),
    ]


def test_fsd50k_classes(place):
    folder = "fsd50k/FSD50K.ground_truth"
    place.text(f"{folder}/vocabulary.csv", "0,Bell,/m/0395lw\n0,Bell,/m/0395lw\n1,Bell,/m/0395lx\n")
    place.text(f"{folder}/dev.csv", "fname,labels,mids,split\n64760,Bell,/m/0395lw,train\n")
    place.text(f"{folder}/eval.csv", "fname,labels,mids\n")
    place.audio("fsd50k/FSD50K.dev_audio/64760.wav")
    place.prepare("fsd50k")
    assert labels(place.cuts("fsd50k_train")["fs:64760"]) == ["Bell"]
    assert (place.manifests / "fsd50k_classes.txt").read_text() == "Bell\n"
    assert repeated(place, "fsd50k") == [("vocabulary.csv:2", "duplicate"), ("vocabulary.csv:3", "contradiction")]


def test_cremad_actors(place):
    place.text("cremad/SentenceFilenames.csv", "Stimulus_Number,Filename\n1,1001_DFA_ANG_XX\n")
    rows = ("1001,51,Male", "1001,51,Male", "1001,31,Male", "1001,51,Female")
    place.text("cremad/VideoDemographics.csv", "ActorID,Age,Sex\n" + "\n".join(rows) + "\n")
    place.audio("cremad/AudioWAV/1001_DFA_ANG_XX.wav")
    place.prepare("cremad")
    (cut,) = place.cuts("cremad_train").values()
    known = {"emotion": "angry", "gender": "male", "age": "fifties-sixties"}
    assert cut["supervisions"][0]["custom"]["attributes"] == known
    reasons = ("duplicate", "contradiction", "contradiction")
    assert repeated(place, "cremad") == [(f"VideoDemographics.csv:{n}", reason) for n, reason in enumerate(reasons, 3)]


def test_an_audiocaps_number_is_of_one_clip_and_of_a_held_out_one_first(place):
    lists = {
        "train": "7,clip_train1,0,A dog.\n8,clip_train2,0,A cat.\n8,clip_train3,0,A hen.\n9,clip_train4,0,A cow.\n",
        "val": ",clip_valid1,0,A pig.\n",
        "test": "7,clip_test01,0,A fox.\n",
    }
    for name, rows in lists.items():
        place.text(f"audiocaps/{name}.csv", AUDIOCAPS + rows)
    place.audio(*(f"audiocaps/clip_{name}.wav" for name in ("train1", "train2", "train3", "train4", "test01")))
    place.prepare("audiocaps")
    train = {key: captions(cut) for key, cut in place.cuts("audiocaps_train").items()}
    assert train == {"yt:clip_train2:0": ["A cat."], "yt:clip_train4:0": ["A cow."]}
    assert list(place.cuts("audiocaps_test")) == ["yt:clip_test01:0"]
    assert repeated(place, "audiocaps") == [
        ("val.csv:2", "bad_row"),
        ("train.csv:2", "contradiction"),
        ("train.csv:4", "contradiction"),
    ]
    assert listed_keys(place.manifests, "audiocaps", "valid") == {"yt:clip_valid1:0"}


def test_of_two_esc50_rows_that_name_one_file_the_first_counts_and_both_are_known(place):
    rows = (
        "1-900-A-0.wav,1,0,dog,True,900,A",
        "1-137-A-32.wav,1,32,rain,False,137,A",
        "1-900-A-0.wav,1,0,cat,True,55,A",
    )
    place.text("esc50/meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take\n" + "\n".join(rows) + "\n")
    place.audio("esc50/audio/1-900-A-0.wav", "esc50/audio/1-137-A-32.wav")
    place.prepare("esc50")
    test = place.cuts("esc50_test")
    assert sorted(test) == ["fs:137/A", "fs:900/A"] and source(test["fs:900/A"]) == "audio/1-900-A-0.wav"
    assert repeated(place, "esc50") == [("esc50.csv:4", "contradiction")]
    assert listed_keys(place.manifests, "esc50", "test") == {"fs:137/A", "fs:900/A", "fs:55/A"}
