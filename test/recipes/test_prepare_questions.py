# SPDX-License-Identifier: Apache-2.0
"""Questions about speech: AIR-Bench, the corpora of SpeechQA, and the generator that asks about them.

Layouts, names, classes and codes are the publishers'; questions and answers are ours. Audio is silence.
"""

import json
from collections import Counter

import pytest

from icefall_alp.data.captions import check_cut, read_jsonl
from test.recipes.preparation import CORPORA, LOCAL, ROOT, Workplace, reasons, run, source

EMOTION, GENDER = "Speaker_Emotion_Recontion", "Speaker_Gender_Recognition"
ABOUT = {
    "cv:common_voice_en_1": {"gender": "female", "age": "thirties-fourties"},
    "cv:common_voice_en_2": {"gender": "male"},
    "cv:common_voice_en_7": {"age": "teens-twenties"},
    "cv:common_voice_en_20": {"gender": "male", "age": "seventies-eighties"},
}


def airbench(place):
    def item(path, task, dataset, ident, answer, **more):
        row = {"path": path, "question": "Which?", "answer_gt": answer, "task_name": task, "dataset_name": dataset}
        return row | {"uniq_id": ident} | more

    choices = {"choice_a": "glad", "choice_b": "sad", "choice_c": "", "choice_d": None}
    foundation = [
        item("a.wav", EMOTION, "meld", 1, "sad", **choices),
        item("b.wav", EMOTION, "meld", 2, "calm", **choices),
        item("c.wav", EMOTION, "meld", 3, "sad", choice_a="sad"),
        item("d.wav", EMOTION, "meld", 4, "sad", choice_a="sad", choice_b="sad"),
        item("common_voice_en_20.mp3", GENDER, "common_voice_13_en", 5, "glad", **choices),
        item("e.wav", "Music_Genre_Recognition", "FMA", 6, "glad", **choices),
        item("gone.wav", EMOTION, "meld", 7, "sad", **choices),
        item("broken.wav", EMOTION, "meld", 8, "sad", **choices),
        "no object",
    ]
    chat = [
        item("1.wav", "sound_QA", "clotho", 0, "Rain.", meta_info="['It rains.']"),
        item("1.wav", "sound_QA", "clotho", 1, "Yes.", meta_info={"description": "It rains."}),
        item("2.wav", "sound_QA", "clotho", 2, "No."),
    ]
    place.text("airbench/Foundation/Foundation_meta.json", json.dumps(foundation))
    place.text("airbench/Chat/Chat_meta.json", json.dumps(chat))
    place.audio(*(f"airbench/Foundation/{EMOTION}_meld/{name}.wav" for name in "abcd"))
    place.text(f"airbench/Foundation/{EMOTION}_meld/broken.wav", "no audio")
    place.audio(f"airbench/Foundation/{GENDER}_common_voice_13_en/common_voice_en_20.wav")
    written = place.corpora / f"airbench/Foundation/{GENDER}_common_voice_13_en/common_voice_en_20.wav"
    written.rename(written.with_suffix(".mp3"))  # the publishers' extension; audio is read by content
    place.audio("airbench/Chat/sound_QA_clotho/1.wav", "airbench/Chat/sound_QA_clotho/2.wav")


def commonvoice(place):
    head = "client_id\tpath\tsentence\tage\tgender\n"
    rows = [
        ("1", "common_voice_en_1.wav", '"Quoted" and odd"', "fourties", "female_feminine"),
        ("1", "common_voice_en_2.wav", "text", "nineties", "male"),
        ("2", "common_voice_en_3.wav", "text", "", "other"),
        ("3", "common_voice_en_7.wav", "text", "teens", ""),
        ("3", "common_voice_en_20.wav", "text", "eighties", "male_masculine"),
        ("4", "common_voice_en_5.wav", "too few columns"),
    ]
    place.text("commonvoice/en/train.tsv", head + "".join("\t".join(row) + "\n" for row in rows))
    place.audio(*(f"commonvoice/en/clips/{row[1]}" for row in rows))


