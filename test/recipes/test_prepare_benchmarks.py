# SPDX-License-Identifier: Apache-2.0
"""The tagging and classification benchmarks: each script on its corpus in the published format, small and salted.

Ids, times, class names and layouts are the publishers'. Audio is silence.
"""

import json
import re

import pytest

from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import CORPORA, LOCAL, Workplace, labels, reasons, run, source

ACTORS = [f"{number}" for number in range(1001, 1011)]


def vggsound(place):
    place.text(
        "vggsound/vggsound.csv",
        "---g-f_I2yQ,1,people marching,test\n__p-iA312kg,70,waterfall burbling,train\n"
        '__p-iA312kg,80,"bird chirping, tweeting",train\nYq7Gd5tHs_0,130,people marching,train\n'
        "gone0gone0g,0,people marching,train\nempty0file0,5,people marching,train\n"
        "--0PQM4-hqg,30,,test\n--56QUhyDQM,185,playing tennis,val\nshort,40,playing tennis,train\n"
        "--5OkAjCI7g,minus,playing tennis,train\n--8puiAGLhs,30,car, engine starting,train\n"
        "__p-iA312kg,70,people marching,train\n",
    )
    place.audio(*(f"vggsound/video/{stem}.wav" for stem in ("---g-f_I2yQ_000001", "__p-iA312kg_000070")))
    place.audio("vggsound/__p-iA312kg_000080.flac", "vggsound/other/Yq7Gd5tHs_0_000130.wav", "vggsound/unrelated.wav")
    place.audio("vggsound/__p-iA312kg_000070.flac")
    place.text("vggsound/empty0file0_000005.wav", "")


def cremad(place):
    stems = [f"{actor}_{what}" for actor in ACTORS for what in ("DFA_ANG_XX", "IEO_HAP_LO", "IEO_JOY_HI")]
    stems += ["1001_ITS_SAD_XX", "1001", "-1001_DFA_ANG_XX", "1001_DFA_ANG_XX"]
    rows = "".join(f'{number},"{stem}"\n' for number, stem in enumerate(stems, start=1))
    place.text("cremad/SentenceFilenames.csv", f'"Stimulus_Number","Filename"\n{rows}')
    place.audio(*(f"cremad/AudioWAV/{stem}.wav" for stem in stems if "SAD" not in stem))


def tag_row(clip, path, tags, names, on="1"):
    return "\t".join(f'"{field}"' for field in (clip, *(on if tag in tags else "0" for tag in names), path)) + "\n"


def magnatagatune(place):
    script = (LOCAL / "prepare_magnatagatune.py").read_text()
    frequent = re.findall(r'"([^"]+)"', script.split("TAGS = (")[1].split(")")[0])
    names = ["eerie", *sorted(frequent)]  # the publishers' columns are in no order of frequency
    rows = [
        ("2", "f/american_bach_soloists-j_s__bach-01-30-59.mp3", ("violin", "classical", "eerie")),
        ("14", "c/lvx_nova-lvx_nova-01-contimune-30-59.mp3", ("techno",)),
        ("45", "b/-jag_-four-01-0-29.mp3", ("no vocals", "no vocal", "no voice")),
        ("46", "0/_jag_-four-01-29-58.mp3", ("guitar",)),
        ("47", "d/jag-four-01-58-87.mp3", ("eerie",)),
        ("48", "a/jag-four-01-87-116.mp3", ("guitar",)),
        ("49", "g/jag-four-01-116-145.mp3", ("guitar",)),
        ("fifty", "a/jag-four-01-145-174.mp3", ("guitar",)),
        ("45", "b/-jag_-four-01-0-29.mp3", ("guitar",)),
    ]
    header = "\t".join(f'"{name}"' for name in ("clip_id", *names, "mp3_path"))
    text = f"{header}\n" + "".join(tag_row(*row, names) for row in rows)
    text += tag_row("51", "e/jag-four-01-174-203.mp3", ("guitar",), names, on="2") + '"52"\t"0"\n'
    place.text("magnatagatune/annotations_final.csv", text.encode() + b'"53\xe9"\t"0"\n')
    for _, path, _ in rows[:4]:
        place.audio(f"magnatagatune/{path}.wav")
        wav = place.corpora / f"magnatagatune/{path}.wav"
        wav.rename(wav.with_suffix(""))  # what is inside a file decides, not its name
    place.text(f"magnatagatune/{rows[5][1]}", "")


