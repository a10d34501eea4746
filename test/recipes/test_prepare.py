# SPDX-License-Identifier: Apache-2.0
"""Every preparation script on its corpus in the published format, small and salted; then merge, describe, tokenize.

Ids, times, class names and layouts are the publishers'; the captions are ours. Audio is silence.
"""

import gzip
import json
import sys
from unittest.mock import patch

import pytest

from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.manifests import listed_keys
from icefall_alp.models.tokenizer import load_tokenizer
from test.recipes.preparation import CORPORA, PAPER, Workplace, captions, labels, reasons, run, source


def audiocaps(place):
    header = b"audiocap_id,youtube_id,start_time,caption\n"
    place.text(
        "audiocaps/train.csv",
        header
        + b'1,-0Gj8-vB1q4,30,Someone plays a slow tune\n2,__p-iA312kg,70,"Wind blows, then a door"\n'
        + b"3,Yq7Gd5tHs_0,0,A cat meows twice\n4,gone0gone0g,10,A train passes\n5,empty0file0,0,Silence\n"
        + b"6,short,0,A bell\n7,r1nicOVtvkQ,130\n8,r1nicOVtvkQ,130,\n9,r1nicOVtvkQ,130,Caf\xe9 noise\n",
    )
    place.text("audiocaps/val.csv", header + b"10,vfY_TJq7n_U,130,A duck quacks\n")
    place.text(
        "audiocaps/test.csv",
        header + b"".join(b"%d,7fmOlUlwoNg,20,Machine noise number %d\n" % (n, n) for n in range(11, 16))
        + b"16,notOnDisk00,40,Nobody has this clip\n",
    )  # fmt: skip
    place.audio("audiocaps/audio/train/Y-0Gj8-vB1q4.wav", "audiocaps/audio/train/__p-iA312kg_70.wav")
    place.audio("audiocaps/audio/train/Yq7Gd5tHs_0.flac", "audiocaps/audio/vfY_TJq7n_U_130_140.wav")
    place.audio("audiocaps/audio/Y7fmOlUlwoNg.wav", "audiocaps/audio/unrelated.wav")
    place.text("audiocaps/audio/empty0file0.wav", "")


def clotho(place):
    names = ",".join(f"caption_{n}" for n in range(1, 6))
    for folder in ("development", "validation", "evaluation"):
        rows = f"file_name,{names}\n{folder} dog.wav,One dog,Two dogs,Three dogs,Four dogs,Five dogs\n"
        place.audio(f"clotho/{folder}/{folder} dog.wav")
        if folder == "development":
            rows += "Caf\u00e9.wav,Cups,,Clatter of cups,Cups and talk,A room with cups\nlost.wav,a,b,c,d,e\n"
            place.audio("clotho/development/Caf\u00e9.wav")
        place.text(f"clotho/clotho_captions_{folder}.csv", rows)
    header = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
    crop = '"[44100, 88200]"'
    place.text(
        "clotho/clotho_metadata_development.csv",
        f"{header}development dog.wav,dog,101,link,{crop},me,cc0\nCaf\u00e9.wav,\u00e9,Not found,NA,,me,cc0\n",
        encoding="iso-8859-1",
    )
    place.text("clotho/clotho_metadata_validation.csv", f"{header}validation dog.wav,dog,102,link,{crop},me,cc0\n")
    place.text("clotho/clotho_metadata_evaluation.csv", f"{header}evaluation dog.wav,dog,103,link,{crop},me,cc0\n")


