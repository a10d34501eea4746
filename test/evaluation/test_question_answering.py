# SPDX-License-Identifier: Apache-2.0
"""The protocol from cuts to numbers: kinds are told apart with audio, and guessed without."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from icefall_alp.config import JudgeConfig, QuestionPart
from icefall_alp.data.captions import Question
from icefall_alp.data.shards import ShardWriter, finish_shards
from icefall_alp.evaluation import question_answering
from icefall_alp.evaluation.encoders import FrozenEncoder, LogMelStatistics
from icefall_alp.evaluation.results import read_result
from icefall_alp.evaluation.tasks import evaluate
from icefall_alp.utils.errors import UserError
from test.evaluation.fake_endpoint import serving
from test.evaluation.question_toys import question_cut, toy_config, write_question_shards

FREE = {"kind": "chat", "parts": (QuestionPart("free", "free", 40),)}


@pytest.fixture(scope="module")
def encoder():
    return FrozenEncoder("log_mel", LogMelStatistics().eval(), "digest")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, encoder):
    """Folder and sets of an evaluation that has run, choices and free answers, without a judge."""
    folder = tmp_path_factory.mktemp("answering")
    sets = write_question_shards(folder / "train", 60, "train"), write_question_shards(folder / "test", 30, "test")
    run = folder / "exp/log_mel"
    for name, changes in (("letters", {}), ("words", FREE)):
        evaluate(question_answering.PROTOCOL, name, toy_config(*sets, **changes), encoder, run, "command")
    return run, sets


def results(run):
    return {r.metric: r for r in map(read_result, (run / "results/question_answering").glob("*.json"))}


def answers(folder):
    (path,) = folder.glob("*/answers.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_heard_is_told_and_the_blind_model_only_guesses(trained):
    found = results(trained[0])
    assert sorted(found) == [
        "free ROUGE-L", "which accuracy", "which instruction following", "which strict accuracy"
    ]  # fmt: skip
    for metric in ("which accuracy", "which strict accuracy", "free ROUGE-L"):
        assert found[metric].value > 80.0 and found[metric].without_audio < 45.0, metric
    assert found["which accuracy"].chance == pytest.approx(100 / 3)
    assert found["which instruction following"].value > 99.0
    assert found["free ROUGE-L"].num_expected == 40 and found["free ROUGE-L"].num_scored == 30


def test_one_adaptor_and_one_language_model_serve_both_tasks(trained):
    run, _ = trained
    assert len(list((run / "adaptor").glob("[!.]*"))) == 1
    assert len(list((run.parent / "language_model").glob("[!.]*"))) == 1
    assert len(list((run / "answers").glob("[!.]*"))) == len(list((run.parent / "without_audio").glob("[!.]*"))) == 2


def test_answers_are_kept_in_the_official_format(trained):
    run, _ = trained
    rows = [json.loads(line) for path in (run / "answers").glob("*/answers.jsonl") for line in path.open()]
    assert len(rows) == 60
    choice = next(row for row in rows if row["uniq_id"] == "c0")
    assert choice["choice_a"] == "dog" and choice["answer_gt"] == "dog" and choice["response"] in "ABC"


def test_a_killed_evaluation_answers_only_what_is_left(trained, encoder, monkeypatch, tmp_path):
    run, sets = trained
    config = toy_config(*sets)
    (path,) = [p for p in (run / "answers").glob("*/answers.jsonl") if "choice_a" in p.read_text()]
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:23]) + whole[23][:9])
    asked = []
    real = question_answering.generate_answers
    monkeypatch.setattr(
        question_answering,
        "generate_answers",
        lambda model, audio, questions, most: asked.append(len(questions)) or real(model, audio, questions, most),
    )
    found = {s.metric: s.value for s in question_answering.score(encoder, config, run, [""])}
    assert sum(asked) == 7
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted(whole)
    assert found["which accuracy"] == results(run)["which accuracy"].value


def test_a_finished_evaluation_computes_nothing(trained, encoder, monkeypatch, capsys):
    run, sets = trained
    monkeypatch.setattr(question_answering, "language_model", lambda *_: pytest.fail("the model was loaded"))
    assert evaluate(question_answering.PROTOCOL, "letters", toy_config(*sets), encoder, run, "command") == []
    assert "skip: log_mel question_answering letters is done" in capsys.readouterr().out


def test_a_judge_scores_with_and_without_audio_and_asks_once(trained, encoder, capsys):
    run, sets = trained

    def mark(prompt):
        truth, answer = prompt.split("[Answer of assistant 1]\n")[1].split("\n\n[Answer of assistant 2]\n")
        answer = answer.split("\n\n")[0]
        return "9 9" if truth == answer else "4 4"

    with serving() as (fake, url):
        fake.default = mark
        judge = JudgeConfig("endpoint", "judge-1", base_url=url, allow_network=True, repeats=2, retry_seconds=0.01)
        config = toy_config(*sets, **FREE, judge=judge)
        found = {s.metric: s for s in question_answering.score(encoder, config, run, [""])}
        assert found["free judge score"].value > 8.0 > 6.0 > found["free judge score"].without_audio
        assert found["free judge agreement"].value == 100.0
        assert 30 * 2 * 2 < len(fake.requests) <= 2 * 30 * 2 * 2  # equal guesses without audio share a judgement
        fake.requests.clear()
        again = {s.metric: s.value for s in question_answering.score(encoder, config, run, [""])}
        assert again == {metric: s.value for metric, s in found.items()} and fake.requests == []
    printed = capsys.readouterr().out
    assert printed.index("judgements to make") < printed.index("judge score")


def test_numbers_are_those_of_every_part(trained):
    _, sets = trained
    parts = (QuestionPart("a", "x"), QuestionPart("b", "y"))
    judge = JudgeConfig("endpoint", "m", base_url="u", repeats=2)
    config = toy_config(*sets, kind="chat", parts=parts, judge=judge)
    kinds = ("ROUGE-L", "judge score", "judge agreement")
    assert question_answering.numbers(config) == [("", f"{part} {kind}") for part in "ab" for kind in kinds]


def test_a_part_that_is_not_there_is_named_and_the_other_scored(trained, encoder, capsys):
    run, sets = trained
    config = toy_config(*sets, parts=(QuestionPart("which", "choice"), QuestionPart("age", "years")))
    assert [s.metric for s in question_answering.score(encoder, config, run, [""])] == [
        "which accuracy", "which strict accuracy", "which instruction following"
    ]  # fmt: skip
    assert "left out: age: no question of years" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("question", "changes", "message"),
    [
        (Question("Which?", ("sad",), ("glad", "calm")), {}, "the answer 'sad' is none of the choices 'glad', 'calm'"),
        (Question("Which?", ("sad",)), {}, "0 choices instead of two to four"),
        (
            Question("Which?", ("sad",)),
            {"kind": "chat", "judge": JudgeConfig("endpoint", "m", base_url="http://localhost")},
            "no description for the judge",
        ),
    ],
)
def test_questions_that_cannot_be_scored_are_one_line_before_any_work(
    tmp_path, trained, encoder, question, changes, message
):
    _, (train, _) = trained
    folder = tmp_path / "wrong"
    folder.mkdir()
    with ShardWriter(folder, 0) as writer:
        writer.add(question_cut("airbench:T_d/1.wav", [question]), LogMelStatistics()(*_noise())[0].numpy()[0])
        writer.finish("digest", [])
    finish_shards(folder, [])
    config = dataclasses.replace(toy_config(train, folder), parts=(QuestionPart(),), **changes)
    with pytest.raises(UserError, match=message) as error:
        list(question_answering.score(encoder, config, tmp_path / "exp/log_mel", [""]))
    assert "airbench:T_d/1.wav" in str(error.value) and not (tmp_path / "exp").exists()


def _noise():
    return torch.randn(1, 50, 80), torch.tensor([50])


def test_a_model_folder_without_a_chat_template_is_one_line(tmp_path, trained, encoder):
    run, sets = trained
    (model,) = (run.parent / "language_model").glob("[!.]*")
    copy = tmp_path / "model"
    copy.mkdir()
    for path in model.glob("[!.]*"):
        if path.name != "chat_template.jinja":
            (copy / path.name).write_bytes(path.read_bytes())
    config = toy_config(*sets)
    config = dataclasses.replace(
        config, language_model=dataclasses.replace(config.language_model, pretrained=str(copy))
    )
    with pytest.raises(UserError, match="without a chat template"):
        list(question_answering.score(encoder, config, Path(tmp_path / "exp/log_mel"), [""]))
