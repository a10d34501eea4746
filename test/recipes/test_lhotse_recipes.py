# SPDX-License-Identifier: Apache-2.0
"""Where Lhotse's recipes of VoxCeleb and Common Voice agree with ours and where not, and scans made from what they
measured. (More of MUSAN: test_prepare_others.py)

Ids, layouts and columns are the publishers'; audio is silence.
"""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse.audio.backend import audio_backend
from lhotse.audio.utils import AudioLoadingError
from lhotse.recipes import commonvoice, ears, emilia, musan, voxceleb

from icefall_alp.data.audio_keys import voxceleb as utterance_key
from icefall_alp.data.captions import read_jsonl
from test.recipes.preparation import Workplace, labels, run

SPEAKERS1 = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\nid10270\tEartha_Kitt\tf\tUSA\ttest\n"
)
CLIPS = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Threads in place of processes, and a trial list that is there already."""
    monkeypatch.chdir(tmp_path)
    for recipe in (commonvoice, voxceleb):
        monkeypatch.setattr(recipe, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(voxceleb, "resumable_download", lambda _, filename: Path(filename).touch())
    return Workplace(tmp_path)


def test_voxceleb1_has_the_utterances_of_lhotses_recipe_in_another_split(place):
    buckley = ("id10001/1zcIwhmdeo4/00001", "id10001/1zcIwhmdeo4/00002", "id10001/7w0IBEWc9Qw/00001")
    names = (*buckley, "id10270/5r0dWxy17C8/00001")
    lines = (f"{part} {name}.wav\n" for part, name in zip((1, 2, 3, 1), names, strict=True))
    place.text("voxceleb1/iden_split.txt", "".join(lines))
    place.text("voxceleb1/vox1_meta.csv", SPEAKERS1)
    place.audio(*(f"voxceleb1/wav/{name}.wav" for name in names))
    place.prepare("voxceleb1")
    theirs = voxceleb.prepare_voxceleb(voxceleb1_root=place.corpora / "voxceleb1")
    spoken = {
        utterance_key(one.recording_id): (split, one.speaker, one.duration)
        for split in ("train", "test")
        for one in theirs[split]["supervisions"]
    }
    ours = {
        key: (split, labels(cut)[0], cut["duration"])
        for split in ("train", "valid", "test")
        for key, cut in place.cuts(f"voxceleb1_{split}").items()
    }
    assert {key: what[1:] for key, what in ours.items()} == {key: what[1:] for key, what in spoken.items()}
    assert [ours[f"vox:{name}"][0] for name in names] == ["train", "valid", "test", "train"]
    assert [spoken[f"vox:{name}"][0] for name in names] == ["train", "train", "train", "test"]


def test_common_voice_has_the_clips_of_lhotses_recipe_and_names_what_that_one_passes_over(place):
    row = '{0}\tcommon_voice_en_{0}.wav\t"Quoted" odd"\t2\t0\tfourties\tmale\t\t\ten\t\n'
    for number, part in enumerate(("train", "dev", "test")):
        place.text(f"commonvoice/en/{part}.tsv", CLIPS + row.format(number) + row.format(number + 7))
        place.audio(f"commonvoice/en/clips/common_voice_en_{number}.wav")
    place.prepare("commonvoice")
    theirs = commonvoice.prepare_commonvoice(place.corpora / "commonvoice", place.manifests / "lhotse", languages="en")
    for part, split in (("train", "train"), ("dev", "valid"), ("test", "test")):
        (one,) = theirs["en"][part]["supervisions"]
        ((key, cut),) = place.cuts(f"commonvoice_{split}").items()
        assert (key, cut["duration"]) == (f"cv:{one.id}", one.duration)
        assert (one.gender, one.custom["age"]) == ("male", "fourties")
        known = {"gender": "male", "age": "thirties-fourties"}  # ages as AIR-Bench has them
        assert cut["supervisions"][0]["custom"]["attributes"] == known
    missing = [entry["key"] for entry in place.skipped("commonvoice") if entry["reason"] == "missing"]
    assert missing == [f"cv:common_voice_en_{number}" for number in (7, 8, 9)]


# ---- scans from what the recipes measured ---------------------------------------------------------------------------


def manifests_of(place, corpus):
    """Cuts as they were written, byte for byte."""
    return {path.name: path.read_bytes() for path in sorted(place.manifests.glob(f"{corpus}_*_cuts.jsonl.gz"))}


def make_unreadable(*paths):
    """Leave one byte of each file and its time: who opens it, sees no audio."""
    for path in paths:
        time = path.stat().st_mtime_ns
        path.write_bytes(b"x")
        os.utime(path, ns=(time, time))


def scan(place, corpus, *manifests):
    """Scan a corpus with Lhotse's manifests; what is printed, and what was of no use."""
    root = place.corpora / corpus
    for manifest in manifests:  # as if written after the audio was last touched
        manifest.touch()
    result = run("scan_audio.py", "--corpus-dir", root, "--recordings", *manifests)
    assert result.returncode == 0, result.stderr
    lines = (root / "audio_scan_skipped.log").read_text().splitlines()
    return result.stdout, [json.loads(line) for line in lines]


