# SPDX-License-Identifier: Apache-2.0
"""The filter agrees with comparing every pair; the audit reads cutsets of others; planted clips are all found."""

import gzip
import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut, Recording
from lhotse.audio import AudioSource

from icefall_alp.data.audio_keys import SCHEMES, AudioKey
from icefall_alp.data.captions import AudioHeader, CaptionedAudio, LabelledAudio, jsonl_writer, make_cut
from icefall_alp.data.leaks import LeakFilter, audit, cutset_keys, evaluated_keys, matrix, read_names
from icefall_alp.utils.errors import UserError


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=12),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=12),
    st.booleans(),
)
def test_the_filter_agrees_with_comparing_every_pair(train, evaluated, strict):
    def key(clip):
        return f"yt:video{clip[0]:06d}:{clip[1] * 1000}"

    leaks = LeakFilter({"odd": map(key, evaluated[::2]), "even": map(key, evaluated[1::2])}, strict)
    for clip in train:
        expected = {
            name
            for name, part in (("odd", evaluated[::2]), ("even", evaluated[1::2]))
            if any(clip[0] == e[0] and (strict or abs(clip[1] - e[1]) < 10) for e in part)
        }
        assert leaks.collisions(key(clip)).keys() == expected


# ---- planted clips --------------------------------------------------------------------------------------------------

LETTERS = string.ascii_letters + string.digits + "-_"


# an evaluated key, and the scheme and name by which a source has audio of it; t is s shifted by less than ten seconds
TEMPLATES = (
    ("yt:{v}:{s}000", "youtube", "Y{v}"),
    ("yt:{v}:{s}000", "youtube", "{v}"),
    ("yt:{v}:{s}000", "youtube", "audio/Y{v}.wav"),
    ("yt:{v}:{s}000", "youtube", "{v}_{s}.mp3"),
    ("yt:{v}:{s}000", "youtube_start", "{v}_{t:06d}.mp4"),
    ("yt:{v}:{s}000", "youtube_start_end", "{v}_{t}_{end}"),
    ("yt:{v}:{s}000", "youtube_start_end", "{v}_{t}.000_{end}.000.wav"),
    ("yt:{v}:{s}000", "youtube_start_seconds", "{v}_{t}_10"),
    ("yt:{v}:{s}000", "youtube_ms", "{v}_{t}000"),
    ("yt:{v}:{s}000", "key", "yt:{v}:{t}000"),
    ("yt:{v}:as", "youtube_start", "{v}_{t}"),
    ("fs:{n}:0-9000", "freesound", "FreeSound/{n}.flac"),
    ("fs:{n}:0-9000", "key", "fs:{n}:9000-12000"),
    ("fs:{n}", "urbansound8k", "fold5/{n}-3-0-17.wav"),
    ("fs:{n}", "esc50", "1-{n}-A-0.wav"),
    ("fs:{n}/B", "freesound", "{n}"),
    ("jam:{n}:30000-60000", "jamendo", "track_{n:07d}.mp3"),
    ("jam:{n}:30000-60000", "key", "jam:{n}:59000-89000"),
    ("bbc:0{n}", "bbc", "0{n}.flac"),
    ("sb:{n}", "soundbible", "{n}.flac"),
    ("vox:id{p:05d}/{v}/00012", "voxceleb", "voxceleb2/dev/aac/id{p:05d}/{v}/00012_voicefixer.wav"),
    ("vox:id{p:05d}/{v}/00012", "voxceleb", "id{p:05d}-{v}-00012"),
    ("expresso:ex04_{n}_50.0_59.58", "expresso", "audio_48khz/ex04_{n}_50.0_59.58.wav"),
    ("emilia:EN_B0_{n}", "emilia", "EN/mp3/EN_B0_{n}.mp3"),
    ("ears:p001/emo_{n}", "ears", "p001/emo_{n}.wav"),
    ("crema:{n}_DFA_ANG_XX", "crema", "AudioWAV/{n}_DFA_ANG_XX.wav"),
    ("ravdess:03-01-{n}", "ravdess", "Actor_01/03-01-{n}.wav"),
    ("iemocap:Ses01F_{n}", "iemocap", "Session1/Ses01F_{n}.wav"),
    ("cv:common_voice_en_{n}", "commonvoice", "clips/common_voice_en_{n}.mp3"),
    ("nsynth:bass_synthetic_{n}-022-050", "nsynth", "bass_synthetic_{n}-022-050"),
    ("mtat:{n}", "magnatagatune", "{n}.mp3"),
)