def wavcaps(place):
    def write(part, short, rows):
        content = json.dumps({"num_captions_per_audio": 1, "data": rows})
        place.text(f"wavcaps/json_files/{part}/{short}_final.json", content)

    write("AudioSet_SL", "as", [
        {"id": "Y__p-iA312kg.wav", "caption": "A gust and a slammed door", "audio": "wav_path", "duration": 10.0},
        {"id": "Y7fmOlUlwoNg.wav", "caption": "The planted test clip", "audio": "wav_path", "duration": 10.0},
        {"id": "YnotOnDisk00.wav", "caption": "A test clip that AudioCaps lacks here", "duration": 10.0},
        {"id": "Y-unlisted-_.wav", "caption": "In no segment list", "duration": 10.0},
    ])  # fmt: skip
    write("BBC_Sound_Effects", "bbc", [{"id": "07066104", "caption": "Crickets at night"}, {"id": 5, "caption": "No"}])
    write("FreeSound", "fsd", [
        {"id": "103", "caption": "All of the evaluated dog"}, {"id": "2219", "caption": "A long drone"},
        {"id": "404", "caption": "Not on disk"}, {"id": "405"},
    ])  # fmt: skip
    write("SoundBible", "sb", [{"id": "2219", "caption": "An aeroplane lands"}])
    for video in ("__p-iA312kg", "7fmOlUlwoNg", "notOnDisk00", "-unlisted-_"):
        place.audio(f"wavcaps/AudioSet_SL_flac/Y{video}.flac")
    place.audio("wavcaps/BBC_Sound_Effects/07066104.flac", "wavcaps/FreeSound/103.flac", "wavcaps/SoundBible/2219.flac")
    place.audio("wavcaps/FreeSound/2219.flac", seconds=60.5)


def paraspeechcaps(place):
    def row(source, path, *texts):
        return json.dumps({"source": source, "relative_audio_path": path, "text_description": texts}) + "\n"

    segment = "ex04-ex02_disgusted_012_channel1_segment_50.0_59.58"
    held = "voxceleb2/dev/aac/id00012/21Uxsk56VDQ/00002_voicefixer.wav"
    kept = "voxceleb2/dev/aac/id04284/gn81NY9kB7A/00251_voicefixer.wav"
    emilia, ears = "EN/EN_B00030/mp3/EN_B00030_S01984_W000037.wav", "p001/emo_adoration_sentences.wav"
    place.text(
        "paraspeechcaps/train_base.jsonl",
        row("voxceleb", kept, " A calm man talks slowly.")
        + row("voxceleb", held, "The held-out utterance.")
        + row("expresso", f"audio_48khz/{segment}.wav", "A woman sounds disgusted.", "She is not pleased.")
        + row("ears", ears, "Full of love.", " ")
        + row("radio", "a.wav", "Who knows?")
        + '{"source": "ears"\n',
    )
    place.text("paraspeechcaps/train_scaled.jsonl", row("emilia", emilia, "A quick clear voice."))
    place.text("paraspeechcaps/holdout.jsonl", row("ears", "p002/whisper.wav", "A whisper."))
    place.audio(f"paraspeechcaps/expresso/audio_48khz/{segment}.wav", f"paraspeechcaps/ears/{ears}")
    place.audio(*(f"paraspeechcaps/{path}" for path in (held, kept, emilia)), "paraspeechcaps/ears/p002/whisper.wav")


def audioset(place):
    place.text(
        "audioset/class_labels_indices.csv",
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n72,/m/068hy,"Pets"\n',
    )
    head = "# Segments csv created\n# num_ytids=3\n# YTID, start_seconds, end_seconds, positive_labels\n"
    place.text(
        "audioset/unbalanced_train_segments.csv",
        f'{head}__p-iA312kg, 70.000, 80.000, "/m/09x0r,/m/05zppz"\n7fmOlUlwoNg, 20.000, 30.000, "/m/09x0r"\n'
        'Yq7Gd5tHs_0, 0.000, 10.000, "/m/unknown"\nnotOnDisk00, 40.000, 50.000, "/m/068hy"\n',
    )
    place.text("audioset/eval_segments.csv", f'{head}--4gqARaEJE, 0.000, 9.000, "/m/068hy"\n')
    place.audio("audioset/unbalanced/Y__p-iA312kg.wav", "audioset/eval/Y--4gqARaEJE.wav")


