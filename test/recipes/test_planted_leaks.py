# SPDX-License-Identifier: Apache-2.0
"""A thousand evaluated clips planted in the sources' own lists, in every form of id and shifted in time.

The real scripts read the lists, the real merge filters: every planted clip has to go, and of nearly three times as many
innocent clips beside them one in a thousand at most. Audio is one file under many names; evaluated clips have none, as
on a disk that lacks them.
"""

import json
import os
import random
import string
from collections import defaultdict

import numpy as np
import pytest
import soundfile

from icefall_alp.data.captions import read_jsonl
from test.recipes.preparation import CORPORA, Workplace, run

LETTERS = string.ascii_letters + string.digits + "-_"
SHIFTS = (-9, -4, 0, 0, 3, 9)
ROUNDS = 84  # twelve planted clips each
INNOCENT = 3


class Planter:
    """Writes the lists of sources and benchmarks, row by row."""

    def __init__(self, place):
        self.place, self.dice = place, random.Random(7)
        self.lines = defaultdict(list)
        self.planted, self.innocent, self.number = set(), set(), 100_000
        (place.corpora / "one").mkdir(parents=True)
        self.wav = place.corpora / "one/silence.wav"
        soundfile.write(self.wav, np.zeros(200), 1000)

    def video(self):
        return (self.dice.choice(["", "", "-", "_", "Y"]) + "".join(self.dice.choices(LETTERS, k=11)))[:11]

    def audio(self, name):
        path = self.place.corpora / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(self.wav, path)

    def youtube(self, evaluated, source):
        """A clip of a source at most nine seconds from an evaluated one, and innocent ones of other videos."""
        start = self.dice.randrange(10, 500)
        video, shifted = self.video(), start + self.dice.choice(SHIFTS)
        self.lines[evaluated].append(f'{video},{start},"people marching, singing",test')
        self.planted.add(source(video, shifted))
        for _ in range(INNOCENT - 1):
            self.innocent.add(source(self.video(), shifted))
        if source != self.wavcaps:  # the same video, where the evaluated clip is over
            self.innocent.add(source(video, start + 10, True))

    def audiosetcaps_vgg(self, video, start, again=False):
        self.lines["audiosetcaps/VGGSound_AudioSetCaps_caption.csv"].append(f"{video}_{start:06d},A crowd.")
        self.audio(f"audiosetcaps/vgg/{video}_{start:06d}.wav")
        return f"yt:{video}:{start}000"

    def audiosetcaps_yt8m(self, video, start, again=False):
        self.lines["audiosetcaps/YouTube-8M_AudioSetCaps_caption.csv"].append(f'{video}_{start}_10,"A crowd, singing."')
        self.audio(f"audiosetcaps/yt8m/{video}_{start}_10.wav")
        return f"yt:{video}:{start}000"

    def fusionaudio(self, video, start, again=False):
        row = {"audio_id": f"{video}_{start}_{start + 10}", "task": "Audio captioning", "output": "A crowd sings."}
        self.lines["fusionaudio/captions.jsonl"].append(json.dumps(row))
        if not again:
            self.audio(f"fusionaudio/{video}.wav")
        return f"yt:{video}:{start}000"

    def audiocaps(self, video, start, again=False):
        self.lines["audiocaps/train.csv"].append(f"1,{video},{start},A crowd sings loudly")
        if not again:
            self.audio(f"audiocaps/Y{video}.wav")
        return f"yt:{video}:{start}000"

    def musiccaps(self, video, start, again=False):
        self.lines["musiccaps/musiccaps-public.csv"].append(
            f'{video},{start},{start + 10},"/m/1","[]","A crowd\nsings.",0,False,False'
        )
        if not again:
            self.audio(f"musiccaps/{video}.wav")
        return f"yt:{video}:{start}000"

    def wavcaps(self, video, start, again=False):
        self.lines["wavcaps AudioSet_SL"].append({"id": f"Y{video}.wav", "caption": "Singing.", "duration": 10.0})
        self.audio(f"wavcaps/AudioSet_SL/Y{video}.wav")
        if self.dice.random() < 0.5:  # a start is known, and then it counts
            self.lines["audioset/unbalanced_train_segments.csv"].append(
                f'{video}, {start}.000, {start + 10}.000, "/m/1"'
            )
            return f"yt:{video}:{start}000"
        return f"yt:{video}:as"

    def freesound(self):
        """A sound of WavCaps that FSD50K evaluates, and others."""
        for number in range(INNOCENT + 1):
            self.number += 1
            self.lines["wavcaps FreeSound"].append({"id": str(self.number), "caption": "A bell.", "duration": 5})
            self.audio(f"wavcaps/FreeSound/{self.number}.wav")
            (self.innocent if number else self.planted).add(f"fs:{self.number}")
            if not number:
                self.lines["fsd50k/FSD50K.ground_truth/eval.csv"].append(f"{self.number},Bell,/m/0395lw")

    def voxceleb(self):
        """An utterance of ParaSpeechCaps that VoxCeleb1 tests, and others of the same video."""
        video, speaker = self.video(), f"id1{self.dice.randrange(10**4):04d}"
        for number in range(INNOCENT + 1):
            path = f"voxceleb1/{speaker}/{video}/{number:05d}"
            row = {"source": "voxceleb", "relative_audio_path": f"{path}_voicefixer.wav", "text_description": ["Calm."]}
            self.lines["paraspeechcaps/train_base.jsonl"].append(json.dumps(row))
            self.audio(f"paraspeechcaps/{path}_voicefixer.wav")
            (self.innocent if number else self.planted).add(f"vox:{speaker}/{video}/{number:05d}")
            if not number:
                self.lines["voxceleb1/iden_split.txt"].append(f"3 {speaker}/{video}/{number:05d}.wav")

    def write(self):
        columns = {
            "audiocaps/train.csv": "audiocap_id,youtube_id,start_time,caption",
            "musiccaps/musiccaps-public.csv": "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,"
            "author_id,is_balanced_subset,is_audioset_eval",
            "audiosetcaps/VGGSound_AudioSetCaps_caption.csv": "id,caption",
            "audiosetcaps/YouTube-8M_AudioSetCaps_caption.csv": "id,caption",
            "fsd50k/FSD50K.ground_truth/eval.csv": "fname,labels,mids",
        }
        for part, short in (("AudioSet_SL", "as"), ("FreeSound", "fsd")):
            rows = json.dumps({"data": self.lines.pop(f"wavcaps {part}")})
            self.place.text(f"wavcaps/json_files/{part}/{short}_final.json", rows)
        for name, lines in self.lines.items():
            header = [columns[name]] if name in columns else []
            self.place.text(name, "\n".join([*header, *lines]) + "\n")
        for name in ("val", "test"):
            self.place.text(f"audiocaps/{name}.csv", columns["audiocaps/train.csv"] + "\n")
        self.place.text("fsd50k/FSD50K.ground_truth/dev.csv", "fname,labels,mids,split\n")
        self.place.text("fsd50k/FSD50K.ground_truth/vocabulary.csv", "0,Bell,/m/0395lw\n")


