# SPDX-License-Identifier: Apache-2.0
"""Corpora that are only evaluated, asked about or mixed in: UrbanSound8K, ESC-50, MUSAN, ClothoAQA and MusicQA.

Ids, times, class names and layouts are the publishers'; questions and answers are ours. Audio is silence.
"""

import json
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from lhotse.audio.utils import AudioLoadingError
from lhotse.recipes.musan import prepare_musan, scan_recordings

from icefall_alp.data.audio_keys import AudioKey
from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import CORPORA, Workplace, labels, reasons, run, source


def urbansound8k(place):
    place.text(
        "urbansound8k/metadata/UrbanSound8K.csv",
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
        "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing\n"
        "100263-2-0-121.wav,100263,60.5,64.5,1,5,2,children_playing\n"
        "100648-1-0-0.wav,100648,4.823402,5.471927,2,10,1,car_horn\n"
        "100263-9-0-117.wav,100263,58.5,62.5,2,5,9,street_music\n"
        "100652-3-0-0.wav,100652,0.0,4.0,1,2,10,doorbell\n"
        "100795-3-0-0.wav,100795,later,4.19179,1,10,3,dog_bark\n"
        "100852-0-0-0.wav,100852,4.0,-4.0,1,5,0,air_conditioner\n"
        "-3-0-0.wav,,0.0,4.0,1,7,3,dog_bark\n"
        "101848-9-0-0.wav,101848,0.0,4.0,1,7,9\n"
        "102100-3-0-0.wav,102100,inf,4.0,1,7,3,dog_bark\n",
    )
    folder = "urbansound8k/audio"
    place.audio(f"{folder}/fold5/100032-3-0-0.wav", f"{folder}/fold5/100263-2-0-117.wav")
    place.audio(f"{folder}/fold5/100263-2-0-121.wav", f"{folder}/fold5/100263-9-0-117.wav")


def esc50(place):
    place.text(
        "esc50/meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
        "1-100210-A-36.wav,1,36,vacuum_cleaner,False,100210,A\n"
        "1-100210-B-36.wav,1,36,vacuum_cleaner,False,100210,B\n"
        "1-101296-A-19.wav,1,19,thunder,False,101296,A\n"
        "1-137-A-32.wav,1,32,keyboard_typing,False,137,A\n"
        "1--9-A-9.wav,1,9,crow,False,-9,A\n"
        "5-9032-A-0.wav,5,0,dog,True,9032,A\n",
    )
    for name in ("1-100032-A-0", "1-100210-A-36", "1-100210-B-36"):
        place.audio(f"esc50/audio/{name}.wav")
    place.text("esc50/audio/5-9032-A-0.wav", "")


def musan(place):
    place.audio(
        "musan/noise/free-sound/noise-free-sound-0000.wav", "musan/noise/sound-bible/noise-sound-bible-0000.wav"
    )
    place.audio("musan/music/fma/music-fma-0000.wav", "musan/music/rfm/music-fma-0000.wav", "musan/notes/a.wav")
    place.text("musan/music/fma/ANNOTATIONS", "music-fma-0000 classical N someone\n")
    place.text("musan/music/jamendo/music-jamendo-0000.wav", b"RIFF")


