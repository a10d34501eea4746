# SPDX-License-Identifier: Apache-2.0
"""Both orders, means by hand, and nothing asked twice whatever happens in between."""

from __future__ import annotations

import dataclasses
import json

import pytest

from icefall_alp.config import JudgeConfig
from icefall_alp.evaluation.judge import EndpointJudge
from icefall_alp.evaluation.judging import judge_responses, parse_marks, requests_for
from icefall_alp.evaluation.questions import Item
from icefall_alp.utils.errors import UserError
from test.evaluation.fake_endpoint import serving

ITEMS = [Item(i, f"c{i}", f"what is {i}?", f"truth {i}", id=str(i), reference=f"about {i}") for i in range(6)]
RESPONSES = [f"guess {i}" for i in range(6)]


@pytest.fixture
def endpoint():
    with serving() as (fake, url):
        yield (
            fake,
            JudgeConfig(
                "endpoint", "judge-1", base_url=url, allow_network=True, timeout_seconds=5.0, max_tries=2,
                retry_seconds=0.01, num_parallel=3,
            ),
        )  # fmt: skip


def judged(config, path, items=ITEMS, responses=RESPONSES):
    return judge_responses(items, responses, EndpointJudge(config, lambda seconds: None), config, path)


@pytest.mark.parametrize(
    ("reply", "marks"),
    [
        ("8 9", (8.0, 9.0)),
        ("7.5, 6\nbecause", (7.5, 6.0)),
        ("**4 / 10**", (4.0, 10.0)),
        ("10 1", (10.0, 1.0)),
        ("0 5", None),
        ("11 5", None),
        ("8", None),
        ("Assistant 1: 8, assistant 2: 9", None),
        ("", None),
    ],
)
def test_marks(reply, marks):
    assert parse_marks(reply) == marks


def test_both_orders_show_the_same_two_answers_swapped():
    first, second = requests_for(ITEMS[:1], RESPONSES[:1], "judge", 1)
    assert [r.order for r in (first, second)] == ["reference first", "model first"]
    for request, answers in ((first, ("truth 0", "guess 0")), (second, ("guess 0", "truth 0"))):
        one, two = (request.prompt.index(answer) for answer in answers)
        assert one < two and "about 0" in request.prompt and "what is 0?" in request.prompt
    keys = {r.key for judge in ("a", "b") for r in requests_for(ITEMS, RESPONSES, judge, 2)}
    assert len(keys) == 2 * 6 * 2 * 2


def test_the_score_is_the_mean_over_both_orders(endpoint, tmp_path):
    fake, config = endpoint

    # a judge that likes what it reads first: 9 to it, 4 to the other, one more to item 0's model
    def mark(prompt):
        if "what is 0?" in prompt:
            return "9 5" if prompt.index("truth") < prompt.index("guess") else "10 4"
        return "9 4"

    fake.default = mark
    found = judged(config, tmp_path / "log.jsonl")
    assert found.score == pytest.approx(((5 + 10) / 2 + 5 * (4 + 9) / 2) / 6)
    assert (found.num_scored, found.order_effect, found.agreement) == (6, 5.0, None)
    assert len(fake.requests) == 12


def test_repeated_judgements_and_how_far_they_agree(endpoint, tmp_path):
    fake, config = endpoint
    config = dataclasses.replace(config, repeats=2, num_parallel=1)
    # item 0, reference first: 6 and 6; item 0, model first: 8 and 5; item 1: all equal
    fake.script = ["9 6", "9 6", "8 9", "5 9", "9 4", "9 4", "4 9", "4 9"]
    found = judged(config, tmp_path / "log.jsonl", ITEMS[:2], RESPONSES[:2])
    assert found.score == pytest.approx(((6 + 6.5) / 2 + 4) / 2)
    assert (found.agreement, found.spread) == (75.0, 0.75)
    assert "agree in 75.0 %" in found.summary()


def test_nothing_is_asked_before_it_is_allowed_and_the_estimate_comes_first(endpoint, tmp_path, capsys):
    fake, config = endpoint
    config = dataclasses.replace(config, allow_network=False, prompt_price=2.5, reply_price=10.0)
    with pytest.raises(UserError, match=r"12 judgements to make, 0 made before.*allow_network=true"):
        judged(config, tmp_path / "log.jsonl")
    tokens = sum(len(r.prompt) for r in requests_for(ITEMS, RESPONSES, "j", 1)) / 4
    assert f"about {(tokens * 2.5 + 12 * 8 * 10) / 1e6:.2f} at the prices given" in capsys.readouterr().out
    assert fake.requests == []


def test_after_a_failure_only_the_rest_is_judged(endpoint, tmp_path, capsys):
    fake, config = endpoint
    config = dataclasses.replace(config, num_parallel=1)
    fake.script = ["7 5"] * 5 + ["drop", "drop"]
    with pytest.raises(UserError, match="what was judged is kept"):
        judged(config, tmp_path / "log.jsonl")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 5
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"key": "half a li')  # and killed while writing
    fake.requests.clear()
    found = judged(config, tmp_path / "log.jsonl")
    assert found.num_scored == 6 and len(fake.requests) == 7
    assert "7 judgements to make, 5 made before" in capsys.readouterr().out
    fake.requests.clear()
    assert judged(config, tmp_path / "log.jsonl") == found
    assert fake.requests == []


def test_with_several_requests_under_way_a_refusal_keeps_what_came(endpoint, tmp_path):
    fake, config = endpoint
    fake.script = ["7 5", "7 5", ("status", 403, {}, "no more"), "7 5", "7 5"]
    with pytest.raises(UserError, match="HTTP 403"):
        judged(config, tmp_path / "log.jsonl")
    before = len(fake.requests)
    num_kept = len((tmp_path / "log.jsonl").read_text().splitlines())
    assert num_kept == before - 1
    judged(config, tmp_path / "log.jsonl")
    assert len(fake.requests) - before == 12 - num_kept


def test_replies_without_marks_are_asked_for_again_then_counted_and_not_asked_a_third_time(endpoint, tmp_path):
    fake, config = endpoint
    config = dataclasses.replace(config, num_parallel=1)
    fake.script = ["I cannot judge", "8 6", "twelve", "none"]  # the first is mended, the second is not
    found = judged(config, tmp_path / "log.jsonl")
    assert (found.num_scored, found.num_unreadable) == (5, 1)
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1])
    assert row["marks"] is None and row["reply"] == "none"
    fake.requests.clear()
    assert judged(config, tmp_path / "log.jsonl") == found and fake.requests == []


def test_a_judge_that_never_gives_marks_is_one_line(endpoint, tmp_path):
    fake, config = endpoint
    fake.default = lambda prompt: "no"
    with pytest.raises(UserError, match="none of 12 judgements holds two marks"):
        judged(config, tmp_path / "log.jsonl")


def test_another_response_or_judge_is_judged_anew(endpoint, tmp_path):
    fake, config = endpoint
    judged(config, tmp_path / "log.jsonl")
    fake.requests.clear()
    judged(config, tmp_path / "log.jsonl", responses=["other", *RESPONSES[1:]])
    assert len(fake.requests) == 2
    judged(dataclasses.replace(config, model="judge-2"), tmp_path / "log.jsonl")
    assert len(fake.requests) == 2 + 12
