# SPDX-License-Identifier: Apache-2.0
"""Scoring free answers with a judge as AIR-Bench's chat part does: two assistants, both orders, 1 to 10 each.

The judge reads a description of the audio, the question, the reference answer as one assistant's and the model's as
the other's, and gives two marks; then again with the assistants swapped. A model's score is the mean of its marks over
both orders. The official code sends temperature 2.0 in a random half of its calls; here it is always 0. The wording of
the prompt is this project's, so scores are comparable among its runs and only roughly with published ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from icefall_alp.config import JudgeConfig
from icefall_alp.evaluation.item_log import ItemLog
from icefall_alp.evaluation.judge import Judge
from icefall_alp.evaluation.questions import Item
from icefall_alp.utils.digests import sha256_text
from icefall_alp.utils.errors import UserError

REFERENCE_FIRST, MODEL_FIRST = "reference first", "model first"
_MARKS = re.compile(r"\W*(\d+(?:\.\d+)?)[\s,;/|]+(\d+(?:\.\d+)?)(?!\d)")
_READINGS = 2  # times that a reply without two marks is asked for
_CHARACTERS_PER_TOKEN = 4.0  # for the estimate
_REPLY_TOKENS = 8

_PROMPT = """\
Two assistants have listened to the same recording and answered the same question about it. You cannot hear the \
recording; what is known about it is described below. Judge how helpful, relevant, accurate and complete each answer \
is. Do not let the order of the answers or their length influence you.

[What is known about the recording]
{reference}

[Question]
{question}

[Answer of assistant 1]
{first}

[Answer of assistant 2]
{second}

