# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a list is one counted line with file and row, and what is good stays: times, lists, duplicates."""

import json

import pytest

from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import CORPORA, Workplace, captions, labels, run, source

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
    ends = {"goodClip000": 37, "reversed000": 20, "noNumber000": "nan", "endless0000": "inf", "tooLong0000": 41}
    rows = [f'{name}, 30.000, {end}, "/m/1"\n' for name, end in ends.items()]
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
    times = ("9.5\t10.010", "50\t99", "10\t10.5", "nan\t3", "1\t1e999", "1\t14", "9\t10.2")
    rows = "".join(f"b0RFKhbpFJA_30000\t{time}\t/m/1\n" for time in times)
    place.text("audioset_strong/audioset_train_strong.tsv", STRONG + rows)
    place.text("audioset_strong/audioset_eval_strong.tsv", STRONG)
    place.audio("audioset_strong/Yb0RFKhbpFJA.wav", seconds=10)
    place.prepare("audioset_strong")
    (cut,) = place.cuts("audioset_strong_train").values()
    events = cut["supervisions"][0]["custom"]["events"]
    assert [(event["onset"], event["offset"]) for event in events] == [(9.5, 10.0)]
    bad = [(f"audioset_train_strong.tsv:{line}", "bad_row") for line in range(3, 9)]
    assert lines(place, "audioset_strong") == bad


# ---- lists ----------------------------------------------------------------------------------------------------------


def prepare(place, corpus):
    """The run, which may fail."""
    options = ("--corpus-dir", place.corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CORPORA)
    result = run(f"prepare_{corpus}.py", *options)
    assert len(result.stderr.splitlines()) == result.returncode
    return result


def wavcaps_list(place, part, short, *rows):
    content = json.dumps({"num_captions_per_audio": 1, "data": rows}, ensure_ascii=False)
    place.text(f"wavcaps/json_files/{part}/{short}_final.json", content.encode("latin-1"))


def test_a_byte_that_is_not_utf_8_in_one_wavcaps_caption_costs_that_row(place):
    rows = [{"id": f"{n}", "caption": text} for n, text in enumerate(("Rain.", "A caf\u00e9.", "Hail."))]
    wavcaps_list(place, "SoundBible", "sb", *rows)
    wavcaps_list(place, "FreeSound", "fsd", {"id": "7", "caption": "Snow."})
    place.audio("wavcaps/SoundBible/0.wav", "wavcaps/SoundBible/2.wav", "wavcaps/FreeSound/7.wav")
    place.prepare("wavcaps")
    assert sorted(place.cuts("wavcaps_train")) == ["fs:7", "sb:0", "sb:2"]
    assert lines(place, "wavcaps") == [("sb_final.json: data[1]", "bad_row")]


def test_a_wavcaps_part_that_is_no_list_costs_that_part(place):
    place.text("wavcaps/json_files/FreeSound/fsd_final.json", '{"data": [{"id"')
    wavcaps_list(place, "SoundBible", "sb", {"id": "1", "caption": "Rain."})
    place.audio("wavcaps/SoundBible/1.wav")
    place.prepare("wavcaps")
    assert list(place.cuts("wavcaps_train")) == ["sb:1"]
    assert lines(place, "wavcaps") == [("fsd_final.json", "bad_list")]


def test_fusionaudio_keeps_the_rows_before_the_end_of_a_truncated_list(place):
    rows = [{"audio_id": f"clip000000{n}_0_10", "output": f"Rain {n}."} for n in range(3)]
    place.text("fusionaudio/captions.json", json.dumps(rows)[:-20])
    place.audio(*(f"fusionaudio/clip000000{n}.wav" for n in range(3)))
    place.prepare("fusionaudio")
    assert list(place.cuts("fusionaudio_train")) == ["yt:clip0000000:0", "yt:clip0000001:0"]
    assert lines(place, "fusionaudio") == [("captions.json: [2]", "bad_row")]


def nsynth(place, **texts):
    for split in ("train", "valid", "test"):
        row = json.dumps({f"bass_{split}": {"instrument_family_str": "bass"}})
        place.text(f"nsynth/nsynth-{split}/examples.json", texts.get(split, row))
        place.audio(*(f"nsynth/nsynth-{split}/audio/{name}_{split}.wav" for name in ("bass", "reed")))


