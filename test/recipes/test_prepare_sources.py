# SPDX-License-Identifier: Apache-2.0
"""Further caption sources in their published format, small and salted.

Ids, times and layouts are the publishers'; the captions are ours. Audio is silence.
"""

import json

import pytest

from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import CORPORA, Workplace, captions, reasons, run, source

SEGMENTS = """# Segments csv created
# num_ytids=4
# YTID, start_seconds, end_seconds, positive_labels
---1_cCGK4M, 20.000, 30.000, "/m/09x0r"
_7Xe9vD3Hpg, 40.000, 50.000, "/m/09x0r"
Y8fWo-9_aBc, 30.000, 40.000, "/m/068hy"
noCaption00, 0.000, 10.000, "/m/068hy"
"""


def jsonl(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def causes(place, corpus):
    return {entry.get("where") or entry["key"]: entry["cause"] for entry in place.skipped(corpus)}


@pytest.fixture
def place(tmp_path):
    place = Workplace(tmp_path)
    place.text("audioset/unbalanced_train_segments.csv", SEGMENTS)
    return place


# ---- MusicCaps ------------------------------------------------------------------------------------------------------


@pytest.fixture
def musiccaps(place):
    labels = "\"/m/0140xf,/m/02cjck\",\"['slow', 'violin, solo']\""
    place.text(
        "musiccaps/musiccaps-public.csv",
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval\n"
        f'-0SdAVK79lg,30,40,{labels},"A guitar walks down, then up again.",0,False,False\n'
        f"_-kssA-FOzU,60,70,{labels},Bells in a hall.,0,False,False\n"
        f'-0Gj8-vB1q4,30,40,{labels},"A slow song\n\nwith ""warm"" strings.",4,True,True\n'
        f"notOnDisk00,10,20,{labels},Nobody has this dance.,4,False,True\n"
        f'emptyEval00,10,20,{labels}," ",4,False,True\n'
        f"oddFlag0000,10,20,{labels},A march.,4,False,yes\n"
        f"short,10,20,{labels},A waltz.,4,False,True\n"
        f"lostColumn0,10,20,{labels},A polka.\n"
        f'openQuote00,10,20,{labels},"A jig without an end,4,False,False\n'
        f"-0SdAVK79lg,30,40,{labels},The same tune once more.,1,False,False\n",
    )
    place.audio("musiccaps/train/-0SdAVK79lg.wav", "musiccaps/train/Y_-kssA-FOzU_60_70.wav")
    place.audio("musiccaps/eval/-0Gj8-vB1q4_30.wav", "musiccaps/eval/oddFlag0000.wav", "musiccaps/emptyEval00.wav")
    place.prepare("musiccaps")
    return place


def test_musiccaps_tests_on_the_clips_of_audiosets_evaluation_and_trains_on_the_rest(musiccaps):
    train = musiccaps.cuts("musiccaps_train")
    assert {key: source(cut) for key, cut in train.items()} == {
        "yt:-0SdAVK79lg:30000": "train/-0SdAVK79lg.wav",
        "yt:_-kssA-FOzU:60000": "train/Y_-kssA-FOzU_60_70.wav",
    }
    assert captions(train["yt:-0SdAVK79lg:30000"]) == ["A guitar walks down, then up again."]
    (test,) = musiccaps.cuts("musiccaps_test").values()
    assert test["id"] == "yt:-0Gj8-vB1q4:30000" and captions(test) == ['A slow song with "warm" strings.']
    assert test["supervisions"][0]["custom"]["domain"] == "music"
    assert reasons(musiccaps.skipped("musiccaps")) == [
        *(("bad_row", f"musiccaps-public.csv:{line}") for line in (10, 11, 12, 8, 9)),
        ("contradiction", "musiccaps-public.csv:13"),
        ("missing", "yt:notOnDisk00:10000"),
    ]
    assert "'yes' is neither True nor False" in causes(musiccaps, "musiccaps")["musiccaps-public.csv:9"]


def test_musiccaps_test_clips_without_use_or_of_unknown_split_are_kept_out_of_the_sources(musiccaps):
    assert listed_keys(musiccaps.manifests, "musiccaps", "test") == {
        "yt:-0Gj8-vB1q4:30000", "yt:notOnDisk00:10000", "yt:emptyEval00:10000", "yt:oddFlag0000:10000",
        "yt:lostColumn0:as", "yt:openQuote00:as",
    }  # fmt: skip


# ---- AudioCaps ------------------------------------------------------------------------------------------------------


def test_audiocaps_has_lists_of_two_versions(place):
    header = "audiocap_id,youtube_id,start_time,caption\n"
    for folder, caption in (("dataset", "A dog."), ("dataset2.0", "A large dog.")):
        place.text(f"audiocaps/{folder}/train.csv", f"{header}91139,r1nicOVtvkQ,130,{caption}\n")
        for name in ("val", "test"):
            place.text(f"audiocaps/{folder}/{name}.csv", f"{header}97151,vfY_TJq7n_U,130,{caption}\n")
    place.audio("audiocaps/wav/Yr1nicOVtvkQ.wav")
    for version, caption in (("1", "A dog."), ("2", "A large dog.")):
        place.prepare("audiocaps", "--list-version", version)
        (cut,) = place.cuts("audiocaps_train").values()
        assert captions(cut) == [caption]


# ---- AudioSetCaps ---------------------------------------------------------------------------------------------------


def audiosetcaps(place, folder="audiosetcaps/Dataset"):
    place.text(
        f"{folder}/AudioSetCaps_caption.csv",
        "id,caption\nY---1_cCGK4M,A man talks.\nY_7Xe9vD3Hpg,\nYY8fWo-9_aBc,A cat purrs.\nY-inNoList0_,Waves.\n"
        "YnotOnDisk00,Hail.\nY---1_cCGK4M_20,A man with a time.\nYbad,Mud.\n",
    )
    place.text(
        f"{folder}/VGGSound_AudioSetCaps_caption.csv",
        'id,caption\nOxPnZzn1_L8_000883,"A horn, then cheers."\nOxPnZzn1_L8_000900,Only cheers.\n'
        "Y8fWo-9_aBc_000030,A small cat is content.\nY8fWo-9_aBc,No time.\n",
    )
    place.text(
        f"{folder}/YouTube-8M_AudioSetCaps_caption.csv",
        "id,caption\n9eUrEyAR3xk_84_10,An engine idles.\n_7Xe9vD3Hpg_4_10,Guests clap.\n-TL8Mp3xcUM_0_10,A drum solo.\n"
        "-TL8Mp3xcUM_10_30,A long solo.\n-TL8Mp3xcUM_40_4,A short solo.\n",
    )
    place.audio("audiosetcaps/as/Y---1_cCGK4M.wav", "audiosetcaps/as/Y8fWo-9_aBc_30_40.wav")
    place.audio("audiosetcaps/as/-inNoList0_.wav", "audiosetcaps/as/Y_7Xe9vD3Hpg.wav")
    place.audio("audiosetcaps/vgg/OxPnZzn1_L8_000883.wav", "audiosetcaps/vgg/OxPnZzn1_L8_000900.wav")
    place.audio("audiosetcaps/yt8m/9eUrEyAR3xk_84_10.wav", "audiosetcaps/yt8m/_7Xe9vD3Hpg_4_10.wav")
    place.audio("audiosetcaps/yt8m/-TL8Mp3xcUM_0_10.wav", "audiosetcaps/yt8m/-TL8Mp3xcUM_40_4.wav")


def test_audiosetcaps_reads_three_kinds_of_ids_and_joins_equal_clips(place):
    audiosetcaps(place)
    place.prepare("audiosetcaps", "--audioset-dir", place.corpora / "audioset")
    train = place.cuts("audiosetcaps_train")
    assert {key: source(cut) for key, cut in train.items()} == {
        "yt:---1_cCGK4M:20000": "as/Y---1_cCGK4M.wav",
        "yt:Y8fWo-9_aBc:30000": "as/Y8fWo-9_aBc_30_40.wav",
        "yt:-inNoList0_:as": "as/-inNoList0_.wav",
        "yt:OxPnZzn1_L8:883000": "vgg/OxPnZzn1_L8_000883.wav",
        "yt:OxPnZzn1_L8:900000": "vgg/OxPnZzn1_L8_000900.wav",
        "yt:9eUrEyAR3xk:84000": "yt8m/9eUrEyAR3xk_84_10.wav",
        "yt:_7Xe9vD3Hpg:4000": "yt8m/_7Xe9vD3Hpg_4_10.wav",
        "yt:-TL8Mp3xcUM:0": "yt8m/-TL8Mp3xcUM_0_10.wav",
        "yt:-TL8Mp3xcUM:40000": "yt8m/-TL8Mp3xcUM_40_4.wav",
    }
    assert captions(train["yt:Y8fWo-9_aBc:30000"]) == ["A cat purrs.", "A small cat is content."]
    assert captions(train["yt:OxPnZzn1_L8:883000"]) == ["A horn, then cheers."]
    assert reasons(place.skipped("audiosetcaps")) == [
        *(("bad_row", f"AudioSetCaps_caption.csv:{line}") for line in (3, 7, 8)),
        ("bad_row", "VGGSound_AudioSetCaps_caption.csv:5"),
        ("bad_row", "YouTube-8M_AudioSetCaps_caption.csv:5"),
        ("missing", "yt:notOnDisk00:as"),
        ("no_list", "balanced_train_segments.csv"),
        ("no_list", "eval_segments.csv"),
    ]
    cause = causes(place, "audiosetcaps")
    assert cause["AudioSetCaps_caption.csv:3"] == "empty caption"
    assert "is not of the form Y<id>" in cause["AudioSetCaps_caption.csv:7"]
    assert "30 s long" in cause["YouTube-8M_AudioSetCaps_caption.csv:5"]


def test_audiosetcaps_without_segment_lists_says_so_in_the_keys(place):
    audiosetcaps(place, folder="audiosetcaps")
    (place.corpora / "audiosetcaps/VGGSound_AudioSetCaps_caption.csv").unlink()
    place.prepare("audiosetcaps")
    train = place.cuts("audiosetcaps_train")
    assert {key for key in train if key.endswith(":as")} == {"yt:---1_cCGK4M:as", "yt:-inNoList0_:as"}
    assert ("no_list", "VGGSound_AudioSetCaps_caption.csv") in reasons(place.skipped("audiosetcaps"))
    # its file is named by a time, which only the segment lists can tell to be AudioSet's
    assert ("missing", "yt:Y8fWo-9_aBc:as") in reasons(place.skipped("audiosetcaps"))


# ---- FusionAudio ----------------------------------------------------------------------------------------------------


def fusion_row(name, caption, task="Audio captioning", column="audio_id"):
    row = {column: name, "instruction": "Describe it.", "input": "", "dataset": "FusionAudio"}
    return {**row, "task": task, "output": caption}


@pytest.fixture
def fusionaudio(place):
    place.audio(
        "fusionaudio/wav/---2_BBVHAA.wav", "fusionaudio/wav/Y_7Xe9vD3Hpg.wav", "fusionaudio/wav/Y8fWo-9_aBc.wav"
    )
    place.audio("fusionaudio/wav/--unlisted_.wav")
    return place


def test_fusionaudio_takes_captions_and_counts_the_rows_of_other_tasks(fusionaudio):
    question = "Open-ended question"
    untold = fusion_row("Y8fWo-9_aBc", "A cat, close by.")
    del untold["task"]
    fusionaudio.text(
        "fusionaudio/captions.jsonl",
        jsonl(
            fusion_row("---2_BBVHAA_30_40", "Rain on a roof."),
            fusion_row("/somewhere/audio/Y_7Xe9vD3Hpg.wav", "Applause."),
            untold,
            fusion_row("--unlisted_.flac", "A hum."),
            fusion_row("---2_BBVHAA_30.000_40.000.wav", "Heavy rain."),
            fusion_row("YnotOnDisk00_0", "Fog."),
            fusion_row("audio_0.wav", "No video."),
            fusion_row("Y8fWo-9_aBc", " "),
            "{",
            fusion_row("Y8fWo-9_aBc", "Yes.", question),
            fusion_row("audio_1.wav", "No.", question),
        ),
    )
    fusionaudio.text("fusionaudio/more.json", json.dumps([fusion_row("Y_7Xe9vD3Hpg", "A crowd claps."), 3]))
    fusionaudio.text("fusionaudio/about.json", '{"version": 1}')
    fusionaudio.prepare("fusionaudio", "--audioset-dir", fusionaudio.corpora / "audioset")
    assert {key: captions(cut) for key, cut in fusionaudio.cuts("fusionaudio_train").items()} == {
        "yt:---2_BBVHAA:30000": ["Rain on a roof."],
        "yt:_7Xe9vD3Hpg:40000": ["Applause."],
        "yt:Y8fWo-9_aBc:30000": ["A cat, close by."],
        "yt:--unlisted_:as": ["A hum."],
    }
    assert reasons(fusionaudio.skipped("fusionaudio")) == [
        ("bad_list", "about.json"),
        *(("bad_row", f"captions.jsonl:{line}") for line in (7, 8, 9)),
        ("bad_row", "more.json: [1]"),
        ("contradiction", "captions.jsonl:5"),
        ("contradiction", "more.json: [0]"),
        ("missing", "yt:notOnDisk00:0"),
        ("no_list", "balanced_train_segments.csv"),
        ("no_list", "eval_segments.csv"),
        ("other_task", "captions.jsonl"),
    ]
    assert causes(fusionaudio, "fusionaudio")["captions.jsonl"] == "2 rows of the task 'Open-ended question'"


def test_fusionaudio_reads_ids_of_another_column_and_form(fusionaudio):
    row = fusion_row("AS/---2_BBVHAA@30", "Rain.", column="clip")
    fusionaudio.text("fusionaudio/captions.jsonl", jsonl(row, fusion_row("---2_BBVHAA", "Rain.")))
    fusionaudio.prepare("fusionaudio", "--id-column", "clip", "--id-pattern", "AS/(?P<id>.{11})@(?P<start>[0-9]+)")
    assert list(fusionaudio.cuts("fusionaudio_train")) == ["yt:---2_BBVHAA:30000"]
    assert causes(fusionaudio, "fusionaudio") == {"captions.jsonl:2": "clip is absent instead of a text"}
    fusionaudio.prepare("fusionaudio", "--id-column", "clip", "--id-pattern", "AS/(?P<id>.{11}).*")
    assert list(fusionaudio.cuts("fusionaudio_train")) == ["yt:---2_BBVHAA:as"]


# ---- JamendoMaxCaps -------------------------------------------------------------------------------------------------


def stretch(start, end, caption, track="1176956"):
    return {"start_time": start, "end_time": end, "caption": caption, "id": track}


@pytest.fixture
def jamendo(place):
    nan = '{"start_time": NaN, "end_time": 30.0, "caption": "No time at all.", "id": "1176956"}'
    longest = '{"start_time": 0.0, "end_time": 1' + "0" * 400 + ', "caption": "Ages.", "id": "1176956"}'
    endless = '{"start_time": 0.0, "end_time": 1e999, "caption": "No end.", "id": "1176956"}'
    place.text(
        "jamendomaxcaps/final_caption30sec.jsonl",
        jsonl(
            stretch(0.0, 30.0, "A piano alone."),
            stretch(30.0, 60.0, "Drums join."),
            stretch(60, 90, "It fades."),
            stretch(90.0, 120.0, "Past the end."),
            stretch(30.0, 60.0, "A band\nplays."),
            stretch(0.0, 30.0, "A harp.", "214"),
            stretch(0.0, 30.0, "Not on disk.", "999"),
            stretch(30.0, 60.0, "", "214"),
            stretch(60.0, 30.0, "Backwards.", "214"),
            stretch("0", "30", "Texts.", "214"),
            stretch(0.0, 30.0, "No track.", "-_abc"),
            nan,
            endless,
            longest,
            stretch(0.0, 1e306, "Milliseconds without end."),
            {"start_time": 0.0, "end_time": 30.0, "caption": "Nobody's."},
        ),
    )
    place.text("jamendomaxcaps/caption30sec.jsonl", jsonl(stretch(0.0, 30.0, "An earlier list.")))
    place.audio("jamendomaxcaps/mp3/1176956.wav", seconds=75.5)
    place.audio("jamendomaxcaps/mp3/track_0000214.wav", seconds=30)
    place.prepare("jamendomaxcaps")
    return place


def test_jamendo_clips_are_stretches_of_the_tracks_recording(jamendo):
    train = jamendo.cuts("jamendomaxcaps_train")
    assert {key: (source(cut), cut["start"], cut["duration"]) for key, cut in train.items()} == {
        "jam:1176956:0-30000": ("mp3/1176956.wav", 0.0, 30.0),
        "jam:1176956:30000-60000": ("mp3/1176956.wav", 30.0, 30.0),
        "jam:1176956:60000-90000": ("mp3/1176956.wav", 60.0, 15.5),
        "jam:214:0-30000": ("mp3/track_0000214.wav", 0.0, 30.0),
    }
    assert captions(train["jam:1176956:30000-60000"]) == ["Drums join.", "A band plays."]
    assert train["jam:1176956:30000-60000"]["recording"]["duration"] == 75.5
    report = json.loads((jamendo.manifests / "jamendomaxcaps_report.json").read_text())
    assert report["found"]["train"]["hours"] == pytest.approx(105.5 / 3600)


def test_jamendo_stretches_that_are_no_audio_are_listed(jamendo):
    assert reasons(jamendo.skipped("jamendomaxcaps")) == sorted([
        *(("bad_row", f"final_caption30sec.jsonl:{line}") for line in range(8, 17)),
        ("missing", "jam:999:0-30000"),
        ("unreadable", "jam:1176956:90000-120000"),
    ])  # fmt: skip
    cause = causes(jamendo, "jamendomaxcaps")
    assert cause["jam:1176956:90000-120000"] == "the clip begins at 90 s, the audio ends at 75.5 s"
    assert cause["final_caption30sec.jsonl:12"] == "start is nan instead of seconds"


def test_jamendo_reads_the_earlier_list_where_the_final_one_is_absent(jamendo):
    (jamendo.corpora / "jamendomaxcaps/final_caption30sec.jsonl").unlink()
    jamendo.prepare("jamendomaxcaps")
    (cut,) = jamendo.cuts("jamendomaxcaps_train").values()
    assert captions(cut) == ["An earlier list."]


# ---- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corpus", "options", "words"),
    [
        ("musiccaps", (), "musiccaps-public.csv: no such file"),
        ("audiosetcaps", (), "none of"),
        ("audiosetcaps", ("--audioset-dir", "absent"), "balanced_train_segments.csv"),
        ("fusionaudio", (), "no .json or .jsonl list"),
        ("fusionaudio", ("--id-pattern", "("), "no regular expression"),
        ("fusionaudio", ("--id-pattern", ".*"), "needs a group (?P<id>...)"),
        ("jamendomaxcaps", (), "neither final_caption30sec.jsonl nor caption30sec.jsonl"),
    ],
)
def test_a_missing_list_or_wrong_pattern_is_one_line(tmp_path, corpus, options, words):
    (tmp_path / "corpus").mkdir()
    folders = ("--corpus-dir", tmp_path / "corpus", "--manifests-dir", tmp_path / "manifests")
    result = run(f"prepare_{corpus}.py", *folders, "--corpora", CORPORA, *options)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and words in result.stderr