def fsd50k(place):
    place.text("fsd50k/FSD50K.ground_truth/vocabulary.csv", "0,Animal,/m/0jbk\n1,Bark,/m/05tny_\n2,Bell,/m/0395lw\n")
    place.text(
        "fsd50k/FSD50K.ground_truth/dev.csv",
        'fname,labels,mids,split\n64760,"Bark,Animal","/m/05tny_,/m/0jbk",train\n16399,Bell,/m/0395lw,val\n'
        "99999,Bell,/m/0395lw,dev\n99998,Gong,/m/0,train\n",
    )
    place.text("fsd50k/FSD50K.ground_truth/eval.csv", "fname,labels,mids\n37199,Bell,/m/0395lw\n55555,Gong,/m/0\n")
    place.audio("fsd50k/FSD50K.dev_audio/64760.wav", "fsd50k/FSD50K.dev_audio/16399.wav")
    place.audio("fsd50k/FSD50K.eval_audio/37199.wav")


SPEAKERS = {
    "id00012": {"21Uxsk56VDQ": 3, "_2Uxsk56VDQ": 3, "-3Uxsk56VDQ": 3},
    "id04284": {"gn81NY9kB7A": 4},
    "id09999": {"onlyOneHere": 1},
}


def voxceleb2(place):
    for speaker, videos in SPEAKERS.items():
        for video, count in videos.items():
            place.audio(*(f"voxceleb2/dev/aac/{speaker}/{video}/{n:05d}.wav" for n in range(1, count + 1)))
    place.text("voxceleb2/dev/aac/id04284/gn81NY9kB7A/00009.m4a", b"\0\0\0\x18ftypM4A ")
    place.audio("voxceleb2/dev/aac/readme/notes.wav", "voxceleb2/test/aac/id00017/abcdefghijk/00001.wav")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """All seven corpora, prepared."""
    place = Workplace(tmp_path_factory.mktemp("prepare"))
    for make in (audiocaps, clotho, wavcaps, paraspeechcaps, audioset, fsd50k, voxceleb2):
        make(place)
        options = ("--audioset-dir", place.corpora / "audioset") if make is wavcaps else ()
        if make is wavcaps:
            audioset(place)
        place.prepare(make.__name__, *options)
    return place


def test_audiocaps(place):
    train = place.cuts("audiocaps_train")
    assert {key: source(cut) for key, cut in train.items()} == {
        "yt:-0Gj8-vB1q4:30000": "audio/train/Y-0Gj8-vB1q4.wav",
        "yt:Yq7Gd5tHs_0:0": "audio/train/Yq7Gd5tHs_0.flac",
        "yt:__p-iA312kg:70000": "audio/train/__p-iA312kg_70.wav",
    }
    assert captions(train["yt:__p-iA312kg:70000"]) == ["Wind blows, then a door"]
    assert list(place.cuts("audiocaps_valid")) == ["yt:vfY_TJq7n_U:130000"]
    (test,) = place.cuts("audiocaps_test").values()
    assert captions(test) == [f"Machine noise number {n}" for n in range(11, 16)]
    assert reasons(place.skipped("audiocaps")) == [
        ("bad_row", "train.csv:10"),
        ("bad_row", "train.csv:7"),
        ("bad_row", "train.csv:8"),
        ("bad_row", "train.csv:9"),
        ("missing", "yt:gone0gone0g:10000"),
        ("missing", "yt:notOnDisk00:40000"),
        ("unreadable", "yt:empty0file0:0"),
    ]


def test_clotho(place):
    train = place.cuts("clotho_train")
    assert captions(train["fs:101:1000-2000"]) == ["One dog", "Two dogs", "Three dogs", "Four dogs", "Five dogs"]
    assert captions(train["clotho:train/Caf\u00e9.wav"]) == [
        "Cups", "Clatter of cups", "Cups and talk", "A room with cups",
    ]  # fmt: skip
    assert list(place.cuts("clotho_valid")) == ["fs:102:1000-2000"]
    assert list(place.cuts("clotho_test")) == ["fs:103:1000-2000"]
    assert reasons(place.skipped("clotho")) == [
        ("bad_row", "clotho_captions_development.csv:3 caption_2"),
        ("missing", "clotho:train/lost.wav"),
    ]