def test_a_truncated_nsynth_list_of_evaluated_notes_costs_no_other_split(place):
    row = '{"instrument_family_str": "bass"}'
    nsynth(place, valid=f'{{"bass_valid": {row}, "reed_valid": {row[:-9]}')
    result = prepare(place, "nsynth")
    assert result.returncode == 1 and "nsynth-valid/examples.json: [1]: the list ends too early" in result.stderr
    for split in ("train", "valid", "test"):
        assert list(place.cuts(f"nsynth_{split}")) == [f"nsynth:bass_{split}"]
    assert lines(place, "nsynth") == [("nsynth-valid/examples.json: [1]", "bad_row")]


def test_a_truncated_nsynth_list_of_training_notes_is_one_line(place):
    nsynth(place, train='{"bass_train": {"instrument_family_str": "bass"}, "reed_train": {"instr')
    place.prepare("nsynth")
    assert list(place.cuts("nsynth_train")) == ["nsynth:bass_train"] and len(place.cuts("nsynth_test")) == 1


def test_an_nsynth_note_that_is_there_twice_is_a_duplicate_or_a_contradiction(place):
    families = [("bass_train", "bass"), ("reed_train", "reed"), ("bass_train", "bass"), ("reed_train", "organ")]
    members = (f'"{note}": {{"instrument_family_str": "{family}"}}' for note, family in families)
    nsynth(place, train=f"{{{', '.join(members)}}}")
    place.prepare("nsynth")
    train = place.cuts("nsynth_train")
    assert {key: labels(cut) for key, cut in train.items()} == {
        "nsynth:bass_train": ["bass"],
        "nsynth:reed_train": ["reed"],
    }
    assert lines(place, "nsynth") == [
        ("nsynth-train/examples.json: bass_train", "duplicate"),
        ("nsynth-train/examples.json: reed_train", "contradiction"),
    ]


def audiocaps(place, **lists):
    for name in ("train", "val", "test"):
        place.text(f"audiocaps/{name}.csv", lists.get(name, f"{AUDIOCAPS}1{name},{name:_<11},0,A {name} dog.\n"))
    place.audio(*(f"audiocaps/{name:_<11}.wav" for name in ("train", "val", "test", "other")))


def test_a_training_list_with_another_delimiter_costs_no_other_list(place):
    audiocaps(place, train=AUDIOCAPS.replace(",", ";") + "1;train______;0;A dog.\n")
    place.prepare("audiocaps")
    assert lines(place, "audiocaps") == [("train.csv", "bad_list")]
    assert len(place.cuts("audiocaps_valid")) == len(place.cuts("audiocaps_test")) == 1
    assert json.loads((place.manifests / "audiocaps_report.json").read_text())["bad_list"] == 1


@pytest.mark.parametrize(("name", "split"), [("val", "valid"), ("test", "test")])
def test_an_evaluated_list_with_another_delimiter_costs_no_other_list_and_is_an_error(place, name, split):
    audiocaps(place, **{name: AUDIOCAPS.replace(",", ";") + "1;train______;0;A dog.\n"})
    result = prepare(place, "audiocaps")
    assert result.returncode == 1 and f"{name}.csv:1: no column audiocap_id" in result.stderr
    assert "evaluated clips, which the sources would keep" in result.stderr
    assert lines(place, "audiocaps") == [(f"{name}.csv", "bad_list")]
    assert {s: len(place.cuts(f"audiocaps_{s}")) for s in ("train", "valid", "test")} == {
        **dict.fromkeys(("train", "valid", "test"), 1),
        split: 0,
    }


def test_audiosets_evaluation_list_with_another_delimiter_is_an_error(place):
    place.text("audioset/class_labels_indices.csv", "index,mid,display_name\n0,/m/1,Speech\n")
    place.text("audioset/balanced_train_segments.csv", 'goodClip000, 30.000, 40.000, "/m/1"\n')
    place.text("audioset/eval_segments.csv", 'evalClip000;30.000;40.000;"/m/1"\n')
    place.audio("audioset/goodClip000.wav")
    result = prepare(place, "audioset")
    assert result.returncode == 1 and "eval_segments.csv: none of the rows has the 4 columns" in result.stderr
    assert list(place.cuts("audioset_train")) == ["yt:goodClip000:30000"]