def clothoaqa(place):
    header = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
    crop = '"[44100, 88200]"'
    place.text(
        "clotho/clotho_metadata_development.csv",
        f"{header}river_mouth3.wav,river,101,link,{crop},me,cc0\nCaf\u00e9.wav,cups,Not found,NA,,me,cc0\n"
        f"fallingrice2.wav,rice,many,link,{crop},me,cc0\n",
        encoding="iso-8859-1",
    )
    place.text("clotho/clotho_metadata_evaluation.csv", f"{header}ortam.wav,room,102,link,,me,cc0\n")
    columns = "file_name,QuestionText,answer,confidence\n"
    place.text(
        "clothoaqa/clotho_aqa_train.csv",
        f"{columns}river_mouth3.wav,Is  the sea near?,yes,yes\nriver_mouth3.wav,Is the sea near?,no,maybe\n"
        "river_mouth3.wav,Is the sea near?,yes,yes\nriver_mouth3.wav,What flows?,water,yes\n"
        "Caf\u00e9.wav,Do cups clatter?,yes,yes\n_-steps_snow.wav,What is trodden on?,snow,yes\n"
        'fallingrice2.wav,"What falls, and where?",rice,yes\nlost.wav,Anything?,no,yes\n'
        "river_mouth3.wav,,yes,yes\nriver_mouth3.wav,What flows?, ,yes\nriver_mouth3.wav,What flows?\n,Who?,me,no\n",
        encoding="iso-8859-1",
    )
    place.text("clothoaqa/clotho_aqa_val.csv", f"{columns}md3trk2.wav,Is it loud?,no,yes\n")
    place.text("clothoaqa/clotho_aqa_test.csv", f"{columns}ortam.wav,Who talks?,nobody,yes\nbad.wav,,,yes\n")
    for name in ("river_mouth3", "Caf\u00e9", "_-steps_snow", "fallingrice2", "md3trk2", "ortam"):
        place.audio(f"clothoaqa/audio_files/{name}.wav")


def musicqa(place):
    def row(name, *turns):
        speakers = ("human", "gpt", "human")
        conversation = [{"from": who, "value": text} for who, text in zip(speakers, turns, strict=False)]
        return {"audio_name": name, "conversation": conversation}

    place.text(
        "musicqa/FinetuneMusicQA.json",
        json.dumps([
            row("004763.wav", "Describe the audio", "A slow\nharp."), row("004763.wav", " Is it sad?", "Rather so."),
            row("004764.wav", "Describe the audio", "Not on disk."), row("004763.wav", "Who sings?", ""),
            row("004763.wav", "And?"), {"audio_name": 4763}, "004763.wav",
            row("-4765.wav", "Is it fast?", "Yes.", "Sure?"), {"audio_name": "_4766.wav", "conversation": "none"},
            row("004763.wav", "Is it sad?", "Not at all."),
        ]),
    )  # fmt: skip
    place.text("musicqa/EvalMusicQA.json", json.dumps([row("012542.wav", "Describe the audio", "Loud guitars.")]))
    place.audio("musicqa/audios/004763.wav", "musicqa/audios/012542.wav", "musicqa/audios/000000.wav")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """All five corpora, prepared."""
    place = Workplace(tmp_path_factory.mktemp("others"))
    for make in (urbansound8k, esc50, musan, clothoaqa, musicqa):
        make(place)
        place.prepare(make.__name__, *(("--clotho-dir", place.corpora / "clotho") if make is clothoaqa else ()))
    return place


def questions(cut):
    return {q["text"]: q["answers"] for q in cut["supervisions"][0]["custom"]["questions"]}


def test_slices_of_one_sound_are_apart_in_time(place):
    test = place.cuts("urbansound8k_test")
    assert {key: labels(cut) for key, cut in test.items()} == {
        "fs:100032:0-318": ["dog_bark"],
        "fs:100263:58500-62500": ["children_playing"],
        "fs:100263:60500-64500": ["children_playing"],
    }
    assert source(test["fs:100263:60500-64500"]) == "audio/fold5/100263-2-0-121.wav"
    assert (place.manifests / "urbansound8k_classes.txt").read_text().splitlines()[3] == "dog_bark"
    assert reasons(place.skipped("urbansound8k")) == [
        *(("bad_row", f"UrbanSound8K.csv:{line}") for line in (10, 11, 12, 7, 8, 9)),
        ("duplicate", "UrbanSound8K.csv:6"),
        ("missing", "fs:100648:4823-5472"),
    ]


def test_a_sound_whose_row_is_useless_is_still_kept_out_of_the_sources(place):
    keys = listed_keys(place.manifests, "urbansound8k", "test")
    assert keys >= {"fs:100652", "fs:100795", "fs:100852", "fs:102100", "fs:100648:4823-5472"}
    assert AudioKey.parse("fs:100263:58500-62500").overlaps(AudioKey.parse("fs:100263"))
    assert listed_keys(place.manifests, "esc50", "test") >= {"fs:101296/A", "fs:137/A", "fs:9032/A"}