def iemocap(place):
    header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n[START_TIME - END_TIME]\tTURN_NAME\tEMOTION\n\n"
    for session, sex in ((1, "F"), (5, "M")):
        name = f"Ses0{session}F_impro04"
        lines = [
            f"[6.2901 - 8.2357]\t{name}_{sex}000\tneu\t[2.5000, 2.5000, 2.5000]",
            "C-E2:\tNeutral;\t()",
            f"[10.0 - 12.0]\t{name}_M001\txxx\t[2.5, 2.5, 2.5]",
            f"[10.0 - 12.0]\t{name}_M002\tbad\t[2.5, 2.5, 2.5]",
            "[10.0 - ]\tdamaged",
        ]
        place.text(f"iemocap/Session{session}/dialog/EmoEvaluation/{name}.txt", header + "\n".join(lines) + "\n")
        place.audio(
            *(f"iemocap/Session{session}/sentences/wav/{name}/{name}_{turn}.wav" for turn in (f"{sex}000", "M001"))
        )


def ravdess(place):
    stems = ("03-01-06-01-02-01-12", "03-01-01-01-01-01-01", "03-01-08-02-02-02-24", "03-02-06-01-02-01-12", "03-01-09")
    place.audio(*(f"ravdess/Actor_{stem[-2:]}/{stem}.wav" for stem in stems))


def meld(place):
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    rest = ',neutral,{},{},1,1,"00:00:01,000","00:00:02,000"\n'
    train = '1,"Well, hi",Joey,joy' + rest.format(0, 1) + "2,Hm,Somebody,anger" + rest.format(0, 2)
    train += "3,Hm,Ross,boredom" + rest.format(0, 3)
    place.text("meld/train_sent_emo.csv", head + train)
    place.text("meld/dev_sent_emo.csv", head + "1,Hm,Rachel,fear" + rest.format(0, 1))
    place.audio("meld/train/dia0_utt1.wav", "meld/train/dia0_utt2.wav", "meld/dev/dia0_utt1.wav")


def cremad(place):
    stems = [f"{actor}_DFA_{code}_XX" for actor in range(1001, 1011) for code in ("ANG", "FEA", "NEU")]
    place.text("cremad/SentenceFilenames.csv", "Stimulus_Number,Filename\n" + "".join(f"1,{stem}\n" for stem in stems))
    actors = "".join(f'{actor},{age},"{sex}"\n' for actor, age, sex in zip(
        range(1001, 1011), (19, 20, 21, 30, 49, "", 59, 70, 150, 74), ("Male", "Female") * 5, strict=True
    ))  # fmt: skip
    place.text("cremad/VideoDemographics.csv", "ActorID,Age,Sex\n" + actors)
    place.audio(*(f"cremad/AudioWAV/{stem}.wav" for stem in stems))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """All six corpora, prepared."""
    place = Workplace(tmp_path_factory.mktemp("questions"))
    for make in (airbench, commonvoice, iemocap, ravdess, meld, cremad):
        make(place)
        place.prepare(make.__name__)
    return place


def attributes(place, name):
    return {key: cut["supervisions"][0]["custom"]["attributes"] for key, cut in place.cuts(name).items()}


def questions(cut):
    return cut["supervisions"][0]["custom"]["questions"]


def test_airbench_keeps_choices_references_and_the_publishers_ids(place):
    cuts = place.cuts("airbench_test")
    assert sorted(cuts) == [
        f"airbench:{EMOTION}_meld/a.wav", f"airbench:{GENDER}_common_voice_13_en/common_voice_en_20.mp3",
        "airbench:sound_QA_clotho/1.wav",
    ]  # fmt: skip
    assert not [cut["id"] for cut in cuts.values() if check_cut(cut)]
    (asked,) = questions(cuts[f"airbench:{EMOTION}_meld/a.wav"])
    assert asked == {
        "text": "Which?", "answers": ["sad"], "source": "airbench", "choices": ["glad", "sad"],
        "task": f"{EMOTION}/meld", "id": "1",
    }  # fmt: skip
    first, second = questions(cuts["airbench:sound_QA_clotho/1.wav"])
    assert (first["reference"], first["task"]) == ("['It rains.']", "sound_QA/clotho")
    assert json.loads(second["reference"]) == {"description": "It rains."}


