# SPDX-License-Identifier: Apache-2.0
"""A clip that may be evaluated stays out of the sources although its row is damaged, as long as its id can be read."""

import json

import pytest

from icefall_alp.data.captions import read_jsonl
from icefall_alp.data.manifests import listed_keys
from test.recipes.preparation import CORPORA, Workplace, run

EMPTY = {
    "audiocaps": {f"{name}.csv": "audiocap_id,youtube_id,start_time,caption\n" for name in ("train", "val", "test")},
    "clotho": {
        name: text
        for part in ("development", "validation", "evaluation")
        for name, text in (
            (f"clotho_captions_{part}.csv", "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"),
            (f"clotho_metadata_{part}.csv", "file_name,keywords,sound_id,sound_link,start_end_samples\n"),
        )
    },
    "musiccaps": {"musiccaps-public.csv": "ytid,start_s,end_s,caption,author_id,is_audioset_eval\n"},
    "audioset": {
        "class_labels_indices.csv": 'index,mid,display_name\n0,/m/09x0r,"Speech"\n',
        "balanced_train_segments.csv": "# nothing\n",
        "eval_segments.csv": "# nothing\n",
    },
    "audioset_strong": {
        "mid_to_display_name.tsv": "/m/09x0r\tSpeech\n",
        **{
            f"audioset_{part}_strong.tsv": "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
            for part in ("train", "eval")
        },
    },
    "fsd50k": {
        "FSD50K.ground_truth/vocabulary.csv": "0,Bell,/m/0395lw\n",
        "FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n",
        "FSD50K.ground_truth/eval.csv": "fname,labels,mids\n",
    },
    "vggsound": {"vggsound.csv": "---g-f_I2yQ,1,people marching,train\n"},
    "voxceleb1": {"iden_split.txt": "1 id10001/1zcIwhmdeo4/00001.wav\n"},
    "cremad": {"SentenceFilenames.csv": '"Stimulus_Number","Filename"\n'},
    "urbansound8k": {"metadata/UrbanSound8K.csv": "slice_file_name,fsID,start,end,salience,fold,classID,class\n"},
    "esc50": {"meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n"},
    "paraspeechcaps": {"holdout.jsonl": ""},
}
LINK = "https://freesound.org/people/Benboncan/sounds/80399"
VOX = "voxceleb2/dev/aac/id00012/21Uxsk56VDQ/00002_voicefixer.wav"
CASES = [  # corpus, list, damaged row, the key that has to count as evaluated
    ("vggsound", "vggsound.csv", b"-GLk_G9U09A,30,people marching,Test", "yt:-GLk_G9U09A:30000"),
    ("vggsound", "vggsound.csv", b"-GLk_G9U09A,soon,people marching,test", "yt:-GLk_G9U09A:as"),
    ("vggsound", "vggsound.csv", b"-GLk_G9U09A,30,people marching", "yt:-GLk_G9U09A:as"),
    ("vggsound", "vggsound.csv", b'-GLk_G9U09A,30,"people marching,test', "yt:-GLk_G9U09A:as"),
    ("vggsound", "vggsound.csv", b"-GLk_G9U09A,30,caf\xe9,test", "yt:-GLk_G9U09A:as"),
    ("fsd50k", "FSD50K.ground_truth/dev.csv", b"64760,Bell,/m/0395lw,Val", "fs:64760"),
    ("fsd50k", "FSD50K.ground_truth/eval.csv", b'64760,"Bell,/m/0395lw', "fs:64760"),
    ("audioset", "eval_segments.csv", b'-GLk_G9U09A, 0.000, 10.000, "/m/09x0r', "yt:-GLk_G9U09A:as"),
    ("audioset", "eval_segments.csv", b'-GLk_G9U09A, zero, 10.000, "/m/09x0r"', "yt:-GLk_G9U09A:as"),
    ("audioset_strong", "audioset_eval_strong.tsv", b"-GLk_G9U09A_30000\t0.1\t/m/09x0r", "yt:-GLk_G9U09A:as"),
    ("voxceleb1", "iden_split.txt", b"4 id10003/na8-QEFmj44/00003.wav", "vox:id10003/na8-QEFmj44/00003"),
    ("voxceleb1", "iden_split.txt", b"id10003/na8-QEFmj44/00003.wav", "vox:id10003/na8-QEFmj44/00003"),
    ("cremad", "SentenceFilenames.csv", b'7,"1001_DFA_ANG_XX', "crema:1001_DFA_ANG_XX"),
    ("urbansound8k", "metadata/UrbanSound8K.csv", b"100032-3-0-0.wav,0.0,0.3,1,5,3,dog_bark", "fs:100032"),
    ("urbansound8k", "metadata/UrbanSound8K.csv", b"100032,0.0,0.3,1,5,3,dog_bark", "fs:100032"),
    ("esc50", "meta/esc50.csv", b"1-100032-A-0.wav,1,0,dog,True,A", "fs:100032/A"),
    ("esc50", "meta/esc50.csv", b"1,0,dog,True,100032,A", "fs:100032"),
    ("musiccaps", "musiccaps-public.csv", b"-GLk_G9U09A,30,40,A harp.,4,yes", "yt:-GLk_G9U09A:30000"),
    ("musiccaps", "musiccaps-public.csv", b"-GLk_G9U09A,half,40,A harp.,4,True", "yt:-GLk_G9U09A:as"),
    ("musiccaps", "musiccaps-public.csv", b'-GLk_G9U09A,30,40,"A harp.,4,True', "yt:-GLk_G9U09A:as"),
    ("audiocaps", "test.csv", b'9,-GLk_G9U09A,30,"A dog', "yt:-GLk_G9U09A:as"),
    ("audiocaps", "test.csv", b"9,-GLk_G9U09A,,A dog", "yt:-GLk_G9U09A:as"),
    ("clotho", "clotho_metadata_evaluation.csv", f'Radio.wav,"radio,80399,{LINK},'.encode(), "fs:80399"),
    ("paraspeechcaps", "holdout.jsonl", f'{{"relative_audio_path": "{VOX}", "te'.encode(),
     "vox:id00012/21Uxsk56VDQ/00002"),
    ("paraspeechcaps", "holdout.jsonl", json.dumps({"source": "VoxCeleb", "relative_audio_path": VOX}).encode(),
     "vox:id00012/21Uxsk56VDQ/00002"),
    ("paraspeechcaps", "holdout.jsonl", b'{"relative_audio_path": "p001/emo_anger.wav", "source": 1}',
     "ears:p001/emo_anger"),
]  # fmt: skip