def test_takes_of_one_sound_are_clips_of_their_own_and_share_its_source(place):
    test = place.cuts("esc50_test")
    vacuum = {"fs:100210/A": ["vacuum_cleaner"], "fs:100210/B": ["vacuum_cleaner"]}
    assert {key: labels(cut) for key, cut in test.items()} == {"fs:100032/A": ["dog"], **vacuum}
    assert source(test["fs:100210/A"]) == "audio/1-100210-A-36.wav"
    assert AudioKey.parse("fs:100210/A").overlaps(AudioKey.parse("fs:100210:5-9"))
    assert reasons(place.skipped("esc50")) == [
        ("bad_row", "esc50.csv:5"),
        ("bad_row", "esc50.csv:7"),
        ("missing", "fs:137/A"),
        ("unreadable", "fs:9032/A"),
    ]


def test_esc50_has_its_50_classes_in_the_order_of_target(place):
    classes = (place.manifests / "esc50_classes.txt").read_text().splitlines()
    assert len(set(classes)) == len(classes) == 50
    assert (classes[0], classes[19], classes[36], classes[49]) == ("dog", "thunderstorm", "vacuum_cleaner", "hand_saw")


def test_the_label_of_a_musan_recording_is_its_part(place):
    assert {key: labels(cut) for key, cut in place.cuts("musan_train").items()} == {
        "musan:music-fma-0000": ["music"],
        "musan:noise-free-sound-0000": ["noise"],
        "musan:noise-sound-bible-0000": ["noise"],
    }
    assert (place.manifests / "musan_classes.txt").read_text() == "noise\nmusic\nspeech\n"
    assert reasons(place.skipped("musan")) == [
        ("duplicate", "music/rfm/music-fma-0000.wav"),
        ("no_list", "speech"),
        ("unreadable", "musan:music-jamendo-0000"),
    ]


def test_musan_has_the_recordings_of_lhotses_recipe_and_goes_on_where_that_one_stops(place):
    root, ours = place.corpora / "musan", place.cuts("musan_train")
    theirs = {recording.id: recording for recording in scan_recordings(root / "noise")}
    assert {f"musan:{name}" for name in theirs} == {key for key, cut in ours.items() if labels(cut) == ["noise"]}
    assert all(ours[f"musan:{name}"]["duration"] == recording.duration for name, recording in theirs.items())
    with pytest.raises(AudioLoadingError):
        scan_recordings(root / "music")
    with pytest.raises(IndexError):
        prepare_musan(root, parts=("speech",))


def test_clothoaqa_clips_have_clothos_keys_and_every_answer(place):
    train = place.cuts("clothoaqa_train")
    assert {key: source(cut) for key, cut in train.items()} == {
        "clotho:aqa/_-steps_snow.wav": "audio_files/_-steps_snow.wav",
        "clotho:train/Caf\u00e9.wav": "audio_files/Caf\u00e9.wav",
        "clotho:train/fallingrice2.wav": "audio_files/fallingrice2.wav",
        "fs:101:1000-2000": "audio_files/river_mouth3.wav",
    }
    expected = {"Is the sea near?": ["yes", "no", "yes"], "What flows?": ["water"]}
    assert questions(train["fs:101:1000-2000"]) == expected
    assert questions(train["clotho:train/fallingrice2.wav"]) == {"What falls, and where?": ["rice"]}
    assert list(place.cuts("clothoaqa_valid")) == ["clotho:aqa/md3trk2.wav"]
    assert list(place.cuts("clothoaqa_test")) == ["fs:102"]
    assert reasons(place.skipped("clothoaqa")) == [
        ("bad_row", "clotho_aqa_test.csv:3"),
        *(("bad_row", f"clotho_aqa_train.csv:{line}") for line in (10, 11, 12, 13)),
        ("bad_row", "clotho_metadata_development.csv:4"),
        ("missing", "clotho:aqa/lost.wav"),
        ("no_list", "clotho_metadata_validation.csv"),
    ]
    assert listed_keys(place.manifests, "clothoaqa", "test") == {"fs:102", "clotho:aqa/bad.wav"}


