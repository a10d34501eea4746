# SPDX-License-Identifier: Apache-2.0
"""AudioSet-strong in the published format, small and salted; ids, times and classes are the publishers'."""

import pytest

from icefall_alp.data.captions import SoundEvent, check_cut
from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import CORPORA, Workplace, labels, reasons, run, source

HEADER = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
NAMES = "/m/05tny_\tBark\n/m/07pbtc8\tWalk, footsteps\n/m/09x0r\tSpeech\n/m/0c1dj\tSound effect\n"
ROWS = {
    "train": (
        "b0RFKhbpFJA_30000\t0.000\t10.000\t/m/09x0r\nb0RFKhbpFJA_30000\t4.753\t5.720\t/m/05tny_\n"
        "b0RFKhbpFJA_30000\t1.235\t1.490\t/m/05tny_\n---1_cCGK4M_0\t0.110\t9.983\t/m/07pbtc8\n"
        "_gone_video_20000\t0.000\t1.000\t/m/09x0r\n"
        "short_30000\t0.000\t1.000\t/m/09x0r\nb0RFKhbpFJA\t0.000\t1.000\t/m/09x0r\n"
        "b0RFKhbpFJA_thirty\t0.000\t1.000\t/m/09x0r\n"
    ),
    "eval": (
        "s9d-2nhuJCQ_30000\t2.627\t7.237\t/m/09x0r\ns9d-2nhuJCQ_30000\t7.237\t2.627\t/m/09x0r\n"
        "s9d-2nhuJCQ_30000\tnan\t2.627\t/m/09x0r\ns9d-2nhuJCQ_30000\t0.000\t1.000\t/m/0nothing\n"
        "s9d-2nhuJCQ_30000\t-1.000\t1.000\t/m/09x0r\ns9d-2nhuJCQ_30000\t0.000\t\t/m/09x0r\n"
        "s9d-2nhuJCQ_30000\t0.000\t1.000\nYd10enP9ykM_21000\t0.000\t1.000\t/m/0nothing\n"
    ),
}


@pytest.fixture
def place(tmp_path):
    place = Workplace(tmp_path)
    place.text("audioset_strong/mid_to_display_name.tsv", NAMES)
    for part, rows in ROWS.items():
        place.text(f"audioset_strong/audioset_{part}_strong.tsv", HEADER + rows)
    place.audio("audioset_strong/audio/Yb0RFKhbpFJA.wav", "audioset_strong/audio/---1_cCGK4M_0_10.flac")
    place.audio("audioset_strong/eval/Ys9d-2nhuJCQ.wav", "audioset_strong/eval/YYd10enP9ykM.wav")
    place.prepare("audioset_strong")
    return place


def events(cut):
    return [(e["label"], e["onset"], e["offset"]) for e in cut["supervisions"][0]["custom"]["events"]]


def test_a_cut_has_its_events_in_order_and_each_label_once(place):
    train = place.cuts("audioset_strong_train")
    assert set(train) == {"yt:b0RFKhbpFJA:30000", "yt:---1_cCGK4M:0"}
    cut = train["yt:b0RFKhbpFJA:30000"]
    assert events(cut) == [("Speech", 0.0, 10.0), ("Bark", 1.235, 1.49), ("Bark", 4.753, 5.72)]
    assert labels(cut) == ["Speech", "Bark"] and source(cut) == "audio/Yb0RFKhbpFJA.wav" and not check_cut(cut)
    assert events(train["yt:---1_cCGK4M:0"]) == [("Walk, footsteps", 0.11, 9.983)]
    assert events(place.cuts("audioset_strong_test")["yt:s9d-2nhuJCQ:30000"]) == [("Speech", 2.627, 7.237)]
    names = (place.manifests / "audioset_strong_classes.txt").read_text().splitlines()
    assert names == ["Bark", "Walk, footsteps", "Speech", "Sound effect"]


def test_what_bounds_nothing_is_left_out_and_still_kept_out_of_the_sources(place):
    assert reasons(place.skipped("audioset_strong")) == [
        *(("bad_row", f"audioset_eval_strong.tsv:{number}") for number in range(3, 10)),
        *(("bad_row", f"audioset_train_strong.tsv:{number}") for number in range(7, 10)),
        ("missing", "yt:_gone_video:20000"),
    ]
    assert "yt:Yd10enP9ykM:21000" in listed_keys(place.manifests, "audioset_strong", "test")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("mid_to_display_name.tsv", None, "mid_to_display_name.tsv: no such file"),
        ("audioset_eval_strong.tsv", None, "audioset_eval_strong.tsv: no such file"),
        ("audioset_eval_strong.tsv", HEADER.replace("\t", ","), "no column segment_id"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_line(place, name, text, words):
    path = place.corpora / "audioset_strong" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    folder = place.corpora / "audioset_strong"
    options = ("--corpus-dir", folder, "--manifests-dir", place.manifests, "--corpora", CORPORA)
    result = run("prepare_audioset_strong.py", *options)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and words in result.stderr


@pytest.mark.parametrize("times", [(1.0, 1.0), (2.0, 1.0), (-0.1, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_an_event_needs_two_times(times):
    with pytest.raises(ValueError, match="bounds no event"):
        SoundEvent("Bark", *times)


def test_a_cut_whose_events_lack_a_label_is_not_well_formed(place):
    cut = place.cuts("audioset_strong_train")["yt:b0RFKhbpFJA:30000"]
    cut["supervisions"][0]["custom"]["labels"] = ["Speech"]
    assert check_cut(cut) == "an event without label or length"