Give each assistant a mark from 1 (worthless) to 10 (perfect). Reply with exactly one line that holds the two marks \
separated by a space, the mark of assistant 1 first, and nothing else."""


@dataclass(frozen=True)
class Request:
    """One judgement to be made: `key` names judge, prompt and repetition."""

    key: str
    item: int
    order: str
    prompt: str


@dataclass(frozen=True)
class Judgement:
    """What a judge found over a list of answers.

    Attributes:
        score: mean mark of the model, 1 to 10, over items with a mark in both orders.
        num_scored: those items.
        agreement: of repeated judgements of one answer and order, the percentage of pairs with equal marks; None
            without repetitions.
        spread: mean absolute difference of such pairs, in marks.
        order_effect: mean mark of the model when it is read first less that when it is read second.
        num_unreadable: replies without two marks.
    """

    score: float
    num_scored: int
    agreement: float | None
    spread: float | None
    order_effect: float
    num_unreadable: int

    def summary(self) -> str:
        """One line for people."""
        repeated = "" if self.agreement is None else (
            f"; repeated judgements agree in {self.agreement:.1f} % (mean difference {self.spread:.2f})"
        )  # fmt: skip
        return (
            f"judge score {self.score:.3f} over {self.num_scored} items, {self.order_effect:+.2f} when read first, "
            f"{self.num_unreadable} replies without marks{repeated}"
        )


def parse_marks(reply: str) -> tuple[float, float] | None:
    """The two marks at the beginning of a reply, None where they are not there or not 1 to 10."""
    match = _MARKS.match(reply)
    marks = (float(match[1]), float(match[2])) if match else None
    return marks if marks and all(1.0 <= mark <= 10.0 for mark in marks) else None


def requests_for(items: Sequence[Item], responses: Sequence[str], judge: str, repeats: int) -> list[Request]:
    """Every judgement of a list of responses: both orders, each `repeats` times."""
    made = []
    for i, (item, response) in enumerate(zip(items, responses, strict=True)):
        for order in (REFERENCE_FIRST, MODEL_FIRST):
            first, second = (item.answer, response) if order == REFERENCE_FIRST else (response, item.answer)
            prompt = _PROMPT.format(reference=item.reference, question=item.text, first=first, second=second)
            for repeat in range(repeats):
                made.append(Request(sha256_text("\x1f".join([judge, prompt, str(repeat)])), i, order, prompt))
    return made


def estimate(requests: Sequence[Request], num_known: int, judge: str, config: JudgeConfig) -> str:
    """What is still to be asked and what that will cost, in one line."""
    prompt_tokens = sum(len(request.prompt) for request in requests) / _CHARACTERS_PER_TOKEN
    reply_tokens = _REPLY_TOKENS * len(requests)
    cost = (prompt_tokens * config.prompt_price + reply_tokens * config.reply_price) / 1e6
    priced = f"about {cost:.2f} at the prices given" if cost else "prices are not given (judge.prompt_price)"
    return (
        f"judge {judge}: {len(requests):,} judgements to make, {num_known:,} made before; about {prompt_tokens:,.0f} "
        f"prompt tokens and {reply_tokens:,} reply tokens, {priced}"
    )


def judge_responses(
    items: Sequence[Item], responses: Sequence[str], judge: Judge, config: JudgeConfig, log_path: Path
) -> Judgement:
    """Judge every response; what the log holds already is not asked for again.

    Args:
        items: with references.
        responses: of the model, one each.
        judge: who judges.
        config: repetitions, prices, whether an endpoint may be asked at all.
        log_path: JSON lines, one per judgement, written as they come.

    Raises:
        UserError: the endpoint may not be asked, fails for good, or no item got its marks.
    """
    requests = requests_for(items, responses, judge.name, config.repeats)
    with ItemLog(log_path) as log:
        open_requests = [request for request in requests if request.key not in log.rows]
        line = estimate(open_requests, len(requests) - len(open_requests), judge.name, config)
        print(line, flush=True)
        if open_requests and config.kind == "endpoint" and not config.allow_network:
            raise UserError(f"{line}; nothing was sent: add --set judge.allow_network=true to have it judged")
        _ask(open_requests, judge, log)
        rows = [log.rows[request.key]["marks"] for request in requests]
    return summarize(requests, rows, len(items))


def _ask(requests: Sequence[Request], judge: Judge, log: ItemLog) -> None:
    """Put the requests, a few at a time; the first failure stops the rest, and what came before it is kept."""
    waiting = list(reversed(requests))
    running = {}
    with (
        tqdm(total=len(requests), desc="judge", unit="judgement", disable=None) as progress,
        ThreadPoolExecutor(judge.num_parallel) as pool,
    ):
        failure: Exception | None = None
        while running or (waiting and failure is None):
            while waiting and failure is None and len(running) < judge.num_parallel:
                request = waiting.pop()
                running[pool.submit(_read_marks, judge, request.prompt)] = request
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                request = running.pop(future)
                error = future.exception()
                if error is not None:
                    failure = failure or error
                    continue
                marks, reply = future.result()
                row = {"order": request.order, "marks": marks, "reply": reply, "judge": judge.name}
                log.add({request.key: row})
                progress.update()
    if failure is not None:
        raise failure


def _read_marks(judge: Judge, prompt: str) -> tuple[tuple[float, float] | None, str]:
    for _ in range(_READINGS):
        reply = judge.reply(prompt)
        marks = parse_marks(reply)
        if marks is not None:
            break
    return marks, reply


def summarize(requests: Sequence[Request], marks: Sequence[Sequence[float] | None], num_items: int) -> Judgement:
    """Means over items from the marks of every request.

    Raises:
        UserError: no item has marks in both orders.
    """
    of_model: list[dict[str, list[float]]] = [{REFERENCE_FIRST: [], MODEL_FIRST: []} for _ in range(num_items)]
    for request, pair in zip(requests, marks, strict=True):
        if pair is not None:
            of_model[request.item][request.order].append(pair[1 if request.order == REFERENCE_FIRST else 0])
    complete = [own for own in of_model if own[REFERENCE_FIRST] and own[MODEL_FIRST]]
    if not complete:
        raise UserError(f"none of {len(marks)} judgements holds two marks from 1 to 10; is this judge a chat model?")
    means = np.array([[np.mean(own[MODEL_FIRST]), np.mean(own[REFERENCE_FIRST])] for own in complete])
    pairs = [pair for own in of_model for given in own.values() for pair in combinations(given, 2)]
    differences = np.array([abs(one - other) for one, other in pairs])
    return Judgement(
        score=float(means.mean()),
        num_scored=len(complete),
        agreement=100.0 * float((differences == 0).mean()) if pairs else None,
        spread=float(differences.mean()) if pairs else None,
        order_effect=float((means[:, 0] - means[:, 1]).mean()),
        num_unreadable=sum(pair is None for pair in marks),
    )
