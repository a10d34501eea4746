# SPDX-License-Identifier: Apache-2.0
"""Judges against a server on loopback that fails in every way, and a model on disk."""

from __future__ import annotations

import dataclasses

import pytest

from icefall_alp.config import JudgeConfig
from icefall_alp.evaluation.judge import EndpointJudge, LocalJudge, build_judge
from icefall_alp.utils.digests import folder_digest
from icefall_alp.utils.errors import UserError
from test.evaluation.fake_endpoint import serving
from test.models.question_toys import small_model

KEY = "sk-very-secret-7f3a"


@pytest.fixture
def endpoint():
    with serving() as (fake, url):
        yield (
            fake,
            JudgeConfig("endpoint", "judge-1", base_url=url, timeout_seconds=1.5, max_tries=4, retry_seconds=1.0),
        )


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def waits():
    return []


def test_a_request_has_temperature_zero_the_model_and_the_key_in_its_header(endpoint, waits):
    fake, config = endpoint
    assert EndpointJudge(config, waits.append).reply("which?") == "7 5"
    (request,) = fake.requests
    assert (request["model"], request["temperature"], request["messages"]) == (
        "judge-1", 0, [{"role": "user", "content": "which?"}]
    )  # fmt: skip
    assert fake.keys == [f"Bearer {KEY}"] and waits == []


def test_rate_limits_wait_as_long_as_the_server_asks_and_otherwise_ever_longer(endpoint, waits):
    fake, config = endpoint
    fake.script = [("status", 429, {"Retry-After": "17"}, ""), ("status", 429, {}, ""), ("status", 503, {}, ""), "8 9"]
    assert EndpointJudge(config, waits.append).reply("p") == "8 9"
    assert waits == [17.0, 4.0, 8.0] and len(fake.requests) == 4


@pytest.mark.parametrize("fault", ["slow", "drop", "garbage", ("status", 200, {}, "<html>")])
def test_time_outs_dropped_connections_and_what_is_no_completion_are_tried_again(endpoint, waits, fault):
    fake, config = endpoint
    fake.script = [fault, "3 4"]
    assert EndpointJudge(config, waits.append).reply("p") == "3 4"
    assert len(fake.requests) == 2 and waits == [2.0]


def test_an_endpoint_that_never_answers_is_one_line_without_the_key(endpoint, waits):
    fake, config = endpoint
    fake.script = [("status", 500, {}, KEY)] * 9
    with pytest.raises(UserError, match=r"no reply after 4 tries \(HTTP 500\).*start again later") as error:
        EndpointJudge(config, waits.append).reply("p")
    assert KEY not in str(error.value) and len(fake.requests) == 4


def test_a_refusal_is_not_tried_again_and_does_not_show_the_key(endpoint, waits):
    fake, config = endpoint
    fake.script = [("status", 401, {}, f'{{"error": "bad key {KEY}"}}')]
    with pytest.raises(UserError, match=r"HTTP 401.*bad key <key>") as error:
        EndpointJudge(config, waits.append).reply("p")
    assert KEY not in str(error.value) and len(fake.requests) == 1


def test_a_redirect_does_not_carry_the_key_elsewhere(endpoint, waits):
    fake, config = endpoint
    with serving() as (other, url):
        fake.script = [("status", 307, {"Location": f"{url}/chat/completions"}, "")]
        with pytest.raises(UserError, match="HTTP 307"):
            EndpointJudge(config, waits.append).reply("p")
        assert other.requests == []


def test_addresses_that_would_leak_the_key_and_missing_keys_are_refused(monkeypatch):
    config = JudgeConfig("endpoint", "m", base_url="http://judge.example/v1")
    with pytest.raises(UserError, match="unencrypted"):
        build_judge(config)
    for wrong in ("judge.example/v1", "file:///etc", "https://user:word@judge.example"):
        with pytest.raises(UserError, match="no address"):
            build_judge(dataclasses.replace(config, base_url=wrong))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="set the environment variable OPENAI_API_KEY"):
        build_judge(dataclasses.replace(config, base_url="https://judge.example/v1"))


def test_a_server_on_this_machine_needs_no_key(endpoint, monkeypatch, waits):
    monkeypatch.delenv("OPENAI_API_KEY")
    fake, config = endpoint
    EndpointJudge(config, waits.append).reply("p")
    assert fake.keys == [None]


def test_a_local_judge_is_the_pinned_one(tmp_path):
    small_model().save(tmp_path / "judge")
    digest = folder_digest(tmp_path / "judge")
    judge = LocalJudge(JudgeConfig("local", str(tmp_path / "judge"), digest[:8], max_reply_tokens=3))
    assert judge.reply("which?") == judge.reply("which?") and digest in judge.name
    with pytest.raises(UserError, match=f"the digest of .* is {digest}"):
        LocalJudge(JudgeConfig("local", str(tmp_path / "judge"), "0" * 64))
    with pytest.raises(UserError, match="no language model at"):
        LocalJudge(JudgeConfig("local", str(tmp_path / "nowhere"), "0" * 8))


def test_no_judge_is_none():
    assert build_judge(JudgeConfig()) is None