def test_clothoaqa_without_clothos_metadata_keys_clips_by_their_names(place, tmp_path):
    options = ("--corpus-dir", place.corpora / "clothoaqa", "--manifests-dir", tmp_path, "--corpora", CORPORA)
    result = run("prepare_clothoaqa.py", *options)
    assert result.returncode == 0, result.stderr
    assert listed_keys(tmp_path, "clothoaqa", "test") == {"clotho:aqa/bad.wav", "clotho:aqa/ortam.wav"}


def test_musicqa_gathers_the_questions_of_a_clip(place):
    (cut,) = place.cuts("musicqa_train").values()
    assert (cut["id"], source(cut)) == ("musicqa:004763", "audios/004763.wav")
    assert questions(cut) == {"Describe the audio": ["A slow harp."], "Is it sad?": ["Rather so.", "Not at all."]}
    assert list(place.cuts("musicqa_test")) == ["musicqa:012542"]
    assert reasons(place.skipped("musicqa")) == [
        *(("bad_row", f"FinetuneMusicQA.json: [{number}]") for number in (3, 4, 5, 6, 7, 8)),
        ("missing", "musicqa:004764"),
    ]


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("urbansound8k", "UrbanSound8K.csv: no such file"),
        ("esc50", "esc50.csv: no such file"),
        ("musan", "no recordings below noise, music, speech"),
        ("clothoaqa", "clotho_aqa_train.csv: no such file"),
        ("musicqa", "none of"),
    ],
)
@pytest.mark.parametrize("has_folder", [False, True])
def test_a_missing_folder_or_list_is_one_line(tmp_path, corpus, words, has_folder):
    if has_folder:
        (tmp_path / "corpus").mkdir()
    options = ("--corpus-dir", tmp_path / "corpus", "--manifests-dir", tmp_path / "manifests", "--corpora", CORPORA)
    result = run(f"prepare_{corpus}.py", *options)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and (words if has_folder else "no such folder") in result.stderr


@pytest.mark.parametrize(
    ("text", "words"), [("[{", "not JSON"), ('{"a": 1}', "not a JSON list"), (b"\xff", "not JSON")]
)
def test_a_musicqa_list_that_is_none_is_one_line(tmp_path, text, words):
    place = Workplace(tmp_path)
    place.text("musicqa/EvalMusicQA.json", text)
    options = ("--corpus-dir", place.corpora / "musicqa", "--manifests-dir", place.manifests, "--corpora", CORPORA)
    result = run("prepare_musicqa.py", *options)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "EvalMusicQA.json" in result.stderr and words in result.stderr


def test_prepare_tells_a_corpus_where_the_one_it_names_clips_of_lies(tmp_path, monkeypatch):
    names = ("clotho", "clothoaqa", "audioset", "fusionaudio", "musan")
    for name in names:
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    roots = [f"{name}={tmp_path / name}" for name in names]
    with patch("subprocess.run", return_value=SimpleNamespace(returncode=0)):
        result = run("prepare.py", "--corpora", CORPORA, "--roots", *roots)
    assert result.returncode == 0, result.stderr
    jobs = map(json.loads, (tmp_path / "data/logs/prepare/jobs.jsonl").read_text().splitlines())
    others = {job["name"]: " ".join(job["command"]) for job in jobs}
    assert f"--clotho-dir {tmp_path / 'clotho'}" in others["clothoaqa"]
    assert f"--audioset-dir {tmp_path / 'audioset'}" in others["fusionaudio"]
    corpora = tmp_path / "corpora.yaml"
    corpora.write_text("fusionaudio: {role: source, domain: sound, options: [--id-column, file name]}\n")
    with patch("subprocess.run", return_value=SimpleNamespace(returncode=0)):
        run("prepare.py", "--corpora", corpora, "--roots", *roots[3:4])
    (job,) = map(json.loads, (tmp_path / "data/logs/prepare/jobs.jsonl").read_text().splitlines())
    assert job["command"][-2:] == ["--id-column", "file name"]
    assert not [name for name in ("clotho", "audioset", "musan") if "-dir " in others[name].split("--corpus-dir ")[1]]