@pytest.fixture(scope="module")
def planter(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("planted"))
    planter = Planter(place)
    sources = (
        planter.audiosetcaps_vgg, planter.audiosetcaps_yt8m, planter.fusionaudio, planter.audiocaps,
        planter.musiccaps, planter.wavcaps, planter.wavcaps, planter.fusionaudio, planter.audiosetcaps_vgg,
    )  # fmt: skip
    for _ in range(ROUNDS):
        for source in sources:
            planter.youtube("vggsound/vggsound.csv", source)
        planter.freesound()
        planter.freesound()
        planter.voxceleb()
    planter.write()
    for corpus in ("vggsound", "fsd50k", "voxceleb1"):  # no audio of the evaluated clips is here
        options = ("--corpus-dir", place.corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CORPORA)
        assert "can be read there" in run(f"prepare_{corpus}.py", *options).stderr
    for corpus in ("audiocaps", "musiccaps", "audiosetcaps", "fusionaudio", "wavcaps", "paraspeechcaps"):
        starts = ("--audioset-dir", place.corpora / "audioset") if corpus == "wavcaps" else ()
        place.prepare(corpus, *starts)
    options = ("--manifests-dir", place.manifests, "--output-dir", place.captionstew, "--num-valid", 0)
    result = run("merge_captionstew.py", "--corpora", CORPORA, *options)
    assert result.returncode == 0, result.stderr
    return planter