def clotho(place, captions_text, metadata=METADATA, encoding="utf-8"):
    for folder in ("development", "validation", "evaluation"):
        place.text(f"clotho/clotho_metadata_{folder}.csv", METADATA)
        place.text(f"clotho/clotho_captions_{folder}.csv", CLOTHO)
    place.text("clotho/clotho_metadata_development.csv", metadata, encoding)
    place.text("clotho/clotho_captions_development.csv", CLOTHO + captions_text, encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
def test_clotho_is_read_in_latin_1_and_where_it_was_saved_again_in_utf_8(place, encoding):
    metadata = f"{METADATA}Caf\u00e9.wav,\u00e9,101,link,,me,cc0\n"
    clotho(place, "Caf\u00e9.wav,Caf\u00e9 noise,b,c,d,e\n", metadata, encoding)
    place.audio("clotho/development/Caf\u00e9.wav")
    place.prepare("clotho")
    (cut,) = place.cuts("clotho_train").values()
    assert cut["id"] == "fs:101" and captions(cut)[0] == "Caf\u00e9 noise" and not lines(place, "clotho")


def test_clotho_clips_whose_freesound_ids_cannot_be_read_are_left_out(place):
    clotho(place, "a.wav,a,b,c,d,e\n", METADATA.replace(",", ";"))
    place.text("clotho/clotho_captions_validation.csv", f"{CLOTHO}b.wav,a,b,c,d,e\n")
    place.audio("clotho/development/a.wav", "clotho/validation/b.wav")
    place.prepare("clotho")
    assert not place.cuts("clotho_train") and list(place.cuts("clotho_valid")) == ["clotho:valid/b.wav"]
    assert lines(place, "clotho") == [("development", "bad_list")]


# ---- rows that repeat or contradict each other ----------------------------------------------------------------------


def test_an_audiocaps_row_counts_once_and_equal_captions_of_two_rows_both(place):
    rows = "".join(f"{number},test_______,0,{text}\n" for number, text in (
        (11, "A dog."), (12, "A dog."), (13, "A cat."), (12, "A dog."), (13, "A bird."), (11, "A dog."),
    ))  # fmt: skip
    audiocaps(place, test=AUDIOCAPS + rows)
    place.prepare("audiocaps")
    (cut,) = place.cuts("audiocaps_test").values()
    assert captions(cut) == ["A dog.", "A dog.", "A cat."]
    assert lines(place, "audiocaps") == [("test.csv:5", "duplicate"), ("test.csv:6", "contradiction"),
                                         ("test.csv:7", "duplicate")]  # fmt: skip
    report = json.loads((place.manifests / "audiocaps_report.json").read_text())
    assert (report["duplicate"], report["contradiction"]) == (2, 1)


def test_of_two_clips_of_one_video_that_have_one_file_the_first_row_counts(place):
    audiocaps(place, train=f"{AUDIOCAPS}1,other______,40,A dog.\n2,other______,30,A cat.\n")
    place.prepare("audiocaps")
    (cut,) = place.cuts("audiocaps_train").values()
    assert cut["id"] == "yt:other______:40000" and captions(cut) == ["A dog."]
    assert lines(place, "audiocaps") == [("train.csv:3", "contradiction")]


@pytest.mark.parametrize(
    ("of_30", "of_40", "other"),
    [("_30", "_40_50", "_7"), ("", "_40", "_7"), ("_30_40", "_40.0", ""), ("_30", "", "_5")],
)
def test_of_several_files_of_a_video_a_clip_has_the_one_that_names_its_start(place, of_30, of_40, other):
    audiocaps(place, train=f"{AUDIOCAPS}1,other______,30,A dog.\n2,other______,40,A cat.\n")
    (place.corpora / "audiocaps/other______.wav").unlink()
    place.audio(*(f"audiocaps/other______{times}.wav" for times in (of_30, of_40, other)))
    place.prepare("audiocaps")
    files = [source(cut) for cut in place.cuts("audiocaps_train").values()]
    assert files == [f"other______{of_30}.wav", f"other______{of_40}.wav"] and not lines(place, "audiocaps")


def test_musiccaps_has_one_caption_for_a_clip(place):
    rows = [f'goodClip000,30,40,"/m/1","[]",{text},4,False,False\n' for text in ("A waltz.", "A waltz.", "A jig.")]
    place.text("musiccaps/musiccaps-public.csv", MUSICCAPS + "".join(rows))
    place.audio("musiccaps/goodClip000.wav")
    place.prepare("musiccaps")
    (cut,) = place.cuts("musiccaps_train").values()
    assert captions(cut) == ["A waltz."]
    assert lines(place, "musiccaps") == [
        ("musiccaps-public.csv:3", "duplicate"),
        ("musiccaps-public.csv:4", "contradiction"),
    ]


def test_audiosetcaps_has_one_caption_for_a_clip_in_each_list(place):
    as_rows, vgg_rows = ("Yclip0000000,Rain.\nYclip0000000,Hail.\n", "clip0000000_000030,Snow.\n" * 2)
    place.text("audioset/balanced_train_segments.csv", 'clip0000000, 30.000, 40.000, "/m/1"\n')
    place.text("audiosetcaps/AudioSetCaps_caption.csv", f"id,caption\n{as_rows}")
    place.text("audiosetcaps/VGGSound_AudioSetCaps_caption.csv", f"id,caption\n{vgg_rows}")
    place.audio("audiosetcaps/Yclip0000000.wav")
    place.prepare("audiosetcaps", "--audioset-dir", place.corpora / "audioset")
    (cut,) = place.cuts("audiosetcaps_train").values()
    assert captions(cut) == ["Rain.", "Snow."]
    assert lines(place, "audiosetcaps") == [
        ("AudioSetCaps_caption.csv:3", "contradiction"),
        ("VGGSound_AudioSetCaps_caption.csv:3", "duplicate"),
    ]


def test_jamendo_stretches_may_have_many_captions_but_none_twice(place):
    row = {"start_time": 0.0, "end_time": 30.0, "id": "7"}
    texts = ("A harp.", "A lute.", "A harp.")
    place.text("jamendomaxcaps/final_caption30sec.jsonl", jsonl(*({**row, "caption": text} for text in texts)))
    place.audio("jamendomaxcaps/7.wav", seconds=30)
    place.prepare("jamendomaxcaps")
    (cut,) = place.cuts("jamendomaxcaps_train").values()
    assert captions(cut) == ["A harp.", "A lute."]
    assert lines(place, "jamendomaxcaps") == [("final_caption30sec.jsonl:3", "duplicate")]


def test_a_paraspeechcaps_row_counts_once_with_all_its_captions(place):
    row = {"source": "ears", "relative_audio_path": "p001/a.wav", "text_description": ["Calm.", "Slow."]}
    place.text("paraspeechcaps/train_base.jsonl", jsonl(row, row, {**row, "text_description": ["Loud."]}))
    place.audio("paraspeechcaps/p001/a.wav")
    place.prepare("paraspeechcaps")
    (cut,) = place.cuts("paraspeechcaps_train").values()
    assert captions(cut) == ["Calm.", "Slow."]
    assert lines(place, "paraspeechcaps") == [
        ("train_base.jsonl:2", "duplicate"),
        ("train_base.jsonl:3", "contradiction"),
    ]


def test_the_first_of_two_clotho_rows_counts_in_both_lists(place):
    metadata = "a.wav,w,101,link,,me,cc0\na.wav,w,101,link,,me,cc0\na.wav,w,102,link,,me,cc0\n"
    clotho(place, "a.wav,1,2,3,4,5\na.wav,1,2,3,4,5\na.wav,1,2,3,4,6\n", METADATA + metadata)
    place.audio("clotho/development/a.wav")
    place.prepare("clotho")
    (cut,) = place.cuts("clotho_train").values()
    assert cut["id"] == "fs:101" and captions(cut) == ["1", "2", "3", "4", "5"]
    assert lines(place, "clotho") == [
        ("clotho_metadata_development.csv:3", "duplicate"),
        ("clotho_metadata_development.csv:4", "contradiction"),
        ("clotho_captions_development.csv:3", "duplicate"),
        ("clotho_captions_development.csv:4", "contradiction"),
    ]


def test_of_two_starts_of_an_audioset_video_the_first_counts(place):
    rows = "".join(f'clip0000000, {start}, {start + 10}, "/m/1"\n' for start in (30, 30, 40))
    place.text("audioset/balanced_train_segments.csv", rows)
    wavcaps_list(place, "AudioSet_SL", "as", {"id": "Yclip0000000.wav", "caption": "Rain."})
    place.audio("wavcaps/AudioSet_SL/Yclip0000000.flac")
    place.prepare("wavcaps", "--audioset-dir", place.corpora / "audioset")
    assert list(place.cuts("wavcaps_train")) == ["yt:clip0000000:30000"]
    assert lines(place, "wavcaps") == [
        ("balanced_train_segments.csv:2", "duplicate"),
        ("balanced_train_segments.csv:3", "contradiction"),
    ]
