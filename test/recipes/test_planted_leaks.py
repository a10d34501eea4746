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
ROUNDS = 54  # nineteen planted clips each
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
        if evaluated == "vggsound":
            self.lines["vggsound/vggsound.csv"].append(f'{video},{start},"people marching, singing",test')
        else:
            row = f"{video}_{start}000\t0.100\t2.500\t/m/09x0r"
            self.lines["audioset_strong/audioset_eval_strong.tsv"].append(row)
        self.planted.add(source(video, shifted))
        for _ in range(INNOCENT - 1):
            self.innocent.add(source(self.video(), shifted))
        if source not in (self.wavcaps, self.audiosetcaps):  # the same video, where the evaluated clip is over
            self.innocent.add(source(video, start + 10, True))

    def audiosetcaps(self, video, start):
        self.lines["audiosetcaps/AudioSetCaps_caption.csv"].append(f"Y{video},A crowd.")
        self.audio(f"audiosetcaps/audioset/Y{video}.wav")
        return self.segment(video, start)

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
        self.audio(f"fusionaudio/{video}{f'_{start}' * again}.wav")
        return f"yt:{video}:{start}000"

    def audiocaps(self, video, start, again=False):
        rows = self.lines["audiocaps/train.csv"]
        rows.append(f"{len(rows)},{video},{start},A crowd sings loudly")
        self.audio(f"audiocaps/Y{video}{f'_{start}' * again}.wav")
        return f"yt:{video}:{start}000"

    def musiccaps(self, video, start, again=False):
        self.lines["musiccaps/musiccaps-public.csv"].append(
            f'{video},{start},{start + 10},"/m/1","[]","A crowd\nsings.",0,False,False'
        )
        self.audio(f"musiccaps/{video}{f'_{start}' * again}.wav")
        return f"yt:{video}:{start}000"

    def wavcaps(self, video, start):
        self.lines["wavcaps AudioSet_SL"].append({"id": f"Y{video}.wav", "caption": "Singing.", "duration": 10.0})
        self.audio(f"wavcaps/AudioSet_SL/Y{video}.wav")
        return self.segment(video, start)

    def segment(self, video, start):
        """The key of a clip of AudioSet: of every other one the start is known, and then it counts."""
        if self.dice.random() < 0.5:
            row = f'{video}, {start}.000, {start + 10}.000, "/m/1"'
            self.lines["audioset/unbalanced_train_segments.csv"].append(row)
            return f"yt:{video}:{start}000"
        return f"yt:{video}:as"

    def freesound(self, evaluated, source):
        """A sound of a source that a benchmark evaluates, and others."""
        for number in range(INNOCENT + 1):
            self.number += 1
            (self.innocent if number else self.planted).add(source(self.number))
            if not number:
                evaluated(self.number)

    def wavcaps_sound(self, sound):
        self.lines["wavcaps FreeSound"].append({"id": str(sound), "caption": "A bell.", "duration": 5})
        self.audio(f"wavcaps/FreeSound/{sound}.wav")
        return f"fs:{sound}"

    def clotho_crop(self, sound, folder="development"):
        start = self.dice.randrange(30)
        crop = f'"[{start * 44100}, {(start + 20) * 44100}]"'
        self.lines[f"clotho/clotho_metadata_{folder}.csv"].append(f"bell {sound}.wav,bell,{sound},link,{crop},me,cc0")
        self.lines[f"clotho/clotho_captions_{folder}.csv"].append(f"bell {sound}.wav,One,Two,Three,Four,Five")
        if folder == "development":
            self.audio(f"clotho/development/bell {sound}.wav")
        return f"fs:{sound}:{start * 1000}-{(start + 20) * 1000}"

    def clotho_test(self, sound):
        self.clotho_crop(sound, "evaluation")

    def fsd50k(self, sound):
        self.lines["fsd50k/FSD50K.ground_truth/eval.csv"].append(f"{sound},Bell,/m/0395lw")

    def urbansound8k(self, sound):
        row = f"{sound}-3-0-0.wav,{sound},58.5,62.5,1,5,3,dog_bark"
        self.lines["urbansound8k/metadata/UrbanSound8K.csv"].append(row)

    def esc50(self, sound):
        self.lines["esc50/meta/esc50.csv"].append(f"1-{sound}-A-0.wav,1,0,dog,True,{sound},A")

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
            "audiosetcaps/AudioSetCaps_caption.csv": "id,caption",
            "audioset_strong/audioset_eval_strong.tsv": "segment_id\tstart_time_seconds\tend_time_seconds\tlabel",
            "fsd50k/FSD50K.ground_truth/eval.csv": "fname,labels,mids",
            "urbansound8k/metadata/UrbanSound8K.csv": "slice_file_name,fsID,start,end,salience,fold,classID,class",
            "esc50/meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take",
        }
        metadata = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license"
        names = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5"
        for folder in ("development", "validation", "evaluation"):
            for name, header in (("metadata", metadata), ("captions", names)):
                columns[f"clotho/clotho_{name}_{folder}.csv"] = header
                self.lines[f"clotho/clotho_{name}_{folder}.csv"] += []
        for part, short in (("AudioSet_SL", "as"), ("FreeSound", "fsd")):
            rows = json.dumps({"data": self.lines.pop(f"wavcaps {part}")})
            self.place.text(f"wavcaps/json_files/{part}/{short}_final.json", rows)
        for name, lines in self.lines.items():
            header = [columns[name]] if name in columns else []
            self.place.text(name, "\n".join([*header, *lines]) + "\n")
        for name in ("val", "test"):
            self.place.text(f"audiocaps/{name}.csv", columns["audiocaps/train.csv"] + "\n")
        strong = columns["audioset_strong/audioset_eval_strong.tsv"]
        self.place.text("audioset_strong/audioset_train_strong.tsv", f"{strong}\n")
        self.place.text("audioset_strong/mid_to_display_name.tsv", "/m/09x0r\tSpeech\n")
        self.place.text("fsd50k/FSD50K.ground_truth/dev.csv", "fname,labels,mids,split\n")
        self.place.text("fsd50k/FSD50K.ground_truth/vocabulary.csv", "0,Bell,/m/0395lw\n")