def assert_the_scan_stands_for_the_audio(place, corpus, pattern, num_files):
    """The same cuts from what Lhotse measured, though no file can be read any more."""
    root, opened = place.corpora / corpus, manifests_of(place, corpus)
    make_unreadable(*[path for path in root.rglob("*") if path.suffix in (".wav", ".mp3")])
    output, notes = scan(place, corpus, *list(place.manifests.glob(pattern)))
    assert f"{num_files} files not opened: Lhotse's lengths\n" in output and not notes
    assert f"{num_files} audio files, 0 of which cannot be read" in output
    place.prepare(corpus)
    assert manifests_of(place, corpus) == opened
    (root / "audio_scan.gz").unlink()
    place.prepare(corpus)
    assert not manifests_of(place, corpus)


def test_musan_is_prepared_from_the_lengths_of_lhotses_recipe(place):
    place.audio("musan/noise/free-sound/noise-free-sound-0000.wav", "musan/speech/us-gov/speech-us-gov-0000.wav")
    place.audio("musan/music/fma/music-fma-0000.wav", seconds=0.7)
    place.text("musan/music/fma/ANNOTATIONS", "music-fma-0000 classical N someone\n")
    place.prepare("musan")
    musan.prepare_musan(place.corpora / "musan", place.manifests)
    assert_the_scan_stands_for_the_audio(place, "musan", "musan_recordings_*.jsonl.gz", 3)


def test_voxceleb1_is_prepared_from_the_lengths_of_lhotses_recipe(place):
    names = ("id10001/1zcIwhmdeo4/00001", "id10001/7w0IBEWc9Qw/00001", "id10270/5r0dWxy17C8/00001")
    place.text("voxceleb1/iden_split.txt", "".join(f"{n} {name}.wav\n" for n, name in enumerate(names, start=1)))
    place.text("voxceleb1/vox1_meta.csv", SPEAKERS1)
    for number, name in enumerate(names):
        place.audio(f"voxceleb1/wav/{name}.wav", seconds=0.3 + number)
    place.prepare("voxceleb1")
    voxceleb.prepare_voxceleb(voxceleb1_root=place.corpora / "voxceleb1", output_dir=place.manifests)
    assert_the_scan_stands_for_the_audio(place, "voxceleb1", "voxceleb_recordings_*.jsonl.gz", 3)


def test_common_voice_is_prepared_from_the_lengths_of_lhotses_recipe(place):
    clips = place.corpora / "commonvoice/en/clips"
    clips.mkdir(parents=True)
    for number, part in enumerate(("train", "dev", "test")):
        row = f"{number}\tcommon_voice_en_{number}.mp3\tWords\t2\t0\tteens\tmale\t\t\ten\t\n"
        place.text(f"commonvoice/en/{part}.tsv", CLIPS + row)
        soundfile.write(clips / f"common_voice_en_{number}.mp3", np.zeros(32000 + 777 * number), 32000)
    place.prepare("commonvoice")
    commonvoice.prepare_commonvoice(place.corpora / "commonvoice", place.manifests, languages="en")
    assert_the_scan_stands_for_the_audio(place, "commonvoice", "cv-en_recordings_*.jsonl.gz", 3)


def test_voxceleb2_is_measured_by_lhotse_in_m4a_alone_which_a_scan_does_not_believe(place):
    root = place.corpora / "voxceleb2"
    place.text("voxceleb2/vox2_meta.csv", "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set\nid00012 ,n000012 ,m ,dev\n")
    for number in (1, 2, 3):
        name = f"voxceleb2/dev/aac/id00012/21Uxsk56VDQ/0000{number}"
        place.audio(f"{name}.flac")
        shutil.copy(place.corpora / f"{name}.flac", place.corpora / f"{name}.m4a")
    place.prepare("voxceleb2")
    opened = manifests_of(place, "voxceleb2")
    with pytest.raises(AudioLoadingError):  # its decoder of m4a is in older torchaudio
        voxceleb.prepare_voxceleb(voxceleb2_root=root)
    with audio_backend("LibsndfileBackend"):
        theirs = voxceleb.prepare_voxceleb(voxceleb2_root=root, output_dir=place.manifests)
    assert {one.sources[0].source[-4:] for one in theirs["train"]["recordings"]} == {".m4a"}
    make_unreadable(*root.rglob("*.m4a"))
    output, (note,) = scan(place, "voxceleb2", place.manifests / "voxceleb_recordings_train.jsonl.gz")
    assert (note["reason"], note["cause"].partition(",")[0]) == ("other_decoder", "3 recordings .m4a")
    assert "0 files not opened" in output and "6 audio files, 3 of which cannot be read" in output
    rows = {row[0].rpartition("/")[2]: row[3:] for row in read_jsonl(root / "audio_scan.gz")}
    assert rows["00001.flac"] == [1000, 1, 200] and "convert it to flac or wav" in rows["00001.m4a"][0]
    place.prepare("voxceleb2")
    assert manifests_of(place, "voxceleb2") == opened