def nsynth(place):
    notes = {
        "train": {"bass_synthetic_033-022-050": "bass", "-odd_acoustic_000-060-100": "synth_lead"},
        "valid": {"_odd_acoustic_001-060-100": "vocal", "kazoo_acoustic_000-060-025": "kazoo"},
        "test": {"reed_acoustic_037-068-127": "reed", "flute_electronic_004-071-025": "flute"},
    }
    for split, families in notes.items():
        rows = {note: {"note_str": note, "instrument_family_str": name} for note, name in families.items()}
        if split == "test":
            rows |= {"brass_acoustic_006-025-127": {"note": 1}, "mallet_acoustic_047-094-075": [3]}
        place.text(f"nsynth/nsynth-{split}/examples.json", json.dumps(rows))
        place.audio(*(f"nsynth/nsynth-{split}/audio/{note}.wav" for note in families if "flute" not in note))
    place.audio("nsynth/nsynth-train/audio/bass_synthetic_033-022-050.flac")


def voxceleb1(place):
    place.text(
        "voxceleb1/iden_split.txt",
        "3 id10003/na8-QEFmj44/00003.wav\n1 id10003/tCq2LcKO6xY/00002.wav\n2 id10003/_8GyDp3mDcs/00001.wav\n"
        "1 id10001/-zcAwA8p4oc/00001.wav\n1 id10001/-zcAwA8p4oc/00002.wav\n4 id10001/-zcAwA8p4oc/00003.wav\n"
        "1 id10001/-zcAwA8p4/00001.wav\n\n1 id10001/-zcAwA8p4oc/00001.wav\n2 id10001/-zcAwA8p4oc/00004.wav\n",
    )
    place.audio(*(f"voxceleb1/wav/id10003/{video}.wav" for video in ("na8-QEFmj44/00003", "tCq2LcKO6xY/00002")))
    place.audio("voxceleb1/wav/id10003/_8GyDp3mDcs/00001.wav", "voxceleb1/dev/wav/id10001/-zcAwA8p4oc/00001.flac")
    place.audio("voxceleb1/wav/notes.wav")
    place.text("voxceleb1/wav/id10001/-zcAwA8p4oc/00002.wav", "")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """All five corpora, prepared."""
    place = Workplace(tmp_path_factory.mktemp("benchmarks"))
    for make in (vggsound, cremad, magnatagatune, nsynth, voxceleb1):
        make(place)
        place.prepare(make.__name__)
    return place


def contents(place, name):
    return {key: labels(cut) for key, cut in place.cuts(name).items()}


def classes(place, corpus):
    return (place.manifests / f"{corpus}_classes.txt").read_text().splitlines()


def test_vggsound_keeps_the_clips_of_one_video_apart(place):
    train = place.cuts("vggsound_train")
    assert {key: (source(cut), labels(cut)) for key, cut in train.items()} == {
        "yt:Yq7Gd5tHs_0:130000": ("other/Yq7Gd5tHs_0_000130.wav", ["people marching"]),
        "yt:__p-iA312kg:70000": ("__p-iA312kg_000070.flac", ["waterfall burbling"]),
        "yt:__p-iA312kg:80000": ("__p-iA312kg_000080.flac", ["bird chirping, tweeting"]),
    }
    assert contents(place, "vggsound_test") == {"yt:---g-f_I2yQ:1000": ["people marching"]}


def test_vggsound_classes_are_the_sorted_labels_of_good_rows(place):
    assert classes(place, "vggsound") == ["bird chirping, tweeting", "people marching", "waterfall burbling"]