def test_wavcaps(place):
    assert {key: source(cut) for key, cut in place.cuts("wavcaps_train").items()} == {
        "bbc:07066104": "BBC_Sound_Effects/07066104.flac",
        "fs:103": "FreeSound/103.flac",
        "fs:2219": "FreeSound/2219.flac",
        "sb:2219": "SoundBible/2219.flac",
        "yt:-unlisted-_:as": "AudioSet_SL_flac/Y-unlisted-_.flac",
        "yt:7fmOlUlwoNg:20000": "AudioSet_SL_flac/Y7fmOlUlwoNg.flac",
        "yt:__p-iA312kg:70000": "AudioSet_SL_flac/Y__p-iA312kg.flac",
        "yt:notOnDisk00:40000": "AudioSet_SL_flac/YnotOnDisk00.flac",
    }
    assert reasons(place.skipped("wavcaps")) == [
        ("bad_row", "bbc_final.json: data[1]"),
        ("bad_row", "fsd_final.json: data[3]"),
        ("missing", "fs:404"),
        ("no_list", "balanced_train_segments.csv"),
    ]


def test_paraspeechcaps(place):
    train = place.cuts("paraspeechcaps_train")
    assert sorted(train) == [
        "ears:p001/emo_adoration_sentences",
        "emilia:EN_B00030_S01984_W000037",
        "expresso:ex04-ex02_disgusted_012_channel1_segment_50.0_59.58",
        "vox:id00012/21Uxsk56VDQ/00002",
        "vox:id04284/gn81NY9kB7A/00251",
    ]
    assert captions(train["vox:id04284/gn81NY9kB7A/00251"]) == ["A calm man talks slowly."]
    assert captions(train["ears:p001/emo_adoration_sentences"]) == ["Full of love."]
    assert len(captions(train["expresso:ex04-ex02_disgusted_012_channel1_segment_50.0_59.58"])) == 2
    assert list(place.cuts("paraspeechcaps_test")) == ["ears:p002/whisper"]
    where = [("bad_row", f"train_base.jsonl:{line}") for line in (4, 5, 6)]
    assert reasons(place.skipped("paraspeechcaps")) == [*where, ("no_list", "dev")]


def test_audioset(place):
    (cut,) = place.cuts("audioset_train").values()
    assert cut["id"] == "yt:__p-iA312kg:70000" and labels(cut) == ["Speech", "Male speech, man speaking"]
    assert list(place.cuts("audioset_test")) == ["yt:--4gqARaEJE:0"]
    classes = (place.manifests / "audioset_classes.txt").read_text()
    assert classes == "Speech\nMale speech, man speaking\nPets\n"
    assert ("bad_row", "unbalanced_train_segments.csv:6") in reasons(place.skipped("audioset"))


def test_fsd50k(place):
    assert {key: labels(cut) for key, cut in place.cuts("fsd50k_train").items()} == {"fs:64760": ["Bark", "Animal"]}
    assert (list(place.cuts("fsd50k_valid")), list(place.cuts("fsd50k_test"))) == (["fs:16399"], ["fs:37199"])
    assert (place.manifests / "fsd50k_classes.txt").read_text() == "Animal\nBark\nBell\n"
    assert reasons(place.skipped("fsd50k")) == [
        ("bad_row", "dev.csv:4"),
        ("bad_row", "dev.csv:5"),
        ("bad_row", "eval.csv:3"),
    ]


def test_an_evaluated_clip_with_an_unknown_label_or_split_is_still_kept_out_of_the_sources(place):
    assert listed_keys(place.manifests, "fsd50k", "test") == {"fs:37199", "fs:55555", "fs:99999"}


