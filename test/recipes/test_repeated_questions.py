# SPDX-License-Identifier: Apache-2.0
"""Bad rows of the corpora that are asked about: repeated ones, contradictions, damage, and what nobody asks for."""

import json

import pytest

from test.recipes.preparation import CORPORA, Workplace, run

HEADER = "[START_TIME - END_TIME]\tTURN_NAME\tEMOTION\n\n"


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)


def noted(place, corpus):
    """Place and reason of every row that was left out, as often as the report counts them."""
    entries = [entry for entry in place.skipped(corpus) if entry["reason"] not in ("missing", "no_list")]
    report = json.loads((place.manifests / f"{corpus}_report.json").read_text())
    for reason in ("duplicate", "contradiction", "bad_row"):
        assert report.get(reason, 0) == sum(entry["reason"] == reason for entry in entries)
    return [(entry.get("where") or entry["key"], entry["reason"]) for entry in entries]


def questions(cut):
    return {question["text"]: question["answers"] for question in cut["supervisions"][0]["custom"]["questions"]}


def attributes(place, name):
    return {key: cut["supervisions"][0]["custom"]["attributes"] for key, cut in place.cuts(name).items()}


def test_an_airbench_question_is_asked_once(place):
    def row(name, ident, question, answer="sad"):
        common = {"task_name": "Speaker_Emotion_Recontion", "dataset_name": "meld", "choice_a": "glad"}
        return {"path": name, "uniq_id": ident, "question": question, "answer_gt": answer, "choice_b": "sad", **common}

    rows = [
        row("a.wav", 1, "How?"), row("a.wav", 2, "How now?"), row("a.wav", 1, "How?"), row("a.wav", 1, "How?", "glad"),
        row("b.wav", 2, "How now?"), row("b.wav", None, "How?"), row("a.wav", None, "Well?"),
        row("b.wav", None, "How?"),
    ]  # fmt: skip
    place.text("airbench/Foundation/Foundation_meta.json", json.dumps(rows))
    place.audio(*(f"airbench/Foundation/Speaker_Emotion_Recontion_meld/{name}.wav" for name in "ab"))
    place.prepare("airbench")
    first, second = place.cuts("airbench_test").values()
    assert questions(first) == {"How?": ["sad"], "How now?": ["sad"], "Well?": ["sad"]}
    assert questions(second) == {"How?": ["sad"]}
    assert noted(place, "airbench") == [
        ("Foundation_meta.json: [2]", "duplicate"), ("Foundation_meta.json: [3]", "contradiction"),
        ("Foundation_meta.json: [4]", "contradiction"), ("Foundation_meta.json: [7]", "duplicate"),
    ]  # fmt: skip


def test_a_musicqa_row_counts_once_whatever_extension_its_clip_has(place):
    def row(name, question, answer):
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        return {"audio_name": name, "conversation": turns}

    rows = [row("7.wav", "Slow?", "Yes."), row("7.wav", "Slow?", "Yes."), row("7.wav", "Slow?", "Quite.")]
    place.text(
        "musicqa/FinetuneMusicQA.json", json.dumps([*rows, row("7.mp3", "Sad?", "No."), row("8.wav", "Sad?", "No.")])
    )
    place.text("musicqa/EvalMusicQA.json", json.dumps([row("8.wav", "Sad?", "No.")]))
    place.audio("musicqa/7.wav", "musicqa/8.wav")
    place.prepare("musicqa")
    assert questions(place.cuts("musicqa_train")["musicqa:7"]) == {"Slow?": ["Yes.", "Quite."], "Sad?": ["No."]}
    assert list(place.cuts("musicqa_test")) == ["musicqa:8"]
    assert noted(place, "musicqa") == [
        ("FinetuneMusicQA.json: [1]", "duplicate"),
        ("EvalMusicQA.json: musicqa:8", "contradiction"),
    ]


def test_common_voice_rows_that_repeat_damage_or_say_what_nobody_asks_for(place):
    rows = [
        "a.mp3\tforties\tmale", "b.mp3\tteens\tmale", "b.mp3\tteens\tmale", "b.mp3\tteens\tfemale",
        "c.mp3\tteens", "d.mp3\tteens\tmale\xff", "../e.mp3\tteens\tmale", "\tteens\tmale", "f.mp3\t\tother",
        "g.mp3\tforties\tmale",
    ]  # fmt: skip
    text = "path\tage\tgender\n" + "\n".join(rows) + "\n"
    place.text("commonvoice/en/train.tsv", text, encoding="latin-1")
    place.audio(*(f"commonvoice/en/clips/{name}.wav" for name in "abg"))
    for path in (place.corpora / "commonvoice/en/clips").iterdir():
        path.rename(path.with_suffix(".mp3"))
    place.prepare("commonvoice")
    assert attributes(place, "commonvoice_train") == {
        "cv:a": {"gender": "male"}, "cv:b": {"gender": "male", "age": "teens-twenties"}, "cv:g": {"gender": "male"}
    }  # fmt: skip
    assert noted(place, "commonvoice") == [
        *((f"train.tsv:{line}", "bad_row") for line in (6, 7, 8, 9)),
        ("train.tsv", "not_asked"), ("train.tsv", "not_asked"), ("train.tsv", "nothing_known"),
        ("train.tsv:4", "duplicate"), ("train.tsv:5", "contradiction"),
    ]  # fmt: skip
    causes = [entry["cause"] for entry in place.skipped("commonvoice") if entry["reason"] == "not_asked"]
    assert causes == ["age 'forties' of 2 clips", "gender 'other' of 1 clips"]