def fill(place, corpus):
    for name, text in EMPTY[corpus].items():
        place.text(f"{corpus}/{name}", text)


def prepare(place, corpus):
    options = ("--corpus-dir", place.corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CORPORA)
    return run(f"prepare_{corpus}.py", *options)


@pytest.mark.parametrize(("corpus", "name", "row", "key"), CASES)
def test_a_damaged_row_that_may_be_evaluated_still_names_its_clip(tmp_path, corpus, name, row, key):
    place = Workplace(tmp_path)
    fill(place, corpus)
    place.text(f"{corpus}/{name}", EMPTY[corpus][name].encode() + row + b"\n")
    prepare(place, corpus)
    (entry,) = (entry for entry in place.skipped(corpus) if entry["reason"] == "bad_row")
    assert entry["where"].startswith(name.split("/")[-1])
    assert key in listed_keys(place.manifests, corpus, "test"), entry


def test_a_damaged_row_of_a_training_list_evaluates_nothing(tmp_path):
    place = Workplace(tmp_path)
    fill(place, "audiocaps")
    place.text("audiocaps/train.csv", EMPTY["audiocaps"]["train.csv"] + '9,-GLk_G9U09A,30,"A dog\n')
    prepare(place, "audiocaps")
    assert not listed_keys(place.manifests, "audiocaps", "test")
    assert place.skipped("audiocaps")[0]["split"] == "train"


def test_an_evaluated_clotho_clip_whose_captions_are_lost_is_still_kept_out_of_the_sources(tmp_path):
    place = Workplace(tmp_path)
    fill(place, "clotho")
    metadata = f'Radio.wav,radio,80399,{LINK},"[44100, 88200]"\n'
    name = "clotho_metadata_evaluation.csv"
    place.text(f"clotho/{name}", EMPTY["clotho"][name] + metadata)
    name = "clotho_captions_evaluation.csv"
    place.text(f"clotho/{name}", EMPTY["clotho"][name] + 'Radio.wav,"A voice,b,c,d,e\n')
    prepare(place, "clotho")
    assert listed_keys(place.manifests, "clotho", "test") == {"fs:80399:1000-2000"}


def test_the_merge_removes_a_clip_whose_evaluated_row_has_a_split_in_the_wrong_case(tmp_path):
    place = Workplace(tmp_path)
    place.text("vggsound/vggsound.csv", "-GLk_G9U09A,30,people marching,Test\n__p-iA312kg,70,waterfall,train\n")
    place.audio("vggsound/__p-iA312kg_000070.wav")
    place.prepare("vggsound")
    rows = "-GLk_G9U09A_000030,A crowd walks.\n-GLk_G9U09A_000300,Nobody walks.\n"
    place.text("audiosetcaps/VGGSound_AudioSetCaps_caption.csv", f"id,caption\n{rows}")
    place.audio("audiosetcaps/-GLk_G9U09A_000030.wav", "audiosetcaps/-GLk_G9U09A_000300.wav")
    place.prepare("audiosetcaps")
    options = ("--manifests-dir", place.manifests, "--output-dir", place.captionstew, "--num-valid", 0)
    assert run("merge_captionstew.py", "--corpora", CORPORA, *options).returncode == 0
    kept = [cut["id"] for cut in read_jsonl(place.captionstew / "captionstew_train_cuts.jsonl.gz")]
    assert kept == ["yt:-GLk_G9U09A:300000"]