def test_voxceleb2_holds_out_a_video_of_each_speaker(place):
    train, test = place.cuts("voxceleb2_train"), place.cuts("voxceleb2_test")
    assert len(train) + len(test) == 14 and not train.keys() & test.keys()
    held = {tuple(key.removeprefix("vox:").split("/")[:2]) for key in test}
    assert len([place_ for place_ in held if place_[0] == "id00012"]) == 1 and len(test) == 3 + 1
    assert not {video for _, video in held} & {key.split("/")[1] for key in train} - {"gn81NY9kB7A"}
    assert {key for key in train if "id09999" in key} == {"vox:id09999/onlyOneHere/00001"}
    assert {labels(cut)[0] for cut in test.values()} == {"id00012", "id04284"}
    listed = dict(line.split("\t") for line in (place.manifests / "voxceleb2_split.tsv").read_text().splitlines())
    assert {path for path, split in listed.items() if split == "test"} >= {source(cut) for cut in test.values()}
    skipped = reasons(place.skipped("voxceleb2"))
    assert ("bad_row", "dev/aac/readme/notes.wav") in skipped and (
        "unreadable",
        "vox:id04284/gn81NY9kB7A/00009",
    ) in skipped


def test_a_second_run_changes_no_byte(place):
    before = {path.name: path.read_bytes() for path in place.manifests.iterdir()}
    for corpus in ("audiocaps", "voxceleb2"):
        place.prepare(corpus, "--num-jobs", 1)
    assert {path.name: path.read_bytes() for path in place.manifests.iterdir()} == before


@pytest.fixture(scope="module")
def merged(place):
    result = run(
        "merge_captionstew.py", "--corpora", CORPORA,
        "--manifests-dir", place.manifests, "--output-dir", place.captionstew, "--num-valid", 0,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return place


def test_merge_keeps_benchmark_audio_out_under_every_name(merged):
    removed = list(read_jsonl(merged.captionstew / "removed.jsonl.gz"))
    held = [key for key in merged.cuts("voxceleb2_test") if key == "vox:id00012/21Uxsk56VDQ/00002"]
    expected = {
        ("fs:2219", "too_long", None),
        ("fs:103", "leak", "fs:103:1000-2000"),
        ("yt:7fmOlUlwoNg:20000", "leak", "yt:7fmOlUlwoNg:20000"),
        ("yt:notOnDisk00:40000", "leak", "yt:notOnDisk00:40000"),
        *((key, "leak", key) for key in held),
    }
    assert {(row["key"], row["reason"], row["collides_with"]) for row in removed} == expected
    train = {cut["id"]: cut for cut in read_jsonl(merged.captionstew / "captionstew_train_cuts.jsonl.gz")}
    both = train["yt:__p-iA312kg:70000"]
    assert captions(both) == ["Wind blows, then a door", "A gust and a slammed door"]
    assert both["custom"]["corpus"] == "audiocaps"
    summary = json.loads((merged.captionstew / "summary.json").read_text())
    for counts in summary["sources"].values():
        assert counts["audio_in"] == sum(counts[name] for name in ("too_long", "leak", "merged", "audio_out"))
    assert (
        summary["train"]["audio"] == len(train)
        and "musiccaps" in summary["absent"]
        and "fsd50k" not in summary["absent"]
    )
    assert summary["evaluated"]["audiocaps_test"] == 2


def test_describe_writes_the_report_and_fails_on_a_broken_cut(merged):
    options = ("--manifests-dir", merged.manifests, "--captionstew-dir", merged.captionstew, "--paper", PAPER)
    result = run("describe_cuts.py", *options)
    assert result.returncode == 0, result.stderr
    report = (merged.captionstew / "report.md").read_text()
    assert "| audiocaps train | 3 | 49,838 | 0.0% | 3 |" in report
    assert "| wavcaps | 8 | 1 |" in report and "0 problems" in report
    cuts = merged.captionstew / "captionstew_train_cuts.jsonl.gz"
    whole = cuts.read_bytes()
    cuts.write_bytes(gzip.compress(gzip.decompress(whole).replace(b'"domain":"speech"', b'"domain":"noise"')))
    result = run("describe_cuts.py", *options)
    cuts.write_bytes(whole)
    assert result.returncode == 1 and "domain 'noise'" in result.stderr and len(result.stderr.splitlines()) == 1


def test_tokenizer_of_the_captions(merged, tmp_path):
    def train(name):
        options = ("--cuts", merged.captionstew / "captionstew_train_cuts.jsonl.gz", "--output", tmp_path / name)
        result = run("train_tokenizer.py", *options)
        assert result.returncode == 0, result.stderr
        return tmp_path / name

    path = train("bpe.model")
    assert path.read_bytes() == train("again.model").read_bytes()
    tokenizer = load_tokenizer(path)
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2) and tokenizer.mask_id > 3
    ids, _, _ = tokenizer.encode(["A calm man talks"], 50)
    assert tokenizer.decode(ids) == ["A calm man talks"]