def test_iemocap_turns_that_repeat_or_are_damaged(place):
    name = "Ses01F_impro04"
    turns = [
        f"[6.2 - 8.2]\t{name}_F000\tneu\t[2.5, 2.5, 2.5]", "C-E2:\tNeutral;\t()", "A-E3:\tval 3;\t()", "",
        f"[6.2 - 8.2]\t{name}_F000\tneu\t[2.5, 2.5, 2.5]", f"[6.2 - 8.2]\t{name}_F000\tsad\t[2.5, 2.5, 2.5]",
        f"9.0 - 9.5]\t{name}_F001\tneu\t[2.5, 2.5, 2.5]", f"[9.5 - 9.0]\t{name}_F002\tneu\t[2.5, 2.5, 2.5]",
        f"[nan - 9.0]\t{name}_F003\tneu\t[2.5, 2.5, 2.5]", f"[9.0 - 9.5]\t{name}_F004\tneu\t[2.5, 2.5, 2.5]\xff",
        f"[-1.0 - 9.5]\t{name}_F005\tneu\t[2.5, 2.5, 2.5]",
    ]  # fmt: skip
    path = f"Session1/dialog/EmoEvaluation/{name}.txt"
    place.text(f"iemocap/{path}", HEADER + "\n".join(turns) + "\n", encoding="latin-1")
    place.audio(*(f"iemocap/Session1/sentences/wav/{name}/{name}_F00{number}.wav" for number in range(6)))
    place.prepare("iemocap")
    assert attributes(place, "iemocap_train") == {f"iemocap:{name}_F000": {"gender": "female", "emotion": "neutral"}}
    assert noted(place, "iemocap") == [
        *((f"{name}.txt:{line}", "bad_row") for line in (9, 10, 11, 12, 13)),
        (f"{name}.txt:7", "duplicate"), (f"{name}.txt:8", "contradiction"),
    ]  # fmt: skip


def test_meld_rows_that_repeat_contradict_or_are_damaged(place):
    rows = (
        "Joey,joy,0,1",
        "Joey,joy,0,1",
        "Joey,anger,0,1",
        "Joey,joy,x,1",
        "Joey,joy,-1,1",
        "Joey,joy,0",
        "Ross,boredom,0,2",
    )
    place.text("meld/train_sent_emo.csv", "Speaker,Emotion,Dialogue_ID,Utterance_ID\n" + "\n".join(rows) + "\n")
    place.audio("meld/train/dia0_utt1.wav")
    place.prepare("meld")
    assert attributes(place, "meld_train") == {"meld:train/dia0_utt1": {"emotion": "happy", "gender": "male"}}
    assert noted(place, "meld") == [
        *((f"train_sent_emo.csv:{line}", "bad_row") for line in (5, 6, 7, 8)),
        ("train_sent_emo.csv:3", "duplicate"), ("train_sent_emo.csv:4", "contradiction"),
    ]  # fmt: skip


def test_of_two_copies_of_a_ravdess_file_one_counts(place):
    stem = "03-01-06-01-02-01-12"
    place.audio(f"ravdess/Actor_12/{stem}.wav", f"ravdess/copy/Actor_12/{stem}.wav", "ravdess/Actor_12/notes.wav")
    place.prepare("ravdess")
    assert list(attributes(place, "ravdess_train")) == [f"ravdess:{stem}"]
    assert noted(place, "ravdess") == [("Actor_12/notes.wav", "bad_row"), (f"copy/Actor_12/{stem}.wav", "duplicate")]


@pytest.mark.parametrize("corpus", ["musan", "voxceleb2", "ravdess"])
def test_a_file_name_that_cannot_be_written_is_one_line(place, corpus):
    good, bad = {
        "musan": ("noise/a/noise-1.wav", "noise/a/noise\n2.wav"),
        "voxceleb2": ("dev/aac/id00012/21Uxsk56VDQ/00001.wav", "dev/a\nc/id00012/21Uxsk56VDQ/00002.wav"),
        "ravdess": ("Actor_12/03-01-06-01-02-01-12.wav", "Actor\n12/03-01-06-01-02-02-12.wav"),
    }[corpus]
    place.audio(f"{corpus}/{good}", f"{corpus}/{bad}")
    options = ("--corpus-dir", place.corpora / corpus, "--manifests-dir", place.manifests, "--corpora", CORPORA)
    result = run(f"prepare_{corpus}.py", *options)
    assert result.returncode == 0, result.stderr
    cuts = [key for split in ("train", "test") for key in _keys(place, f"{corpus}_{split}")]
    assert len(cuts) == 1 and (bad, "bad_row") in noted(place, corpus)


def _keys(place, name):
    return place.cuts(name) if (place.manifests / f"{name}_cuts.jsonl.gz").is_file() else {}