def test_paraspeechcaps_is_prepared_from_the_lengths_of_lhotses_recipes_of_ears_and_emilia(place):
    root, mp3 = place.corpora / "paraspeechcaps", "EN/EN_B00000/EN_B00000_S00000/mp3/EN_B00000_S00000_W000001.mp3"
    row = {"wav": mp3[3:], "text": "Words", "language": "en", "speaker": "EN_B00000_S00000", "dnsmos": 3.3}
    place.text("emilia/raw/EN/EN_B00000.jsonl", json.dumps(row))
    (place.corpora / "emilia/raw" / mp3).parent.mkdir(parents=True)
    soundfile.write(place.corpora / "emilia/raw" / mp3, np.zeros(40000), 32000)
    place.audio("ears/p001/emo_amazement_sentences.wav", seconds=0.4)
    place.text("ears/speaker_statistics.json", '{"p001": {"gender": "male"}}')
    place.text("ears/transcripts.json", "{}")
    rows = (
        {"source": "emilia", "relative_audio_path": mp3, "text_description": ["A calm voice"], "duration": 1.25},
        {
            "source": "ears",
            "relative_audio_path": "p001/emo_amazement_sentences.wav",
            "text_description": ["A bright one"],
        },
    )
    place.text("paraspeechcaps/train_base.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    (root / "emilia").symlink_to(place.corpora / "emilia/raw")
    (root / "ears").symlink_to(place.corpora / "ears")
    place.prepare("paraspeechcaps")
    opened = manifests_of(place, "paraspeechcaps")
    emilia.prepare_emilia(place.corpora / "emilia", "en", 1, output_dir=place.manifests)
    ears.prepare_ears(place.corpora / "ears", place.manifests)
    make_unreadable(*place.corpora.rglob("*.mp3"), *place.corpora.rglob("*.wav"))
    lhotse = [place.manifests / name for name in ("emilia_cuts_EN.jsonl.gz", "ears_recordings.jsonl.gz")]
    output, notes = scan(place, "paraspeechcaps", *lhotse)
    assert "2 files not opened" in output and not notes
    place.prepare("paraspeechcaps")
    assert manifests_of(place, "paraspeechcaps") == opened


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--recordings", "absent.jsonl.gz"), "absent.jsonl.gz: no such manifest; `lhotse prepare` writes it"),
        (("--recordings", "a.jsonl.gz", "--num-parts", 2), "--recordings goes without parts"),
        (("--recordings", "a.jsonl.gz", "--join"), "--recordings goes without parts"),
    ],
)
def test_a_scan_that_cannot_be_made_is_refused_and_leaves_nothing(place, options, cause):
    place.audio("musan/noise/a.wav")
    result = run("scan_audio.py", "--corpus-dir", place.corpora / "musan", *options)
    assert result.returncode == 1 and cause in result.stderr and result.stderr.count("\n") == 1
    assert sorted(path.name for path in (place.corpora / "musan").rglob("*")) == ["a.wav", "noise"]


def test_rows_of_no_use_are_listed_beside_the_scan_and_printed(place):
    place.audio("musan/noise/a.wav", "musan/noise/b.wav")
    recordings = musan.scan_recordings(place.corpora / "musan/noise")
    manifest = place.corpora / "x_recordings.jsonl"
    gone = recordings["a"].to_dict()
    gone["sources"][0]["source"] += ".wav"
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in (recordings["a"].to_dict(), gone)) + "{\n")
    output, notes = scan(place, "musan", manifest)
    assert [(note["reason"], note["where"]) for note in notes] == [
        ("bad_row", "x_recordings.jsonl:3"),
        ("missing", "x_recordings.jsonl:2"),
    ]
    assert "1 files not opened: Lhotse's lengths; of no use, 1 bad_row, 1 missing, see " in output