@pytest.mark.parametrize(
    ("corpus", "prepare", "words"),
    [
        ("audiocaps", lambda root: None, "no such folder"),
        ("audiocaps", lambda root: root.mkdir(), "test.csv: no such file"),
        ("clotho", lambda root: root.mkdir(), "no such file"),
        ("wavcaps", lambda root: root.mkdir(), "none of"),
        ("paraspeechcaps", lambda root: root.mkdir(), "none of train_base"),
        ("audioset", lambda root: root.mkdir(), "no such file"),
        ("fsd50k", lambda root: root.mkdir(), "no such file"),
        ("voxceleb2", lambda root: root.mkdir(), "no utterances below dev/"),
    ],
)
def test_a_missing_folder_or_list_is_one_line(tmp_path, corpus, prepare, words):
    prepare(tmp_path / "corpus")
    options = ("--corpus-dir", tmp_path / "corpus", "--manifests-dir", tmp_path / "manifests", "--corpora", CORPORA)
    result = run(f"prepare_{corpus}.py", *options)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and words in result.stderr


def test_parquet_without_pyarrow_is_one_line(tmp_path):
    (tmp_path / "corpus/data").mkdir(parents=True)
    (tmp_path / "corpus/data/train_base-00000-of-00001.parquet").write_bytes(b"PAR1")
    options = ("--corpus-dir", tmp_path / "corpus", "--manifests-dir", tmp_path / "manifests", "--corpora", CORPORA)
    with patch.dict(sys.modules, {"pyarrow": None}):
        result = run("prepare_paraspeechcaps.py", *options)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "pip install pyarrow" in result.stderr


def test_parquet_lists_are_read_and_damaged_ones_are_one_line(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    place = Workplace(tmp_path)
    paths = [f"p00{number}/emo_adoration_sentences.wav" for number in (1, 2)]
    table = pyarrow.table({
        "source": ["ears", "ears"], "relative_audio_path": paths,
        "text_description": [["Full of love.", "Warm."], [" "]], "transcription": ["So dear.", None],
    })  # fmt: skip
    place.audio(*(f"paraspeechcaps/{path}" for path in paths))
    name = place.corpora / "paraspeechcaps/data/train_base-00000-of-00001.parquet"
    name.parent.mkdir()
    parquet.write_table(table, name)
    place.prepare("paraspeechcaps")
    (cut,) = place.cuts("paraspeechcaps_train").values()
    assert captions(cut) == ["Full of love.", "Warm."]
    assert ("bad_row", f"{name.name}:2") in reasons(place.skipped("paraspeechcaps"))
    name.write_bytes(name.read_bytes()[:-30])
    folders = ("--corpus-dir", place.corpora / "paraspeechcaps", "--manifests-dir", place.manifests)
    result = run("prepare_paraspeechcaps.py", *folders, "--corpora", CORPORA)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and name.name in result.stderr