def test_vggsound_says_what_it_left_out(place):
    assert reasons(place.skipped("vggsound")) == [
        *(("bad_row", f"vggsound.csv:{line}") for line in (10, 11, 7, 8, 9)),
        ("contradiction", "vggsound.csv:12"),
        ("missing", "yt:gone0gone0g:0"),
        ("unreadable", "yt:empty0file0:5000"),
    ]
    assert listed_keys(place.manifests, "vggsound", "test") == {
        "yt:---g-f_I2yQ:1000", "yt:--0PQM4-hqg:30000", "yt:--56QUhyDQM:185000", "yt:--8puiAGLhs:as",
    }  # fmt: skip


def test_cremad_holds_out_whole_actors(place):
    found = {split: contents(place, f"cremad_{split}") for split in ("train", "valid", "test")}
    actors = {split: {key.removeprefix("crema:")[:4] for key in keys} for split, keys in found.items()}
    assert {split: len(names) for split, names in actors.items()} == {"train": 8, "valid": 1, "test": 1}
    assert set.union(*actors.values()) == set(ACTORS)
    joined = found["train"] | found["valid"] | found["test"]
    assert joined["crema:1001_DFA_ANG_XX"] == ["anger"] and joined["crema:1010_IEO_HAP_LO"] == ["happy"]
    assert classes(place, "cremad") == ["anger", "disgust", "fear", "happy", "neutral", "sad"]


def test_cremad_says_what_it_left_out(place):
    skipped = place.skipped("cremad")
    unknown = [("bad_row", f"SentenceFilenames.csv:{line}") for line in range(4, 32, 3)]
    names = [("bad_row", f"SentenceFilenames.csv:{line}") for line in (33, 34)]
    again = ("duplicate", "SentenceFilenames.csv:35")
    ages = ("no_list", "VideoDemographics.csv")  # optional: only questions about speakers need it
    assert reasons(skipped) == sorted([*unknown, *names, again, ages, ("missing", "crema:1001_ITS_SAD_XX")])
    (test,) = {key[6:10] for key in place.cuts("cremad_test")}
    assert f"crema:{test}_IEO_JOY_HI" in listed_keys(place.manifests, "cremad", "test")


def test_magnatagatune_is_split_by_folder_and_merges_no_tags(place):
    assert contents(place, "magnatagatune_train") == {
        "mtat:45": ["no vocals", "no vocal", "no voice"],
        "mtat:46": ["guitar"],
    }
    assert contents(place, "magnatagatune_valid") == {"mtat:14": ["techno"]}
    (test,) = place.cuts("magnatagatune_test").values()
    assert (test["id"], labels(test)) == ("mtat:2", ["classical", "violin"])
    assert source(test) == "f/american_bach_soloists-j_s__bach-01-30-59.mp3"
    names = classes(place, "magnatagatune")
    assert len(set(names)) == 50 and names[:3] == ["guitar", "classical", "slow"] and names[-1] == "choral"


def test_magnatagatune_says_what_it_left_out(place):
    skipped = place.skipped("magnatagatune")
    assert reasons(skipped) == [
        *(("bad_row", f"annotations_final.csv:{line}") for line in (11, 12, 13, 6, 8, 9)),
        ("contradiction", "annotations_final.csv:10"),
        ("unreadable", "mtat:48"),
    ]
    causes = {entry.get("where", "")[-2:]: entry["cause"] for entry in skipped}
    assert causes[":6"] == "none of the 50 tags" and causes["12"] == "2 columns instead of 53"
    assert listed_keys(place.manifests, "magnatagatune", "test") == {
        "mtat:2", "mtat:47", "mtat:49", "mtat:51", "mtat:52",
    }  # fmt: skip


