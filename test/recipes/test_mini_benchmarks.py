# SPDX-License-Identifier: Apache-2.0
"""The embedded benchmarks: prepared by the real scripts, and what their labels and answers say is what is heard."""

import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
import soundfile

from icefall_alp.data.captions import check_cut
from icefall_alp.data.manifests import load_corpora
from test.recipes.embedded import LOCAL, rows_of
from test.recipes.preparation import Workplace, captions, labels, run, source

from mini import mixing, scenes  # isort: skip  -- test.recipes.embedded says where it lies
from mini.events import SIDES  # isort: skip
from mini.families import build_families  # isort: skip
from mini.music import Phrase  # isort: skip
from mini.music_words import ask_about_music, magnatagatune_tags  # isort: skip
from mini.questions import ask, not_heard  # isort: skip
from mini.soundfont import Soundfont, Zone, allot_samples, general_midi  # isort: skip
from mini.speech import speak  # isort: skip

CONF = LOCAL.parent / "conf/mini/corpora.yaml"
OTHERS = {"wavcaps": "audioset", "audiosetcaps": "audioset", "fusionaudio": "audioset", "clothoaqa": "clotho"}
# the faults of the lists, as the preparation scripts count them
FAULTS = {
    "audiocaps": {"bad_row": 2, "missing": 2}, "clotho": {"unreadable": 1}, "wavcaps": {"unreadable": 1},
    "paraspeechcaps": {}, "musiccaps": {"bad_row": 1, "missing": 1}, "audiosetcaps": {"bad_row": 4, "missing": 2},
    "fusionaudio": {"missing": 1}, "jamendomaxcaps": {"bad_row": 1, "missing": 1},
    "audioset_strong": {"bad_row": 1, "missing": 1}, "fsd50k": {}, "voxceleb2": {}, "vggsound": {"missing": 1},
    "cremad": {"bad_row": 1}, "magnatagatune": {}, "nsynth": {"missing": 1}, "voxceleb1": {"missing": 1},
    "urbansound8k": {}, "esc50": {}, "musan": {}, "clothoaqa": {"bad_row": 3}, "musicqa": {"missing": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(corpora, tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("prepared"))
    place.corpora = corpora
    assert run("make_mini_airbench.py", "--corpora-dir", corpora).returncode == 0
    for corpus in load_corpora(CONF):
        options = ["--corpus-dir", corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CONF]
        if corpus in OTHERS:
            options += [f"--{OTHERS[corpus]}-dir", corpora / OTHERS[corpus]]
        result = run(f"prepare_{corpus}.py", *options)
        assert result.returncode == 0, result.stderr
    return place


@pytest.mark.parametrize("corpus", load_corpora(CONF))
def test_every_corpus_is_read_by_its_own_script(prepared, corpus):
    row = load_corpora(CONF)[corpus]
    for split in ("train", "valid", "test"):
        if getattr(row.audio, split):
            cuts = prepared.cuts(f"{corpus}_{split}")
            assert cuts and not [problem for problem in map(check_cut, cuts.values()) if problem]
            assert all(cut["duration"] > 0.4 for cut in cuts.values())
    if corpus in FAULTS:
        report = json.loads((prepared.manifests / f"{corpus}_report.json").read_text())
        counted = {name: report[name] for name in ("bad_row", "missing", "unreadable", "duplicate") if name in report}
        assert {name: count for name, count in counted.items() if count} == FAULTS[corpus]
        if corpus == "fusionaudio":  # beside each caption stands a question
            assert report["other_task"] == min(20, report["found"]["train"]["captions"])


def test_what_sources_and_benchmarks_share_has_the_same_key(prepared):
    shared = prepared.cuts("audiosetcaps_train").keys() & prepared.cuts("audiocaps_train").keys()
    assert len(shared) >= 8
    assert len(prepared.cuts("audiosetcaps_train").keys() & prepared.cuts("vggsound_test").keys()) == 5
    assert len(prepared.cuts("fusionaudio_train").keys() & prepared.cuts("audioset_test").keys()) == 3
    videos = [{key.split(":")[1] for key in prepared.cuts(name)} for name in ("fusionaudio_train", "musiccaps_test")]
    assert len(videos[0] & videos[1]) == 2, "one by the segment that AudioSet has, one by its time"


def test_ids_have_the_three_forms_and_an_id_may_begin_with_y(corpora, prepared):
    folder = corpora / "audiosetcaps/Dataset"
    forms = {
        "AudioSetCaps_caption.csv": r"Y[\w-]{11}",
        "VGGSound_AudioSetCaps_caption.csv": r"[\w-]{11}_\d{6}",
        "YouTube-8M_AudioSetCaps_caption.csv": r"[\w-]{11}_\d+_\d+",
    }
    for name, form in forms.items():
        idents = [row[0] for row in rows_of(folder / name)[1:]]
        fitting = [ident for ident in idents if re.fullmatch(form, ident)]
        assert len(idents) - len(fitting) == 1, "one id is too short"
    trapped = [row[0] for row in rows_of(folder / "VGGSound_AudioSetCaps_caption.csv") if row[0].startswith("Y")]
    keys = {f"yt:{name[:11]}:{1000 * int(name[12:])}" for name in trapped}
    assert keys and keys <= prepared.cuts("audiosetcaps_train").keys()
    idents = [row["audio_id"] for row in json.loads((corpora / "fusionaudio/caption_train.json").read_text())]
    assert {ident.startswith("audioset/Y") for ident in idents} == {True, False}


def test_a_stretch_of_a_track_is_captioned_by_what_it_holds(prepared, items, corpora):
    tracks = [item for item in items if item.corpus == "jamendomaxcaps"]
    cuts = prepared.cuts("jamendomaxcaps_train")
    for track in tracks:
        samples, rate = soundfile.read(corpora / "jamendomaxcaps" / track.path)
        for index, sound in enumerate(track.scene.sounds):
            cut = cuts[f"jam:{track.ident}:{2500 * index}-{2500 * (index + 1)}"]
            text = captions(cut)[0].lower()
            assert any(subject in text for subject in sound.event.subjects)
            begin, end = round(cut["start"] * rate), round((cut["start"] + cut["duration"]) * rate)
            assert np.abs(samples[begin:end]).max() > 0.3 * np.abs(samples).max()


def test_spans_are_where_the_sounds_were_put():
    rng = np.random.default_rng(0)
    scene = scenes.Scene((None, None), "sequence", -3.0, -45.0, 0.0, 0.0, (0.0,) * 6, (0.25, 0.1), (0.0, 0.5))
    twice = np.concatenate([rng.standard_normal(8000), np.zeros(16000), rng.standard_normal(4000)])
    found = mixing.spans([twice, rng.standard_normal(1600)], scene)
    assert [index for index, *_ in found] == [0, 0, 1]
    truth = ((0.25, 0.75), (1.75, 2.0), (2.5, 2.6))
    assert np.allclose([times for _, *times in found], truth, atol=0.011)


def test_spans_go_on_in_a_scene_that_is_repeated():
    scene = scenes.Scene((None, None), "sequence", -3.0, -45.0, 0.0, 0.0, (0.0,) * 6, (0.25, 0.1), (0.0, 0.5), 5.0)
    found = mixing.spans([np.ones(8000, np.float32), np.ones(16000, np.float32)], scene)  # of 0.5 and 1 s, every 2 s
    truth = [(0, 0.25, 0.75), (0, 2.25, 2.75), (0, 4.25, 4.75), (1, 1.25, 2.25), (1, 3.25, 4.25)]
    assert np.allclose(found, truth, atol=0.011)
    once = scenes.Scene((None,), "single", -3.0, -45.0, 0.0, 0.0, (0.0,) * 6, (0.25, 0.1), (0.0,), 5.0)
    assert np.allclose(mixing.spans([np.ones(8000, np.float32)], once), [(0, 0.25, 5.25)], atol=0.011)


def test_events_are_louder_than_what_lies_between_them(prepared, items, corpora):
    quiet = {
        item.key.rsplit(":", 1)[0]
        for item in items
        if item.corpus == "audioset_strong" and item.scene.noise_db < -24 and not item.scene.reverberation
    }
    checked = 0
    for cut in [*prepared.cuts("audioset_strong_train").values(), *prepared.cuts("audioset_strong_test").values()]:
        custom = cut["supervisions"][0]["custom"]
        assert [event["onset"] for event in custom["events"]] == sorted(event["onset"] for event in custom["events"])
        assert set(custom["labels"]) == {event["label"] for event in custom["events"]}
        if cut["id"].rsplit(":", 1)[0] not in quiet:
            continue
        samples, rate = soundfile.read(corpora / "audioset_strong" / cut["recording"]["sources"][0]["source"])
        time = np.arange(len(samples)) / rate
        inside = np.zeros(len(samples), bool)
        near = np.zeros(len(samples), bool)
        for event in custom["events"]:
            assert 0 <= event["onset"] < event["offset"] <= cut["duration"] + 0.02
            inside |= (time >= event["onset"]) & (time < event["offset"])
            near |= (time >= event["onset"] - 0.03) & (time < event["offset"] + 0.03)
        if (~near).sum() > 400:
            assert (samples[inside] ** 2).mean() > 10 * (samples[~near] ** 2).mean(), cut["id"]
            checked += 1
    assert checked > 5


def test_vggsound_has_one_label_and_several_clips_of_a_video(corpora):
    rows = rows_of(corpora / "vggsound/vggsound.csv")
    videos = Counter(row[0] for row in rows)
    assert {len(row) for row in rows} == {4} and max(videos.values()) == 2
    assert any("," in row[2] for row in rows), "labels with commas are quoted"


def test_actors_speak_in_one_split_with_one_voice(prepared, items):
    voices = defaultdict(set)
    split_of = {key: split for split in ("train", "valid", "test") for key in prepared.cuts(f"cremad_{split}")}
    for item in (item for item in items if item.corpus == "cremad"):
        assert re.fullmatch(r"1\d{3}_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_(XX|LO|MD|HI)", item.ident)
        assert split_of[item.key] == item.split, "the corpus agrees with the preparation's own draw"
        voices[item.split].add(item.scene.sounds[0].layers[0].part.variant)
    assert not voices["train"] & voices["test"] and not voices["valid"] & voices["test"]
    counts = Counter(label for cut in prepared.cuts("cremad_test").values() for label in labels(cut))
    assert len(counts) == 6 and len(set(counts.values())) == 1


def test_emotions_differ_in_pace_and_pitch(items):
    said, pitch = defaultdict(list), defaultdict(list)
    for item in (item for item in items if item.corpus == "cremad"):
        part = item.scene.sounds[0].layers[0].part
        said[item.details["emotion"]].append(part.rate)
        pitch[item.details["emotion"]].append(part.pitch)
    pace = {emotion: np.mean(values) for emotion, values in said.items()}
    assert pace["FEA"] > pace["ANG"] > pace["NEU"] > pace["DIS"] > pace["SAD"]
    assert np.mean(pitch["FEA"]) > np.mean(pitch["NEU"]) > np.mean(pitch["SAD"])
    slow, fast = (next(i for i in items if i.corpus == "cremad" and i.details["emotion"] == e) for e in ("SAD", "FEA"))
    assert len(speak(slow.scene.sounds[0].layers[0].part)) > len(speak(fast.scene.sounds[0].layers[0].part))


def test_a_note_has_the_pitch_of_its_name(corpora, prepared):
    name = re.compile(r"nsynth:([a-z_]+?)_(acoustic|electronic|synthetic)_\d{3}-(\d{3})-\d{3}")
    alike = []
    for key, cut in (prepared.cuts("nsynth_train") | prepared.cuts("nsynth_test")).items():
        family, _, pitch = name.fullmatch(key).groups()
        assert labels(cut) == [family]
        if family not in ("bass", "mallet") and 50 <= int(pitch) <= 76:
            samples, rate = soundfile.read(corpora / "nsynth" / cut["recording"]["sources"][0]["source"])
            period = rate / (440 * 2 ** ((int(pitch) - 69) / 12))
            middle = samples[round(0.3 * rate) : round(0.7 * rate)]
            lags = np.arange(-3, 4) + round(period)
            alike.append(max(np.corrcoef(middle[lag:], middle[:-lag])[0, 1] for lag in lags))
    assert len(alike) >= 6 and np.mean(np.array(alike) > 0.8) > 0.6


def test_families_are_on_both_sides_and_share_no_sample(planner):
    families, font = build_families(planner.events), general_midi()
    played = {
        side: {
            sample
            for instruments in families[side].values()
            for instrument in instruments
            for press in instrument.presses
            for sample in font.samples(press)
        }
        for side in SIDES
    }
    assert families["train"].keys() == families["heldout"].keys() and len(families["train"]) == 11
    assert not played["train"] & played["heldout"]
    for event in planner.events:
        for side, other in (SIDES, SIDES[::-1]):
            own = {sample for voice in event.sides[side] for press in voice for sample in font.samples(press)}
            assert not own & played[other]


def test_a_key_that_would_join_both_sides_is_for_neither():
    zones = (("a", 1), ("b", 2), ("c", 2), ("d", 3), ("a", 4), ("b", 4))
    font = Soundfont({(0, 0): tuple(Zone(name, (key, key), (0, 127)) for name, key in zones)}, {})
    presses = [[(0, 0, key) for key in (1, 2, 3, 4)]]
    sides = allot_samples(font, presses, {"a": "train", "b": "heldout"})
    assert {sides[name] for name in "bc"} == {"heldout"} and sides["a"] == "train" and sides["d"] in SIDES


def gaps_of(sound):
    notes = [note for layer in sound.layers for note in (layer.part.notes if isinstance(layer.part, Phrase) else ())]
    onsets = [note.onset for note in notes]
    return np.diff(onsets) if len(onsets) > 1 and sound.event.maker != "groove" else np.zeros(0)


def test_tags_of_music_follow_from_its_notes(items):
    seen = Counter()
    for item in (item for item in items if item.corpus in ("magnatagatune", "musiccaps")):
        tags = magnatagatune_tags(item.scene)
        layers = [layer for sound in item.scene.sounds for layer in sound.layers]
        phrases = [layer.part for layer in layers if isinstance(layer.part, Phrase)]
        programs = {phrase.program for phrase in phrases if phrase.bank == 0}
        assert ("piano" in tags) == (0 in programs)
        assert ("guitar" in tags) == bool(programs & {24, 25, 30})
        assert ("violin" in tags) == (40 in programs)
        assert ("no vocals" in tags) == (not programs & {52, 53}) != ("vocals" in tags)
        steps = [gaps.max() for gaps in map(gaps_of, item.scene.sounds) if len(gaps) and gaps.max() > 0]
        if len(steps) == len(item.scene.sounds):
            assert ("fast" in tags) == (min(steps) < 0.2) and ("slow" in tags) == (max(steps) > 0.3)
        seen.update(tags)
    assert {"fast", "slow", "no vocals"} <= set(seen)


def test_answers_about_music_follow_from_its_notes(items):
    seen = set()
    for item in (item for item in items if item.corpus == "musicqa"):
        answers = [answer for _, (answer,) in ask_about_music(item.scene, np.random.default_rng(0))]
        assert len(item.questions) == len(answers) == 5
        for sound in item.scene.sounds:
            assert sound.event.subjects[0].split()[-1] in answers[1]
        if len(item.scene.sounds) == 1 and (gaps := gaps_of(item.scene.sounds[0])).any():
            keys = [note.key for note in item.scene.sounds[0].layers[0].part.notes]
            seen.add(answers[2])
            assert (answers[2] == "The notes rise.") == (keys == sorted(set(keys)))
            assert (answers[2] == "The notes fall.") == (keys == sorted(set(keys), reverse=True))
            assert answers[3] == ("It is fast." if gaps.max() < 0.2 else "It is slow.")
    assert seen


def test_answers_about_a_scene_are_true(planner, items):
    said = Counter()
    for item in (item for item in items if item.corpus == "clothoaqa"):
        scene, events = item.scene, [sound.event for sound in item.scene.sounds]
        assert len(item.questions) == 6 and {len(answers) for _, answers in item.questions} == {3}
        happening = {f"{subject} {form}" for event in events for subject in event.subjects for _, form in event.verbs}
        for question, (answer, *others) in item.questions:
            assert set(others) == {answer} and answer.lower() == answer and " " not in answer
            happens = re.fullmatch(r"(?:Is|Are) (.+)\?", question)
            if question == "Does anybody speak?":
                assert (answer == "yes") == any(event.domain == "speech" for event in events)
            elif question == "Is there any music?":
                assert (answer == "yes") == any(event.domain == "music" for event in events)
            elif question == "Is there a sound besides speech and music?":
                assert (answer == "yes") == any(event.domain == "sound" for event in events)
            elif question == "Is only one kind of sound heard?":
                assert (answer == "yes") == (len(events) == 1)
            elif question == "Are the sounds heard one after the other?":
                assert (answer == "yes") == (scene.arrangement == "sequence")
            elif question == "How many different sounds are there?":
                assert answer == ("one", "two", "three")[len(events) - 1]
            elif happens:
                assert (answer == "yes") == (happens[1] in happening), (question, happening)
            else:
                said["maker"] += 1
            said[answer] += 1
    assert said["yes"] > 40 and said["no"] > 40 and said["maker"] >= 24


def test_what_is_asked_for_in_vain_could_not_be_taken_for_what_is_heard(planner):
    events = {event.name: event for event in planner.events}
    for names in (("a trumpet",), ("male fr", "birdsong"), ("knock",)):
        scene = scenes.draw_scene(
            np.random.default_rng(1), [events[name] for name in names], "single", "train", planner.speech
        )
        absent = not_heard(scene, planner.events)
        assert len(absent) > 20 and not {event.name for event in absent} & set(names)
        tags = {events[name].tag for name in names}
        assert not {event.tag for event in absent} & (tags - {""})
        pairs = ask(scene, planner.events, np.random.default_rng(2))
        assert [answer for _, answer in pairs[:4]].count("yes") >= 1


def test_airbenchs_questions_are_about_held_out_clips_and_true(prepared):
    stems = {
        corpus: {source(cut).rpartition("/")[2] for cut in prepared.cuts(f"{corpus}_train").values()}
        for corpus in ("cremad", "clothoaqa", "musicqa")
    }
    emotions = {key.split(":")[1]: labels(cut)[0] for key, cut in prepared.cuts("cremad_test").items()}
    tasks = Counter()
    for cut in prepared.cuts("airbench_test").values():
        name = source(cut).rpartition("/")[2]
        assert not any(name in train for train in stems.values())
        for question in cut["supervisions"][0]["custom"]["questions"]:
            tasks[question["task"]] += 1
            if question["task"] == "Speaker_Emotion_Recontion/iemocap":
                assert question["answers"][0][:3] == emotions[name.removesuffix(".wav")][:3]
                assert question["answers"][0] in question["choices"] and len(set(question["choices"])) == 4
            elif "QA" in question["task"]:
                assert question["reference"] and "choices" not in question
    assert set(tasks) == {
        "Speaker_Emotion_Recontion/iemocap", "Speaker_Gender_Recognition/meld", "sound_QA/clotho", "music_QA/musiccaps"
    }  # fmt: skip
