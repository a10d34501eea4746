# SPDX-License-Identifier: Apache-2.0
"""The overlap figures, counted on excerpts whose overlaps are planted by hand, and on lists that are not there."""

import json

import pytest

from test.recipes.preparation import Workplace, run

AUDIOCAPS = "audiocap_id,youtube_id,start_time,caption\n"
MUSICCAPS = (
    "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval\n"
)


@pytest.fixture
def lists(tmp_path):
    place = Workplace(tmp_path)
    place.text("audiocaps/train.csv", f"{AUDIOCAPS}1,r1nicOVtvkQ,130,a\n2,--4gqARaEJE,50,b\n3,7fmOlUlwoNg,20,c\n")
    place.text("audiocaps/val.csv", f"{AUDIOCAPS}4,vfY_TJq7n_U,130,a\n5,vfY_TJq7n_U,130,b\n")
    place.text("audiocaps/test.csv", f"{AUDIOCAPS}6,7fmOlUlwoNg,20,a\n7,6BJ455B1aAs,0,b\n")
    place.text(
        "audioset/eval_segments.csv",
        '# made\n--4gqARaEJE, 0.000, 10.000, "/m/068hy"\n-0Gj8-vB1q4, 30.000, 40.000, "/m/04rlf"\n'
        '_zeroStart_, 40.000, 50.000, "/m/04rlf"\n',
    )
    place.text("audioset_strong/eval_durations.csv", "Y-0Gj8-vB1q4,10.0\nYnotInEval00,10.0\n")
    place.text(
        "musiccaps/musiccaps-public.csv",
        f'{MUSICCAPS}-0Gj8-vB1q4,30,40,"/m/1","[]","one,\ntwo",4,True,True\n'
        '_zeroStart_,45,55,"/m/1","[]",a,4,True,True\n-0SdAVK79lg,30,40,"/m/1","[]",b,0,False,False\n',
    )
    for name in ("all_ac", "test_ac", "ub8k_esc50_vggsound"):
        content = {"AudioSet": ["Y7fmOlUlwoNg.wav"], "FreeSound": ["100032", "Not found", "7"]}
        place.text(f"wavcaps/blacklist_exclude_{name}.json", json.dumps(content))
    place.text(
        "urbansound8k/us8k.csv", "file_name,label\naudio/fold5/100032-3-0-0.wav,dog\naudio/fold5/9-3-0-0.wav,dog\n"
    )
    place.text(
        "clotho/wavcaps_repo_retrieval_clotho_test.json", json.dumps({"data": [{"id": "9"}, {"id": "Not found"}]})
    )
    place.text("magnatagatune/musicnn_index_mtt.tsv", "2\tf/a.mp3\n6\tc/-b.mp3\n8\tb/c.mp3\n9\t0/d.mp3\n")
    return place


def figures(text):
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0][2:]: row[1] for row in rows[1:]}


def test_overlaps_are_counted_by_the_keys_of_the_merge(lists):
    result = run("count_overlaps.py", "--lists-dir", lists.corpora)
    counted = figures(result.stdout)
    expected = {
        "AudioCaps test clips": 2, "AudioCaps test captions": 2, "AudioCaps val clips": 1,
        "AudioCaps train clips of its own val and test videos": 1, "AudioCaps clips of AudioSet eval videos": 1,
        "AudioSet eval segments": 3, "AudioSet eval ids with an underscore": 1,
        "AudioSet-strong eval clips inside AudioSet eval": 1,
        "MusicCaps eval rows": 2, "MusicCaps eval inside AudioSet eval, same start": 1,
        "MusicCaps balanced rows inside eval": 2, "MusicCaps clips of AudioSet-strong eval": 1,
        "WavCaps blacklist test_ac, FreeSound": 3, "WavCaps blacklist test_ac against AudioCaps test": 1,
        "WavCaps blacklist ub8k_esc50_vggsound against UrbanSound8K": 1, "UrbanSound8K sounds in Clotho evaluation": 1,
        "MagnaTagATune train clips by folder": 2, "MagnaTagATune valid clips by folder": 1,
    }  # fmt: skip
    assert {name: int(counted[name]) for name in expected} == expected
    assert not [name for name in counted if name.startswith(("CREMA-D", "ClothoAQA"))]  # their lists are not here
    assert result.returncode == 1 and "differs" in result.stdout  # an excerpt has not the figures of the whole
    assert "left out: test_ac: FreeSound[1]" not in result.stdout and "FreeSound[1]: 'Not found'" in result.stdout


def test_no_list_at_all_is_no_agreement(tmp_path):
    assert run("count_overlaps.py", "--lists-dir", tmp_path).returncode == 1
    absent = run("count_overlaps.py", "--lists-dir", tmp_path / "absent")
    assert absent.returncode == 1 and len(absent.stderr.splitlines()) == 1
    (tmp_path / "wavcaps").mkdir()
    (tmp_path / "wavcaps/blacklist_exclude_all_ac.json").write_text("[1]")
    damaged = run("count_overlaps.py", "--lists-dir", tmp_path)
    assert damaged.returncode == 1 and damaged.stderr.splitlines()[-1].startswith("error: WavCaps blacklist all_ac")