def test_nsynth_labels_are_families(place):
    assert contents(place, "nsynth_train") == {
        "nsynth:-odd_acoustic_000-060-100": ["synth_lead"],
        "nsynth:bass_synthetic_033-022-050": ["bass"],
    }
    assert contents(place, "nsynth_valid") == {"nsynth:_odd_acoustic_001-060-100": ["vocal"]}
    assert contents(place, "nsynth_test") == {"nsynth:reed_acoustic_037-068-127": ["reed"]}
    names = classes(place, "nsynth")
    assert len(names) == 11 and (names[0], names[9], names[10]) == ("bass", "synth_lead", "vocal")


def test_nsynth_says_what_it_left_out(place):
    assert reasons(place.skipped("nsynth")) == [
        ("bad_row", "nsynth-test/examples.json: brass_acoustic_006-025-127"),
        ("bad_row", "nsynth-test/examples.json: mallet_acoustic_047-094-075"),
        ("bad_row", "nsynth-valid/examples.json: kazoo_acoustic_000-060-025"),
        ("missing", "nsynth:flute_electronic_004-071-025"),
    ]
    assert "nsynth:mallet_acoustic_047-094-075" in listed_keys(place.manifests, "nsynth", "test")


def test_voxceleb1_has_the_official_split(place):
    train = place.cuts("voxceleb1_train")
    assert {key: (source(cut), labels(cut)) for key, cut in train.items()} == {
        "vox:id10001/-zcAwA8p4oc/00001": ("dev/wav/id10001/-zcAwA8p4oc/00001.flac", ["id10001"]),
        "vox:id10003/tCq2LcKO6xY/00002": ("wav/id10003/tCq2LcKO6xY/00002.wav", ["id10003"]),
    }
    assert contents(place, "voxceleb1_valid") == {"vox:id10003/_8GyDp3mDcs/00001": ["id10003"]}
    assert contents(place, "voxceleb1_test") == {"vox:id10003/na8-QEFmj44/00003": ["id10003"]}
    assert classes(place, "voxceleb1") == ["id10001", "id10003"]


def test_voxceleb1_says_what_it_left_out(place):
    assert reasons(place.skipped("voxceleb1")) == [
        ("bad_row", "iden_split.txt:6"),
        ("bad_row", "iden_split.txt:7"),
        ("bad_row", "wav/notes.wav"),
        ("duplicate", "iden_split.txt:9"),
        ("missing", "vox:id10001/-zcAwA8p4oc/00004"),
        ("unreadable", "vox:id10001/-zcAwA8p4oc/00002"),
    ]


def test_a_second_run_changes_no_byte(place):
    before = {path.name: path.read_bytes() for path in place.manifests.iterdir()}
    for corpus in ("vggsound", "cremad", "magnatagatune", "nsynth", "voxceleb1"):
        place.prepare(corpus, "--num-jobs", 1)
    assert {path.name: path.read_bytes() for path in place.manifests.iterdir()} == before


@pytest.mark.parametrize(
    ("corpus", "name", "text", "words"),
    [
        ("vggsound", "", "", "vggsound.csv: no such file"),
        ("cremad", "", "", "SentenceFilenames.csv: no such file"),
        ("cremad", "SentenceFilenames.csv", "Number,Stem\n", "no column Filename"),
        ("magnatagatune", "", "", "annotations_final.csv: no such file"),
        ("magnatagatune", "annotations_final.csv", "clip_id\tguitar\tmp3_path\n", "no column classical"),
        ("nsynth", "", "", "examples.json: no such file"),
        ("nsynth", "nsynth-train/examples.json", '{"bass', "not JSON in UTF-8"),
        ("nsynth", "nsynth-train/examples.json", "[]", "not a JSON object"),
        ("voxceleb1", "", "", "iden_split.txt: no such file"),
    ],
)
def test_a_corpus_that_cannot_be_read_is_one_line(tmp_path, corpus, name, text, words):
    place = Workplace(tmp_path)
    (place.corpora / corpus).mkdir(parents=True)
    if name:
        place.text(f"{corpus}/{name}", text)
    options = ("--corpus-dir", place.corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CORPORA)
    result = run(f"prepare_{corpus}.py", *options)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and words in result.stderr