def planted_rows(dice):
    """A row for each template: evaluated key, scheme, name. No two rows share a video or number."""
    for key, scheme, name in TEMPLATES:
        start = dice.randrange(10, 600)
        shifted = start + dice.randrange(-9, 10)
        video = dice.choice(["", "-", "_", "Y"]) + "".join(dice.choices(LETTERS, k=11))
        fields = {"v": video[:11], "s": start, "t": shifted, "end": shifted + 10, "n": dice.randrange(10**5, 10**12)}
        fields["p"] = dice.randrange(10**5)
        yield key.format(**fields), scheme, name.format(**fields)


def innocent_row(dice, evaluated):
    """Scheme and name of a clip that only looks like an evaluated one."""
    key = AudioKey.parse(dice.choice(evaluated))
    name = key.source.partition(":")[2]
    if key.namespace == "yt":
        later = key.start is not None and dice.random() < 0.5
        if later:  # the same video, where the evaluated clip is over
            return "youtube_start", f"{name}_{key.end // 1000 + dice.randrange(50)}"
        return "youtube", f"Y{name[1:]}{name[0].swapcase() if name[0].isalpha() else 'x'}"  # other letters
    if key.namespace == "jam":
        return "key", f"jam:{name}:60000-90000"
    if key.namespace in ("fs", "sb", "mtat"):  # the number means another thing elsewhere
        return dice.choice(["jamendo", "bbc"]), name
    return "emilia", f"{name}1.wav"


def test_a_thousand_planted_clips_are_all_found_and_innocent_ones_stay():
    dice = random.Random(13)
    planted = [row for _ in range(40) for row in planted_rows(dice)]
    assert len(planted) >= 1000 and {scheme for _, scheme, _ in planted} == set(SCHEMES)
    evaluated = [key for key, _, _ in planted]
    leaks = LeakFilter({"planted": evaluated})
    missed = [row for row in planted if not leaks.collisions(SCHEMES[row[1]](row[2]))]
    assert not missed
    innocent = [innocent_row(dice, evaluated) for _ in range(20_000)]
    dropped = [(scheme, name) for scheme, name in innocent if leaks.collisions(SCHEMES[scheme](name))]
    assert len(dropped) <= 20, dropped[:5]


# ---- lists of names, and the evaluated splits of a manifests folder -------------------------------------------------


def test_names_are_read_by_their_scheme_and_a_wrong_one_is_fatal(tmp_path):
    path = tmp_path / "extra.tsv"
    path.write_text("# a comment\n\nyoutube\tmusic/-BHPu-dPmWQ.wav\nfreesound\t64760.wav\nkey\tsb:2219\n")
    assert read_names(path) == ["yt:-BHPu-dPmWQ:as", "fs:64760", "sb:2219"]
    for line, words in (("youtube\tshort", "holds no YouTube id"), ("radio\t1", "none of the schemes key, youtube")):
        path.write_text(f"key\tsb:1\n{line}\n")
        with pytest.raises(UserError, match=rf"extra\.tsv:2: .*{words}"):
            read_names(path)
    path.write_bytes(b"key\tsb:\xff\n")
    for unreadable in (path, tmp_path / "absent.tsv"):
        with pytest.raises(UserError, match=r"\.tsv: cannot be read as a list of names"):
            read_names(unreadable)


def test_evaluated_keys_are_those_of_prepared_corpora_and_of_lists(tmp_path):
    row = "{role: benchmark, domain: sound, audio: {test: 1}, evaluated: [test]}"
    (tmp_path / "corpora.yaml").write_text(f"here: {row}\nabsent: {row}\n")
    (tmp_path / "evaluated_names").mkdir()
    (tmp_path / "evaluated_names/extra.tsv").write_text("freesound\t7\n")
    manifests = tmp_path / "manifests"
    with jsonl_writer(manifests / "here_test_cuts.jsonl.gz") as write:
        write({"id": "fs:1", "duration": 50.0})
        write({"id": "yt:Yaaaaaaaaaa:30000", "duration": 10.03})
        write({"id": "yt:Ybbbbbbbbbb:30000", "duration": 50.0})
    (manifests / "here_report.json").write_text('{"found": {"test": {"audio": 1}}}')
    assert evaluated_keys(tmp_path / "corpora.yaml", manifests) == {
        "here_test": ["fs:1", "yt:Yaaaaaaaaaa:30000", "yt:Ybbbbbbbbbb:as"], "extra": ["fs:7"],
    }  # fmt: skip


