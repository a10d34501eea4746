# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a list is one counted line with file and row, and what is good stays: times, lists, duplicates."""

import json

import pytest

from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import Workplace

AUDIOCAPS = "audiocap_id,youtube_id,start_time,caption\n"
MUSICCAPS = (
    "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval\n"
)
STRONG = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
METADATA = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
CLOTHO = "file_name," + ",".join(f"caption_{number}" for number in range(1, 6)) + "\n"


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)


def lines(place, corpus, *kinds):
    """Place and reason of what was left out, without clips that are not on disk."""
    kinds = kinds or ("bad_row", "bad_list", "duplicate", "contradiction")
    return [(e["where"], e["reason"]) for e in place.skipped(corpus) if e["reason"] in kinds]


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


# ---- times ----------------------------------------------------------------------------------------------------------


def test_musiccaps_clips_have_an_end_after_their_start_and_within_ten_seconds(place):
    rows = [
        'goodClip000,30,40,"/m/1","[]",A waltz.,4,False,False\n',
        *(
            f'evalClip00{n},30,{end},"/m/1","[]",A polka.,4,False,True\n'
            for n, end in enumerate((20, "nan", "inf", 600))
        ),
    ]
    place.text("musiccaps/musiccaps-public.csv", MUSICCAPS + "".join(rows))
    place.audio("musiccaps/goodClip000.wav")
    place.prepare("musiccaps")
    assert list(place.cuts("musiccaps_train")) == ["yt:goodClip000:30000"]
    assert lines(place, "musiccaps") == [(f"musiccaps-public.csv:{line}", "bad_row") for line in (3, 4, 5, 6)]
    assert listed_keys(place.manifests, "musiccaps", "test") == {f"yt:evalClip00{n}:30000" for n in range(4)}


def test_audioset_segments_have_an_end_after_their_start_and_within_ten_seconds(place):
    place.text("audioset/class_labels_indices.csv", "index,mid,display_name\n0,/m/1,Speech\n")
    rows = [f'{name}, 30.000, {end}, "/m/1"\n' for name, end in
            (("goodClip000", 37), ("reversed000", 20), ("noNumber000", "nan"), ("endless0000", "inf"), ("tooLong0000", 41))]  # fmt: skip
    place.text("audioset/balanced_train_segments.csv", "".join(rows))
    place.text("audioset/eval_segments.csv", rows[1])
    place.audio("audioset/goodClip000.wav")
    place.prepare("audioset")
    assert list(place.cuts("audioset_train")) == ["yt:goodClip000:30000"]
    bad = [*(f"balanced_train_segments.csv:{line}" for line in (2, 3, 4, 5)), "eval_segments.csv:1"]
    assert lines(place, "audioset") == [(where, "bad_row") for where in bad]


@pytest.mark.parametrize("duration", ["NaN", "-3", "0", "Infinity", "1e999", "1" + "0" * 400, '"long"'])
def test_a_paraspeechcaps_row_whose_duration_is_none_is_bad(place, duration):
    row = '{"source": "ears", "relative_audio_path": "p001/%s.wav", "text_description": ["Calm."], "duration": %s}\n'
    place.text("paraspeechcaps/train_base.jsonl", row % ("a", "3.5") + row % ("b", duration))
    place.audio("paraspeechcaps/p001/a.wav", "paraspeechcaps/p001/b.wav")
    place.prepare("paraspeechcaps")
    assert list(place.cuts("paraspeechcaps_train")) == ["ears:p001/a"]
    assert lines(place, "paraspeechcaps") == [("train_base.jsonl:2", "bad_row")]


def test_fusionaudio_ids_name_an_end_after_their_start_and_within_ten_seconds(place):
    names = ("goodClip000_30_40", "reversed000_40_30", "tooLong0000_0_600", "nothing0000_5_5")
    place.text("fusionaudio/captions.jsonl", jsonl(*({"audio_id": name, "output": "Rain."} for name in names)))
    place.audio("fusionaudio/goodClip000.wav")
    place.prepare("fusionaudio")
    assert list(place.cuts("fusionaudio_train")) == ["yt:goodClip000:30000"]
    assert lines(place, "fusionaudio") == [(f"captions.jsonl:{line}", "bad_row") for line in (2, 3, 4)]


def test_a_clotho_crop_that_is_none_is_a_bad_row_and_the_sound_stays_known(place):
    crops = {"a": '"[44100, 88200]"', "b": '"[10, 5]"', "c": "all", "d": ""}
    rows = (f"{name}.wav,word,{number},link,{crop},me,cc0\n" for number, (name, crop) in enumerate(crops.items()))
    for folder in ("development", "validation", "evaluation"):
        place.text(f"clotho/clotho_metadata_{folder}.csv", METADATA)
        place.text(f"clotho/clotho_captions_{folder}.csv", CLOTHO)
    place.text("clotho/clotho_metadata_development.csv", METADATA + "".join(rows))
    place.text("clotho/clotho_captions_development.csv", CLOTHO + "".join(f"{name}.wav,1,2,3,4,5\n" for name in crops))
    place.audio(*(f"clotho/development/{name}.wav" for name in crops))
    place.prepare("clotho")
    assert sorted(place.cuts("clotho_train")) == ["fs:0:1000-2000", "fs:1", "fs:2", "fs:3"]
    assert lines(place, "clotho") == [(f"clotho_metadata_development.csv:{line}", "bad_row") for line in (3, 4)]


def test_audioset_strong_events_outside_their_clip_are_bad_rows(place):
    place.text("audioset_strong/mid_to_display_name.tsv", "/m/1\tBark\n")
    times = ("9.5\t10.010", "50\t99", "10\t10.5", "nan\t3", "1\t1e999")
    rows = "".join(f"b0RFKhbpFJA_30000\t{time}\t/m/1\n" for time in times)
    place.text("audioset_strong/audioset_train_strong.tsv", STRONG + rows)
    place.text("audioset_strong/audioset_eval_strong.tsv", STRONG)
    place.audio("audioset_strong/Yb0RFKhbpFJA.wav", seconds=10)
    place.prepare("audioset_strong")
    (cut,) = place.cuts("audioset_strong_train").values()
    assert [event["onset"] for event in cut["supervisions"][0]["custom"]["events"]] == [9.5]
    bad = [(f"audioset_train_strong.tsv:{line}", "bad_row") for line in (3, 4, 5, 6)]
    assert lines(place, "audioset_strong") == bad