@pytest.fixture(scope="module")
def planter(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("planted"))
    planter = Planter(place)
    of_vggsound = (
        planter.audiosetcaps, planter.audiosetcaps_vgg, planter.audiosetcaps_yt8m, planter.fusionaudio,
        planter.audiocaps, planter.musiccaps, planter.wavcaps,
    )  # fmt: skip
    of_strong = (planter.audiosetcaps, planter.audiosetcaps_vgg, planter.fusionaudio, planter.wavcaps)
    for _ in range(ROUNDS):
        for evaluated, sources in (("vggsound", of_vggsound), ("audioset_strong", of_strong)):
            for source in sources:
                planter.youtube(evaluated, source)
        for evaluated in (planter.fsd50k, planter.urbansound8k, planter.esc50):
            planter.freesound(evaluated, planter.wavcaps_sound)
            planter.freesound(evaluated, planter.clotho_crop)
        planter.freesound(planter.clotho_test, planter.wavcaps_sound)
        planter.voxceleb()
    planter.write()
    for corpus in ("vggsound", "audioset_strong", "fsd50k", "urbansound8k", "esc50", "voxceleb1"):
        place.prepare(corpus)  # no audio of the evaluated clips is here
    assert not list(place.manifests.glob("*_cuts.jsonl.gz"))
    for corpus in ("audiocaps", "clotho", "musiccaps", "audiosetcaps", "fusionaudio", "wavcaps", "paraspeechcaps"):
        starts = ("--audioset-dir", place.corpora / "audioset") if corpus in ("audiosetcaps", "wavcaps") else ()
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
    found = json.loads((planter.place.captionstew / "summary.json").read_text())["leaks"]
    for benchmark in ("fsd50k_test", "urbansound8k_test", "esc50_test"):
        assert found["wavcaps"][benchmark] == found["clotho"][benchmark] == ROUNDS
    assert found["wavcaps"]["clotho_test"] == found["paraspeechcaps"]["voxceleb1_test"] == ROUNDS
    assert found["audiosetcaps"]["audioset_strong_test"] == 2 * ROUNDS
    assert found["audiosetcaps"]["vggsound_test"] == 3 * ROUNDS


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
    assert before.returncode == 1 and f"| fsd50k_test | {ROUNDS} |" in before.stdout
    assert f"wavcaps: {6 * ROUNDS:,} of" in before.stdout
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