# ---- the audit ------------------------------------------------------------------------------------------------------


def lhotse_cut(name, recording, path):
    audio = Recording(recording, [AudioSource("file", [0], path)], 16000, 160000, 10.0, [0])
    return MonoCut(id=name, start=0.0, duration=10.0, channel=0, recording=audio)


def test_the_audit_reads_what_lhotse_writes_whoever_named_it(tmp_path):
    cuts = CutSet.from_cuts([
        lhotse_cut("a-0", "id00012-21Uxsk56VDQ-00001", "a.wav"),
        lhotse_cut("b", "b", "voxceleb2/dev/aac/id00012/21Uxsk56VDQ/00001_voicefixer.wav"),
        lhotse_cut("YtS9FbMAKnFc", "YtS9FbMAKnFc", "c.flac"),
        lhotse_cut("tS9FbMAKnFc_000200", "tS9FbMAKnFc_000200", "d.flac"),
        lhotse_cut("180913", "180913", "180913.flac"),
        lhotse_cut("m", "YtS9FbMAKnFc", "c.flac").mix(lhotse_cut("n", "180913", "f.flac")),
    ])  # fmt: skip
    cuts.to_file(tmp_path / "theirs_cuts.jsonl")
    leaks = LeakFilter({"vox": ["vox:id00012/21Uxsk56VDQ/00001"], "yt": ["yt:tS9FbMAKnFc:30000"], "fs": ["fs:180913"]})
    found = []
    counts = audit(tmp_path / "theirs_cuts.jsonl", leaks, found=found.append)["theirs"]
    assert (counts.clips, counts.unrecognised, counts.leaking) == (7, 2, 5)
    assert counts.benchmarks == {"vox": 2, "yt": 3}  # the times of other people's names are not trusted
    assert found[0]["collides_with"] == "vox:id00012/21Uxsk56VDQ/00001"
    named = audit(tmp_path / "theirs_cuts.jsonl", leaks, scheme="freesound")["theirs"]
    assert named.benchmarks == {"fs": 2} and named.unrecognised == 5
    timed = audit(tmp_path / "theirs_cuts.jsonl", leaks, scheme="youtube_start")["theirs"]
    assert not timed.benchmarks and timed.unrecognised == 6


def test_any_cutset_says_what_is_evaluated_compressed_or_not(tmp_path):
    cuts = CutSet.from_cuts([
        lhotse_cut("a-0", "id00012-21Uxsk56VDQ-00001", "a.wav"),
        lhotse_cut("YtS9FbMAKnFc", "YtS9FbMAKnFc", "c.flac").pad(duration=12.0),
    ])  # fmt: skip
    ours = make_cut(
        LabelledAudio("airbench:Music_QA/1.wav", "b.wav", "test", ("x",)),
        AudioHeader(1000, 1, 1000),
        "airbench",
        "music",
    )
    for name in ("theirs_cuts.jsonl", "theirs_cuts.jsonl.gz"):
        cuts.to_file(tmp_path / name)
        assert cutset_keys(tmp_path / name) == ["vox:id00012/21Uxsk56VDQ/00001", "yt:tS9FbMAKnFc:as"]
    with jsonl_writer(tmp_path / "ours.jsonl.gz") as write:
        write(ours)
    assert cutset_keys(tmp_path / "ours.jsonl.gz") == ["airbench:Music_QA/1.wav"]
    for cut, words in (({"id": "180913"}, "'180913' does not tell"), ({"type": "MonoCut"}, "'None' does not tell")):
        (tmp_path / "unknown.jsonl").write_text('{"id": "YtS9FbMAKnFc"}\n' + json.dumps(cut) + "\n")
        with pytest.raises(UserError, match=rf"unknown\.jsonl: line 2: {words}"):
            cutset_keys(tmp_path / "unknown.jsonl")


