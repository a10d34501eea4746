# SPDX-License-Identifier: Apache-2.0
"""The embedded corpora: true captions, disjoint sides, published formats, the salt, and the same bytes each time."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict

import numpy as np
import pytest
import soundfile

from icefall_alp.utils.errors import UserError
from test.recipes.embedded import make, rows_of

import make_mini_corpora  # isort: skip  -- test.recipes.embedded says where it lies
from mini import mixing, music, sources, speech  # isort: skip
from mini.captions import describe  # isort: skip
from mini.events import SIDES, TAGS, build_catalogue, mid_of, side_of  # isort: skip
from mini.planned import plan_corpora  # isort: skip
from mini.planning import Planner  # isort: skip
from mini.scenes import _line, draw_scene  # isort: skip
from mini.soundfont import allot_samples, general_midi, read_soundfont, soundfont_path  # isort: skip

BENCHMARK_SPLITS = {"val", "valid", "test", "validation", "evaluation", "dev", "holdout", "eval"}
BY_SPEAKER = ("voxceleb1", "voxceleb2")


def test_a_clip_depends_on_neither_process_nor_order(corpora, items):
    for item in items[:: len(items) // 25][::-1]:
        if item.rate != 16000 or item.path.endswith(".mp3") or not (corpora / item.corpus / item.path).stat().st_size:
            continue
        samples = mixing.render(item.scene, item.key, sources.Recordings(corpora))
        written, rate = soundfile.read(corpora / item.corpus / item.path, dtype="int16")
        assert rate == 16000
        assert np.abs(written - np.round(samples * 32768)).max() <= 1, item.path


def test_a_second_call_does_nothing_and_a_lost_file_is_noticed(corpora, tmp_path):
    before = (corpora / "done.json").stat().st_mtime_ns
    assert "made already" in make(corpora.parent).stdout
    assert (corpora / "done.json").stat().st_mtime_ns == before
    marker = json.loads((corpora / "done.json").read_text())
    assert make_mini_corpora.is_done(corpora, marker["digest"])
    assert not make_mini_corpora.is_done(corpora, "another digest")
    (tmp_path / "done.json").write_text((corpora / "done.json").read_text())
    assert not make_mini_corpora.is_done(tmp_path, marker["digest"])


def test_no_source_is_on_two_sides(clips):
    sides = defaultdict(set)
    for clip in clips:
        if clip["salt"] != "leak":
            sides[clip["side"]] |= set(clip["sources"])
        if clip["split"] in BENCHMARK_SPLITS and clip["corpus"] not in BY_SPEAKER:
            assert clip["side"] == "heldout", clip
    assert set(sides) == {"train", "heldout", "speaker"}
    assert not sides["train"] & sides["heldout"]
    assert not sides["speaker"] & (sides["train"] | sides["heldout"])


def test_no_held_out_event_is_new_to_training(planner):
    assert sum(event.name.startswith("a ") and not event.alone for event in planner.events) >= 15
    for event in planner.events:
        own = [
            {s for voice in event.sides[side] for press in voice for s in general_midi().samples(press)}
            for side in SIDES
        ]
        assert own[0] or not event.voices, event
        assert not own[0] & own[1], event


def test_held_out_notes_sound_the_same_without_the_samples_of_training(planner, tmp_path, monkeypatch):
    # the engine itself is the judge: silence what training plays, then listen to the other side
    used = {
        side: {s for e in planner.events for v in e.sides[side] for p in v for s in general_midi().samples(p)}
        for side in SIDES
    }
    data = bytearray(soundfont_path().read_bytes())
    audio, heads = data.index(b"smpl") + 8, data.index(b"shdr") + 8
    for at in range(heads, heads + int.from_bytes(data[heads - 4 : heads], "little"), 46):
        if bytes(data[at : at + 20]).split(b"\0")[0].decode().strip() in used["train"]:
            start, stop = (2 * int.from_bytes(data[at + o : at + o + 4], "little") for o in (20, 24))
            data[audio + start : audio + stop] = bytes(stop - start)
    (tmp_path / "half.sf2").write_bytes(data)
    rng = np.random.default_rng(0)
    phrases = {
        side: [
            music.Phrase(*voice[n][:2], (music.Note(0.0, 0.1, voice[n][2], 100),))
            for event in planner.events
            for voice in event.sides[side]
            for n in rng.integers(len(voice), size=1)
        ]
        for side in SIDES
    }
    before = [music.play(phrase, 0.1) for phrase in phrases["heldout"]]
    monkeypatch.setattr(music, "soundfont_path", lambda: tmp_path / "half.sf2")
    music._synth.cache_clear()
    try:
        assert all(np.array_equal(music.play(p, 0.1), b) for p, b in zip(phrases["heldout"], before, strict=True))
        assert all(np.abs(music.play(phrase, 0.1)).max() < 1e-4 for phrase in phrases["train"])
    finally:
        music._synth.cache_clear()


def test_a_soundfont_s_tables_are_read_by_key_velocity_and_pair(tmp_path):
    def chunk(name: str, body: bytes) -> bytes:
        return name.encode() + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)

    def numbers(*values: int) -> bytes:
        return b"".join(value.to_bytes(2, "little") for value in values)

    def head(name: str, link: int, kind: int) -> bytes:
        return name.encode().ljust(20, b"\0") + bytes(22) + numbers(link, kind)

    def ends(low: int, high: int) -> int:
        return low + 256 * high

    tables = {
        "phdr": b"one".ljust(20, b"\0") + numbers(5, 0, 0) + bytes(12) + bytes(20) + numbers(0, 0, 1) + bytes(12),
        "pbag": numbers(0, 0, 2, 0), "pgen": numbers(43, ends(20, 90), 41, 0, 0, 0),
        "inst": bytes(20) + numbers(0) + bytes(20) + numbers(3), "ibag": numbers(0, 0, 1, 0, 3, 0, 5, 0),
        "igen": numbers(44, ends(0, 99), 43, ends(0, 60), 53, 0, 44, ends(50, 127), 53, 2, 0, 0),
        "shdr": head("left", 1, 4) + head("right", 0, 2) + head("mono", 0, 1) + head("EOS", 0, 0),
    }  # fmt: skip
    body = b"sfbk" + chunk("LIST", b"pdta" + b"".join(chunk(name, table) for name, table in tables.items()))
    (tmp_path / "tiny.sf2").write_bytes(chunk("RIFF", body))
    font = read_soundfont(tmp_path / "tiny.sf2")
    assert font.samples((0, 5, 30)) == {"left", "right", "mono"}
    assert font.samples((0, 5, 30), 40) == {"left", "right"} and font.samples((0, 5, 30), 110) == {"mono"}
    assert font.samples((0, 5, 61)) == {"mono"} and not font.samples((0, 5, 19))
    assert set(allot_samples(font, [[(0, 5, 30), (0, 5, 61)]]).values()) == {"train"}, "layered: one group"


def test_figures_stay_on_their_keys_and_do_what_their_name_says():
    seen = set()
    for number in range(300):
        rng = np.random.default_rng(number)
        keys = sorted(rng.choice(np.arange(40, 80), int(rng.integers(1, 30)), replace=False).tolist())
        name, line = _line(rng, keys, int(rng.integers(4, 11)))
        seen.add(name)
        steps = np.diff(line)
        assert line and set(line) <= set(keys)
        assert name != "rising" or ((steps > 0).all() and len(line) > 3)
        assert name != "falling" or ((steps < 0).all() and len(line) > 3)
        assert name != "leaping" or ((np.abs(steps) >= 7).all() and len(line) > 3)
        assert name != "chord" or ((steps >= 3).all() and len(line) > 2)
        assert name != "repeated" or (len(set(line)) == 1 and len(line) > 3)
    assert seen == {"rising", "falling", "leaping", "chord", "repeated", "long"}


def test_no_two_utterances_of_a_speaker_share_a_source(clips):
    utterances = [clip["sources"] for clip in clips if clip["corpus"] in BY_SPEAKER]
    listed = [source for named in utterances for source in named]
    assert len(listed) == len(set(listed))


@pytest.fixture(scope="module")
def full_plan(tmp_path_factory):
    """What the corpora hold at their full size, without the audio."""
    return plan_corpora(Planner(sources.Recordings(tmp_path_factory.mktemp("none")), seed=42, scale=1.0))


def test_as_many_held_out_utterances_of_women_as_of_men(full_plan):
    """Else always answering "female" would be right more often than not."""
    heard = [item.details["gender"] for item in full_plan if (item.corpus, item.split) == ("cremad", "test")]
    assert heard.count("female") == heard.count("male") > 100


def test_full_size_reaches_the_numbers_asked_for(full_plan, tmp_path):
    count = defaultdict(int)
    for item in full_plan:
        count[item.corpus, item.split] += 1
    sources_of_captions = ("audiocaps", "clotho", "wavcaps", "paraspeechcaps")  # the others share audio with these
    training = sum(
        n for (corpus, split), n in count.items() if corpus in sources_of_captions and split not in BENCHMARK_SPLITS
    )
    assert training > 2500
    evaluated = (
        "audiocaps",
        "musiccaps",
        "fsd50k",
        "vggsound",
        "cremad",
        "magnatagatune",
        "nsynth",
        "clothoaqa",
        "musicqa",
    )
    assert min(count[corpus, "test"] for corpus in evaluated) >= 200
    assert min(count["audioset", "eval"], count["audioset_strong", "eval"], count["paraspeechcaps", "holdout"]) >= 200
    assert min(count[corpus, "train"] for corpus in evaluated) >= 250
    assert min(count[corpus, "valid"] for corpus in ("cremad", "magnatagatune", "nsynth")) >= 50
    assert count["voxceleb2", "dev"] >= 3 * 200, "a third is held out"
    assert len({event.name for event in build_catalogue(sources.Recordings(tmp_path))}) >= 60
    test_captions = [item.captions for item in full_plan if (item.corpus, item.split) == ("audiocaps", "test")]
    assert len({captions[0] for captions in test_captions}) > 0.9 * len(test_captions)
    assert np.mean([len(set(captions)) for captions in test_captions]) > 4.5


def test_audio_has_sane_levels_and_lengths(corpora, clips):
    long, unreadable, rates = [], [], set()
    for clip in clips:
        try:
            samples, rate = soundfile.read(corpora / clip["corpus"] / clip["path"], always_2d=True)
        except soundfile.LibsndfileError:
            unreadable.append(clip["path"])
            continue
        rates.add((rate, samples.shape[1]))
        peak, seconds = np.abs(samples).max(), len(samples) / rate
        assert 0.05 < peak < 0.9, clip
        assert np.sqrt((samples**2).mean()) > 1e-3, clip
        if seconds > 60:
            long.append(clip)
        else:
            assert 1.0 <= seconds <= 10.0, clip
    assert rates == {(16000, 1), (44100, 2)}
    assert [clip["corpus"] for clip in long] == ["wavcaps"]
    assert {clip["path"].rpartition(".")[2] for clip in clips} == {"wav", "flac", "mp3"}
    assert len(unreadable) == 1, "the empty file of AudioSet"


def test_captions_corpora_have_their_published_columns(corpora):
    for split, captions in (("train", 1), ("val", 5), ("test", 5)):
        header, *rows = rows_of(corpora / "audiocaps" / f"{split}.csv")
        assert header == ["audiocap_id", "youtube_id", "start_time", "caption"]
        good = [row for row in rows if len(row) == 4 and row[2].isdigit() and "gone" not in row[1]]
        assert len(good) == captions * len({row[1] for row in good})
        for _, ident, start, caption in good:
            assert len(ident) == 11 and caption
            assert (corpora / "audiocaps" / "audio" / split / f"{ident}_{start}.flac").is_file()
        assert {"-", "_"} <= {row[1][0] for row in good} and (split != "train" or len(rows) == len(good) + 4)
    for split in ("development", "validation", "evaluation"):
        captions = rows_of(corpora / "clotho" / f"clotho_captions_{split}.csv")
        metadata = rows_of(corpora / "clotho" / f"clotho_metadata_{split}.csv", "iso-8859-1")
        assert captions[0] == ["file_name", *(f"caption_{n}" for n in range(1, 6))]
        assert [row[0] for row in captions] == [row[0] for row in metadata]
        assert all((corpora / "clotho" / split / row[0]).is_file() for row in captions[1:])
    with pytest.raises(UnicodeDecodeError):
        (corpora / "clotho" / "clotho_metadata_validation.csv").read_text(encoding="utf-8")
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(corpora / "clotho" / "development" / "truncated_download.wav")
    first = json.loads((corpora / "paraspeechcaps" / "train_base.jsonl").read_text().splitlines()[0])
    assert (corpora / "paraspeechcaps" / first["source"] / first["relative_audio_path"]).is_file()
    assert isinstance(first["text_description"], list)


def test_labelled_corpora_name_known_classes(corpora):
    classes = {row[1]: row[2] for row in rows_of(corpora / "audioset" / "class_labels_indices.csv")[1:]}
    for split in ("balanced_train", "unbalanced_train", "eval"):
        lines = (corpora / "audioset" / f"{split}_segments.csv").read_text().splitlines()
        assert [line[0] for line in lines[:3]] == ["#"] * 3
        for row in csv.reader(lines[3:], skipinitialspace=True):
            assert len(row) == 4 and len(row[0]) == 11 and set(row[3].split(",")) <= set(classes)
            assert split == "unbalanced_train" or next(corpora.glob(f"audioset/audio/*/Y{row[0]}.wav"), None)
    truth = corpora / "fsd50k" / "FSD50K.ground_truth"
    vocabulary = [row[1] for row in rows_of(truth / "vocabulary.csv")]
    assert vocabulary == sorted(vocabulary)
    for name in ("dev", "eval"):
        for fname, labels, mids, *_ in rows_of(truth / f"{name}.csv")[1:]:
            assert set(labels.split(",")) <= set(vocabulary)
            assert [mid_of(label) for label in labels.split(",")] == mids.split(",")
            assert (corpora / "fsd50k" / f"FSD50K.{name}_audio" / f"{fname}.wav").is_file()
    speakers = {path.parts[-3] for path in (corpora / "voxceleb2" / "dev" / "aac").rglob("*.wav")}
    listed = {row[0].strip() for row in rows_of(corpora / "voxceleb2" / "vox2_meta.csv")[1:]}
    assert speakers == listed


def test_labels_are_propagated_to_their_parents():
    for tag, (_, parents) in TAGS.items():
        assert tag not in parents
        assert all(mid_of(parent) for parent in parents)


def test_salt_is_there(corpora, clips):
    by_key = defaultdict(list)
    for clip in clips:
        by_key[clip["key"]].append(clip)
    shared = [group for group in by_key.values() if len({clip["corpus"] for clip in group}) > 1]
    duplicates = [group for group in shared if any(clip["salt"] == "duplicate" for clip in group)]
    leaks = {clip["corpus"] for group in shared for clip in group if any(c["salt"] == "leak" for c in group)}
    assert len(duplicates) >= 20
    sound = {"audiocaps", "clotho", "audioset", "fsd50k", "vggsound", "musiccaps", "urbansound8k", "esc50"}
    assert leaks >= sound | {"voxceleb2", "wavcaps", "paraspeechcaps", "audiosetcaps", "fusionaudio"}
    pair = [corpora / clip["corpus"] / clip["path"] for clip in duplicates[0]]
    assert len({soundfile.read(path)[0].tobytes() for path in pair}) == 1
    part = json.loads((corpora / "wavcaps/json_files/FreeSound/fsd_final.json").read_text())["data"]
    broken = next(row for row in part if row["id"] == "499999")
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(corpora / "wavcaps" / "audio" / "FreeSound" / f"{broken['id']}.flac")


def test_a_leak_is_listed_at_another_time(corpora):
    starts = {row[1]: int(row[2]) for row in rows_of(corpora / "audiocaps" / "test.csv")[1:]}
    lines = (corpora / "audioset" / "unbalanced_train_segments.csv").read_text().splitlines()
    listed = {line[:11]: int(line.split(",")[1].split(".")[0]) for line in lines[3:]}
    shifts = sorted(listed[ident] - starts[ident] for ident in starts if ident in listed)
    assert shifts[-1] == 4 and set(shifts[:-1]) <= {0}


def test_captions_tell_the_order_and_the_recording(planner):
    events = {event.name: event for event in planner.events}
    first, second = events["waves"], events["gunshot"]
    for number in range(20):
        rng = np.random.default_rng(number)
        scene = draw_scene(rng, [first, second], "sequence", "train", {})
        for caption in describe(scene, rng, 5):
            low = caption.lower()
            sea, gun = min(low.find(w) % 999 for w in ("sea", "ocean")), low.find("gun")
            assert (gun < sea) == (" after " in low), caption
            assert ("nois" not in low) or scene.noise_db >= -15
            assert ("faint" not in low) or scene.peak_db <= -20
            assert ("echo" not in low) or scene.reverberation >= 0.9


def test_events_with_little_material_are_rare(planner):
    counts = Counter()
    for number in range(3000):
        scene = planner.free_scene(np.random.default_rng(number), "train")
        counts.update(sound.event.name for sound in scene.sounds if sound.event.domain == "sound")
    variety = {event.name: event.variety for event in planner.events if event.domain == "sound"}
    assert variety["knock"] == 6 and min(variety.values()) >= 1
    for name, expected in variety.items():
        share = counts[name] / counts.total()
        assert share == pytest.approx(expected / sum(variety.values()), rel=0.5), name


def test_an_utterance_does_not_depend_on_what_was_said_before():
    one = speech.Utterance("fr", "f2", "42 17 905")
    first = speech.speak(one)
    speech.speak(speech.Utterance("ru", "m3", "7 7 7"))
    assert np.array_equal(first, speech.speak(one))
    assert not np.array_equal(first, speech.speak(speech.Utterance("fr", "f2", "42 17 906")))


def test_voice_pools_are_disjoint():
    names = [variant for variants in speech.VARIANTS.values() for variant in variants]
    assert len(names) == len(set(names))
    rng = np.random.default_rng(0)
    texts = {pool: {speech.number_text(rng, pool) for _ in range(300)} for pool in speech.POOLS}
    assert not texts["train"] & texts["heldout"] and not texts["speaker"] & (texts["train"] | texts["heldout"])


def test_recordings_are_split_by_file_and_equal_files_count_once(tmp_path):
    for name in ("a/cow_desc_fr.ogg", "b/cow_white_desc_fr.ogg", "symbols/x_desc_fr.ogg", "b/horse_desc_fr.ogg"):
        path = tmp_path / "tuxpaint" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"other" if "horse" in name else b"same")
    recordings = sources.Recordings(tmp_path, {"tuxpaint-stamps-default": "1"})
    assert recordings.spoken("fr") == ["tuxpaint:a/cow_desc_fr.ogg", "tuxpaint:b/horse_desc_fr.ogg"]
    assert not sources.Recordings(tmp_path).spoken("fr")
    keys = tuple("abcde")
    assert [side_of(keys, side) for side in SIDES] == [("a", "c", "d"), ("b", "e")]


def test_without_apt_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources.shutil, "which", lambda _: None)
    assert sources.fetch_recordings(tmp_path, "auto").packages == {}
    warning = capsys.readouterr().err
    assert warning.startswith("WARNING") and "apt-get is not on this machine" in warning and warning.count("\n") == 1
    with pytest.raises(UserError, match="apt-get is not on this machine"):
        sources.fetch_recordings(tmp_path, "apt")
    assert sources.fetch_recordings(tmp_path, "pip").packages == {}
    assert not capsys.readouterr().err


def test_provenance_names_what_was_used(corpora):
    report = json.loads((corpora / "provenance.json").read_text())
    assert set(report["recordings"]) == {"espeakng-loader", "pretty_midi", "tinysoundfont"}
    assert report["event_types"] >= 60 and report["seed"] == 42
    assert report["salt"]["duplicate"] and report["salt"]["leak"]