def test_airbench_names_every_question_that_cannot_be_asked(place):
    skipped = place.skipped("airbench")
    assert reasons(skipped) == [
        ("bad_row", "Chat_meta.json: [2]"), ("bad_row", "Foundation_meta.json: [1]"),
        ("bad_row", "Foundation_meta.json: [2]"), ("bad_row", "Foundation_meta.json: [3]"),
        ("bad_row", "Foundation_meta.json: [8]"), ("missing", f"airbench:{EMOTION}_meld/gone.wav"),
        ("other_part", "Foundation_meta.json"),
        ("unreadable", f"airbench:{EMOTION}_meld/broken.wav"),
    ]  # fmt: skip
    causes = " ".join(entry["cause"] for entry in skipped)
    assert "the answer 'calm' is none of the choices 'glad', 'sad'" in causes
    assert "1 choices instead of two to four" in causes and "empty or there twice" in causes
    assert "meta_info is absent" in causes


def test_common_voice_says_what_speakers_say_and_reads_quotes_as_letters(place):
    assert attributes(place, "commonvoice_train") == ABOUT
    assert ("nothing_known", "train.tsv") in reasons(place.skipped("commonvoice"))
    assert ("bad_row", "train.tsv:7") in reasons(place.skipped("commonvoice"))


def test_iemocap_splits_by_session_and_takes_the_gender_from_the_turn(place):
    assert attributes(place, "iemocap_train") == {
        "iemocap:Ses01F_impro04_F000": {"gender": "female", "emotion": "neutral"},
        "iemocap:Ses01F_impro04_M001": {"gender": "male"},
    }
    assert sorted(attributes(place, "iemocap_test")) == ["iemocap:Ses05F_impro04_M000", "iemocap:Ses05F_impro04_M001"]
    assert [entry["cause"][:13] for entry in place.skipped("iemocap")] == ["emotion 'bad'", "not [<start> "] * 2


def test_ravdess_reads_speech_by_its_numbers(place):
    assert attributes(place, "ravdess_train") == {
        "ravdess:03-01-06-01-02-01-12": {"emotion": "fearful", "gender": "female"},
        "ravdess:03-01-01-01-01-01-01": {"emotion": "neutral", "gender": "male"},
    }
    assert list(attributes(place, "ravdess_test")) == ["ravdess:03-01-08-02-02-02-24"]
    assert {entry["reason"] for entry in place.skipped("ravdess")} == {"bad_row", "song"}


def test_meld_numbers_begin_anew_in_each_split(place):
    assert attributes(place, "meld_train") == {
        "meld:train/dia0_utt1": {"emotion": "happy", "gender": "male"}, "meld:train/dia0_utt2": {"emotion": "angry"}
    }  # fmt: skip
    assert attributes(place, "meld_valid") == {"meld:valid/dia0_utt1": {"emotion": "fearful", "gender": "female"}}
    assert source(place.cuts("meld_valid")["meld:valid/dia0_utt1"]) == "dev/dia0_utt1.wav"


def test_cremad_knows_age_and_gender_of_its_actors(place):
    known = {}
    for split in ("train", "valid", "test"):
        known |= attributes(place, f"cremad_{split}")
    assert known["crema:1001_DFA_ANG_XX"] == {"emotion": "angry", "gender": "male", "age": "teens-twenties"}
    ages = [known[f"crema:{actor}_DFA_NEU_XX"].get("age") for actor in (1003, 1004, 1005, 1006, 1007, 1008, 1009)]
    assert ages == [
        "teens-twenties", "thirties-fourties", "thirties-fourties", None, "fifties-sixties", "seventies-eighties", None
    ]  # fmt: skip
    assert [entry["where"] for entry in place.skipped("cremad")] == ["VideoDemographics.csv:10"]


# ---- SpeechQA -------------------------------------------------------------------------------------------------------


def speechqa(place, folder, **changes):
    settings = {"corpora": ["commonvoice", "iemocap", "cremad", "ravdess", "meld", "nowhere"], "num_questions": 1000}
    config = folder / "speechqa.yaml"
    config.write_text(json.dumps(settings | changes))
    result = run("make_speechqa.py", "--config", config, "--manifests-dir", place.manifests, "--output-dir", folder)
    return result, {cut["id"]: questions(cut) for cut in read_jsonl(folder / "speechqa_train_cuts.jsonl.gz")}


