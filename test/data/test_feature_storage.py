# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from icefall_alp.data import feature_storage
from icefall_alp.data.captions import AudioHeader, CaptionedAudio, jsonl_writer, make_cut, read_jsonl
from icefall_alp.data.fbank import Fbank
from icefall_alp.data.feature_storage import store_features
from icefall_alp.data.shards import FeatureShards
from icefall_alp.utils.errors import UserError


@pytest.fixture
def corpus(tmp_path):
    """Eleven clips, of which five cannot be stored; returns a function that stores them and the path of one."""
    root = tmp_path / "corpus"
    root.mkdir()
    rates = {"-a.wav": 16000, "_b.wav": 44100, "c.wav": 8000, "d.wav": 48000, "e.wav": 16000, "f.wav": 22050}
    for name, rate in rates.items():
        soundfile.write(root / name, 0.1 * np.random.default_rng(rate).standard_normal((rate, 2)), rate)
    (root / "text.wav").write_text("this is no audio")
    soundfile.write(root / "nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(root / "short.wav", np.zeros(1300), 16000)
    soundfile.write(root / "cut_off.wav", np.zeros(8000), 16000)
    durations = {**dict.fromkeys([*rates, "text.wav", "nan.wav", "cut_off.wav", "gone.wav"], 1.0), "short.wav": 0.08125}
    with jsonl_writer(tmp_path / "cuts.jsonl.gz") as write:
        for name in sorted(durations):
            rate = rates.get(name, 16000)
            header = AudioHeader(rate, 2, round(rate * durations[name]))
            write(make_cut(CaptionedAudio(f"fs:{name}", name, "train", ("noise", "hiss")), header, "toy", "sound"))

    def run(num_jobs=1, roots=None, kind="fbank"):
        roots = {"toy": root} if roots is None else roots
        return store_features(
            tmp_path / "cuts.jsonl.gz", tmp_path / "out", roots, 2, num_jobs, kind, max_skipped_share=0.5
        )

    return run, root, tmp_path / "out"


def test_stores_what_it_can_and_lists_the_rest(corpus):
    run, root, folder = corpus
    report = run()
    assert (report.num_cuts, report.num_computed, report.num_seconds) == (6, 6, 6.0)
    skipped = [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]
    reasons = {entry["id"]: entry["reason"].split(":")[0] for entry in skipped}
    assert reasons == {
        "fs:text.wav": "unreadable", "fs:nan.wav": "NaN or infinite samples", "fs:cut_off.wav": "ends early",
        "fs:gone.wav": "no such file", "fs:short.wav": "shorter than 9 frames",
    }  # fmt: skip
    shards = FeatureShards(folder)
    assert [cut.id for cut in shards.cuts] == [f"fs:{name}.wav" for name in ("-a", "_b", "c", "d", "e", "f")]
    supervision = shards.cuts[1].supervisions[0]
    assert supervision.custom["captions"][1] == {"text": "hiss", "source": "toy"}
    assert shards.cuts[1].custom["corpus"] == "toy"
    samples, _ = soundfile.read(root / "-a.wav", dtype="float32")
    waveform = torch.from_numpy(samples.mean(axis=1))
    assert np.array_equal(shards.features(0), Fbank()(waveform[None], torch.tensor([len(waveform)]))[0][0].numpy())


def test_a_second_run_computes_only_what_changed(corpus):
    run, root, folder = corpus
    run()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run().num_computed == 0
    # Killed after two shards: no index for the third, a temporary file, no list of what was skipped.
    (folder / "index.000002.json").unlink()
    (folder / "skipped.jsonl").unlink()
    (folder / ".features.000002.tar.tmp-1").write_bytes(b"half")
    with pytest.raises(UserError, match="no complete set of features"):
        FeatureShards(folder)
    assert run().num_computed == len(list(read_jsonl(folder / "cuts.000002.jsonl.gz")))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    soundfile.write(root / "e.wav", np.zeros(16000), 16000)
    assert 0 < run().num_computed <= 2
    assert len(FeatureShards(folder)) == 6


@pytest.mark.parametrize("name", ["fbank.py", "fbank_loops.py", "fbank_loops.c"])
def test_other_code_stores_everything_anew(corpus, name, tmp_path, monkeypatch):
    run, _, _ = corpus
    run()
    edited = tmp_path / name
    (original,) = (path for path in feature_storage.CODE if path.name == name)
    edited.write_bytes(original.read_bytes() + b"\n")
    monkeypatch.setattr(feature_storage, "CODE", [edited if p == original else p for p in feature_storage.CODE])
    assert run().num_computed == 6


@pytest.mark.parametrize("kind", ["fbank", "audio"])
def test_a_shard_that_was_found_damaged_is_stored_anew(corpus, kind):
    run, _, folder = corpus
    run(kind=kind)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    path = sorted(folder.glob("*.tar"))[1]
    path.write_bytes(path.read_bytes()[:1000] + b"????" + path.read_bytes()[1004:])
    position = np.load(folder / "clips.npy")["shard"].tolist().index(1)
    with pytest.raises(UserError, match="run stage 2 again, which stores it anew"):
        FeatureShards(folder).features(position)
    assert 0 < run(kind=kind).num_computed <= 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run(kind=kind).num_computed == 0 and len(FeatureShards(folder).features(position)) == 100


def test_processes_write_the_same_shards(corpus, tmp_path):
    run, _, folder = corpus
    run()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.rename(tmp_path / "old")
    assert run(num_jobs=2).num_computed == 6
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_unknown_or_moved_corpus_is_one_error(corpus, tmp_path, num_jobs):
    run, _, _ = corpus
    with pytest.raises(UserError, match=r"corpus 'toy', whose folder is not known; known: other$"):
        run(num_jobs, {"other": tmp_path})
    with pytest.raises(UserError, match=r"nowhere of corpus toy is gone"):
        run(num_jobs, {"toy": tmp_path / "nowhere"})


def test_nothing_stored_is_an_error(tmp_path):
    header = AudioHeader(16000, 1, 16000)
    with jsonl_writer(tmp_path / "cuts.jsonl.gz") as write:
        write(make_cut(CaptionedAudio("fs:1", "1.wav", "train", ("x",)), header, "toy", "sound"))
    with pytest.raises(UserError, match="no such file"):
        store_features(tmp_path / "cuts.jsonl.gz", tmp_path / "out", {"toy": tmp_path}, 10, 1)


def test_audio_is_stored_for_features_on_the_fly(corpus):
    run, _, folder = corpus
    run(kind="audio")
    audio = FeatureShards(folder)
    assert audio.kind == "audio" and len(audio) == 6 and audio.num_frames.tolist() == [100] * 6
    paths = {name: [str(path) for path in sorted(folder.glob(f"{name}.*"))] for name in ("cuts", "recording")}
    for position, cut in enumerate(CutSet.from_shar(fields=paths)):
        assert cut.id == audio.cuts[position].id
        assert np.abs(cut.load_audio()[0] - audio.waveform(position)).max() <= 1e-7
    on_the_fly = [audio_features(audio, position) for position in range(6)]
    run(kind="fbank")
    stored = FeatureShards(folder)
    assert stored.kind == "fbank" and not list(folder.glob("recording.*"))
    for position in range(6):
        assert np.median(np.abs(stored.features(position) - on_the_fly[position])) < 1e-3
    with pytest.raises(UserError, match="on_the_fly"):
        stored.waveform(0)


def audio_features(shards, position):
    waveform = torch.from_numpy(shards.waveform(position))
    return Fbank()(waveform[None], torch.tensor([len(waveform)]))[0][0].numpy()


BAD = ("0 bytes", "truncated", "NaN", "0 s", "2 h", "no audio")
FINE = ("other rate", "stereo", "8 bit")


def write_bad(path, kind):
    """One file of each fault; `FINE` are unusual but usable."""
    second = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(path, second, 16000)
    if kind == "0 bytes":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "NaN":
        soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT")
    elif kind == "0 s":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind == "2 h":
        soundfile.write(path, np.zeros(8 * 7200), 8)
    elif kind == "no audio":
        path.write_text("this is no audio")
    elif kind == "other rate":
        soundfile.write(path, second, 11025)
    elif kind == "stereo":
        soundfile.write(path, np.stack([second, second], axis=1), 16000)
    elif kind == "8 bit":
        soundfile.write(path, second, 16000, subtype="PCM_U8")


@pytest.mark.parametrize("kind", ["fbank", "audio"])
def test_a_twentieth_of_bad_audio_is_listed_with_its_cause_and_more_is_an_error(tmp_path, kind):
    root = tmp_path / "corpus"
    root.mkdir()
    bad = {number: BAD[number // 20] for number in range(0, 20 * len(BAD), 20)}
    usable = {number + 1: FINE[number] for number in range(len(FINE))}
    with jsonl_writer(tmp_path / "cuts.jsonl.gz") as write:
        for number in range(20 * len(BAD)):
            fault = bad.get(number) or usable.get(number, "")
            write_bad(root / f"{number}.wav", fault)
            rate, seconds = (11025, 16000 / 11025) if fault == "other rate" else (16000, 1)
            header = AudioHeader(rate, 1, round(rate * (7200 if fault == "2 h" else seconds)))
            write(make_cut(CaptionedAudio(f"fs:{number}", f"{number}.wav", "train", ("x",)), header, "toy", "sound"))
    folder = tmp_path / "out"
    arguments = (tmp_path / "cuts.jsonl.gz", folder, {"toy": root}, 50, 1, kind)
    report = store_features(*arguments)
    skipped = [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]
    assert {entry["id"] for entry in skipped} == {f"fs:{number}" for number in bad}
    assert all(entry["reason"] and entry["path"] for entry in skipped)
    assert report.num_cuts == len(FeatureShards(folder)) == 19 * len(BAD)
    with pytest.raises(UserError, match=r"6 of 120 cuts .* more than the share of 0\.04"):
        store_features(*arguments, max_skipped_share=0.04)
    assert len((folder / "too_many_skipped.jsonl").read_text().splitlines()) == 6
    with pytest.raises(UserError, match="no complete set"):
        FeatureShards(folder)