def test_every_planted_clip_leaves_and_innocent_ones_stay(planter):
    assert len(planter.planted) >= 1000 and len(planter.innocent) >= 2800
    kept = {cut["id"] for cut in read_jsonl(planter.place.captionstew / "captionstew_train_cuts.jsonl.gz")}
    assert kept <= planter.planted | planter.innocent
    assert not kept & planter.planted
    assert len(planter.innocent - kept) <= len(planter.innocent) / 1000
    removed = list(read_jsonl(planter.place.captionstew / "removed.jsonl.gz"))
    leaks = {row["key"]: row for row in removed if row["reason"] == "leak"}
    assert leaks.keys() >= planter.planted and all(row["collides_with"] and row["benchmark"] for row in removed)
    summary = json.loads((planter.place.captionstew / "summary.json").read_text())
    assert summary["leaks"]["wavcaps"]["fsd50k_test"] == 2 * ROUNDS
    assert summary["leaks"]["paraspeechcaps"]["voxceleb1_test"] == ROUNDS


def test_strict_mode_drops_the_whole_video(planter):
    place = planter.place
    options = ("--manifests-dir", place.manifests, "--output-dir", place.captionstew.parent / "strict", "--strict")
    assert run("merge_captionstew.py", "--corpora", CORPORA, *options).returncode == 0
    kept = list(read_jsonl(place.captionstew.parent / "strict/captionstew_train_cuts.jsonl.gz"))
    evaluated = {key.split(":")[1] for key in planter.planted if key.startswith("yt:")}
    assert kept and not {cut["id"].split(":")[1] for cut in kept if cut["id"].startswith("yt:")} & evaluated
    assert not [cut for cut in kept if cut["id"].startswith("vox:")]  # each is of a video with a tested utterance


def test_the_audit_finds_the_planted_clips_before_the_merge_and_none_after(planter):
    place = planter.place
    options = ("--corpora", CORPORA, "--manifests-dir", place.manifests)
    audit = "../../../../tools/audit_leaks.py"
    before = run(audit, "--cuts", place.manifests / "wavcaps_train_cuts.jsonl.gz", *options,
                 "--output", place.captionstew / "found.jsonl.gz")  # fmt: skip
    assert before.returncode == 1 and f"| fsd50k_test | {2 * ROUNDS} |" in before.stdout
    assert f"wavcaps: {4 * ROUNDS:,} of" in before.stdout
    found = list(read_jsonl(place.captionstew / "found.jsonl.gz"))
    assert {row["key"] for row in found} == {k for k in planter.planted if k in {row["cut"] for row in found}}
    after = run(audit, "--cuts", place.captionstew / "captionstew_train_cuts.jsonl.gz", *options)
    assert after.returncode == 0 and "| vggsound_test | 0 | 0 |" in after.stdout
    cuts = place.captionstew / "captionstew_train_cuts.jsonl.gz"
    again = run(audit, "--cuts", cuts, "--evaluated", cuts)
    assert again.returncode == 1 and "| captionstew_train | " in again.stdout
    cuts.with_name("theirs.jsonl").write_text('{"id": "180913"}\n')
    unknown = run(audit, "--cuts", cuts, "--evaluated", cuts.with_name("theirs.jsonl"))
    assert unknown.returncode == 1 and len(unknown.stderr.splitlines()) == 1 and "line 1: '180913'" in unknown.stderr
    nothing = run(audit, "--cuts", place.captionstew / "captionstew_train_cuts.jsonl.gz")
    assert nothing.returncode == 1 and nothing.stderr.startswith("error: nothing is evaluated")