def test_speechqa_asks_about_training_halves_and_not_about_what_airbench_names(place, tmp_path):
    result, made = speechqa(place, tmp_path)
    assert "left out: nowhere was not prepared" in result.stdout
    known = {}
    for corpus in ("commonvoice", "iemocap", "cremad", "ravdess", "meld"):
        known |= attributes(place, f"{corpus}_train")
    known.pop("cv:common_voice_en_20")  # AIR-Bench has it
    assert sorted(made) == sorted(known)
    for key, asked in made.items():
        assert sorted(q["answers"][0] for q in asked) == sorted(known[key].values())
        assert all(q["answers"][0] in q.get("choices", q["answers"]) for q in asked)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["named_by_airbench"] == 1 and report["questions"] == sum(map(len, known.values()))


def test_speechqa_is_the_same_for_the_same_seed_and_another_for_another(place, tmp_path):
    one, again, other = (tmp_path / name for name in ("one", "again", "other"))
    for folder, seed in ((one, 1), (again, 1), (other, 2)):
        folder.mkdir()
        speechqa(place, folder, seed=seed, num_questions=12)
    cuts = [(folder / "speechqa_train_cuts.jsonl.gz").read_bytes() for folder in (one, again, other)]
    assert cuts[0] == cuts[1] != cuts[2]


def test_speechqa_shares_the_questions_equally(place, tmp_path):
    _, made = speechqa(place, tmp_path, num_questions=18)
    answers = Counter(question["answers"][0] for asked in made.values() for question in asked)
    assert sum(answers.values()) == 18
    genders = (answers["female"], answers["male"])
    ages = [answers[age] for age in ("teens-twenties", "thirties-fourties", "fifties-sixties", "seventies-eighties")]
    assert sum(genders) == 6 and max(genders) - min(genders) <= 1 and sum(ages) == 6


def test_speechqa_offers_choices_as_often_as_asked(place, tmp_path):
    _, never = speechqa(place, tmp_path, choice_share=0.0)
    _, always = speechqa(place, tmp_path, choice_share=1.0)
    assert not [q for asked in never.values() for q in asked if "choices" in q]
    with_choices = [q for asked in always.values() for q in asked]
    places = Counter(q["choices"].index(q["answers"][0]) for q in with_choices if "choices" in q)
    assert len(places) > 1 and sum(places.values()) > 0.8 * len(with_choices)
    _, in_order = speechqa(place, tmp_path, choice_share=1.0, shuffle_choices=False)
    for question in (q for asked in in_order.values() for q in asked if "male" in q.get("choices", ())):
        assert question["choices"] == ["female", "male"]


def test_the_papers_number_stands_in_the_configuration():
    text = (ROOT / "egs/captionstew/ALP/conf/speechqa.yaml").read_text()
    assert "num_questions: 160000" in text


@pytest.mark.parametrize(
    ("corpus", "name", "text", "message"),
    [
        ("airbench", "", "", "none of"),
        ("airbench", "Chat/Chat_meta.json", "{}", "Chat_meta.json: not a JSON list"),
        ("airbench", "Chat/Chat_meta.json", "\x00", "Chat_meta.json: not JSON in UTF-8"),
        ("commonvoice", "", "", "train.tsv"),
        ("commonvoice", "en/train.tsv", "path\tsentence\n", "train.tsv:1: no column age, gender"),
        ("iemocap", "", "", "no Session<1-5>/dialog/EmoEvaluation"),
        ("meld", "train_sent_emo.csv", "Speaker,Emotion\n", "no column Dialogue_ID, Utterance_ID"),
    ],
)
def test_what_is_not_the_published_layout_is_one_line(tmp_path, corpus, name, text, message):
    root = tmp_path / corpus
    root.mkdir()
    if name:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    options = ("--corpus-dir", root, "--manifests-dir", tmp_path / "manifests", "--corpora", CORPORA)
    result = run(f"prepare_{corpus}.py", *options)
    assert result.returncode == 1 and message in result.stderr and len(result.stderr.splitlines()) == 1
    assert (LOCAL / f"prepare_{corpus}.py").stat().st_mode & 0o100