@pytest.mark.parametrize(
    "cut",
    [
        {"recording": "YtS9FbMAKnFc"}, {"recording": {"sources": "a.wav"}}, {"recording": {"sources": ["a.wav"]}},
        {"tracks": "none"}, {"tracks": [1]}, {"tracks": [{"cut": "a"}]}, {"supervisions": {}}, {"supervisions": [[]]},
        {"supervisions": [{"custom": "dog"}]}, {"custom": ["corpus"]}, {"duration": "10"},
    ],
)  # fmt: skip
def test_what_is_no_cut_of_lhotse_is_one_line(tmp_path, cut):
    good = {"id": "YtS9FbMAKnFc", "tracks": None, "recording": None, "supervisions": None, "custom": None}
    captioned = good | {"supervisions": [{"custom": None}, {"custom": {"captions": "A dog."}}]}
    lines = [json.dumps(row) + "\n" for row in (good, captioned, {"id": "a"} | cut)]
    (tmp_path / "cuts.jsonl").write_text("".join(lines[:2]))
    leaks = LeakFilter({"test": ["yt:tS9FbMAKnFc:0"]})
    assert audit(tmp_path / "cuts.jsonl", leaks)["cuts"].leaking == 2
    (tmp_path / "cuts.jsonl").write_text("".join(lines))
    for read in (lambda path: audit(path, leaks), cutset_keys):
        with pytest.raises(UserError, match=r"cuts\.jsonl: line 3 cannot be read as a cut \(\w+ is no "):
            read(tmp_path / "cuts.jsonl")


def test_the_audit_trusts_no_time_of_a_file_that_is_longer_than_its_key(tmp_path):
    cuts = [{"id": f"yt:Y{letter * 10}:30000", "duration": seconds} for letter, seconds in (("a", 10), ("b", 50))]
    (tmp_path / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    leaks = LeakFilter({"test": ["yt:Yaaaaaaaaaa:50000", "yt:Ybbbbbbbbbb:50000"]})
    found = []
    assert audit(tmp_path / "cuts.jsonl", leaks, found=found.append)["cuts"].leaking == 1
    assert found[0]["cut"] == "yt:Ybbbbbbbbbb:30000"


def test_the_audit_counts_by_the_corpora_of_the_captions(tmp_path):
    header = AudioHeader(1000, 1, 1000)
    both = make_cut(CaptionedAudio("fs:1", "a.wav", "train", ("A dog.",)), header, "first", "sound")
    both["supervisions"][0]["custom"]["captions"].append({"text": "It barks.", "source": "second"})
    labelled = make_cut(LabelledAudio("fs:2", "b.wav", "train", ("dog",)), header, "third", "sound")
    with jsonl_writer(tmp_path / "train_cuts.jsonl.gz") as write:
        write(both)
        write(labelled)
    counts = audit(tmp_path / "train_cuts.jsonl.gz", LeakFilter({"test": ["fs:1:0-5"]}))
    assert {source: (c.clips, c.leaking) for source, c in counts.items()} == {
        "first": (1, 1), "second": (1, 1), "third": (1, 0),
    }  # fmt: skip
    assert matrix({source: c.benchmarks for source, c in counts.items()}, ["test", "valid"]) == [
        "| benchmark | first | second | third |",
        "|---|---:|---:|---:|",
        "| test | 1 | 1 | 0 |",
        "| valid | 0 | 0 | 0 |",
    ]
    assert (counts["first"] + counts["third"]).clips == 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (gzip.compress(json.dumps({"id": "fs:1"}).encode() + b"\n{\n", mtime=0), 2),  # names of tests have no clock
        (gzip.compress(b'{"id": "fs:1"}\n', mtime=0)[:-8], 2),  # without the check sum at its end
        (gzip.compress(b"[1]\n", mtime=0), 1),
        (b"not gzip", 1),
    ],
)
def test_a_damaged_cutset_is_one_line(tmp_path, content, line):
    (tmp_path / "cuts.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match=rf"cuts\.jsonl\.gz: line {line} cannot be read"):
        audit(tmp_path / "cuts.jsonl.gz", LeakFilter({}))
    with pytest.raises(UserError, match="absent"):
        audit(tmp_path / "absent.jsonl", LeakFilter({}))
