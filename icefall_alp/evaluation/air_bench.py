# SPDX-License-Identifier: Apache-2.0
"""AIR-Bench's protocol: how its questions are put, how letters are read, the rows in which predictions are handed in.

Foundation items are multiple choice. The official scorer takes the first character of an answer where it is A to D,
else the second to last, else it leaves the item out of the denominator. So "Angry" counts as A, and a model that
refuses often is not punished. The strict reading beside it wants one letter that was on offer, standing alone, or the
text of one choice, and counts everything else as wrong; the share that it can read is the instruction-following rate.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icefall_alp.data.captions import check_choices
from icefall_alp.evaluation.questions import Item
from icefall_alp.utils.errors import UserError

LETTERS = "ABCD"
_INSTRUCTION = (
    "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, "
    "you may only choose A or B or C or D."
)  # the benchmark's own wording, which its figures depend on
_LETTER = re.compile(r"(?:the (?:answer|option) is|answer:|option)?\W*([A-D])(?:[).:,*\"'\n].*)?", re.I | re.DOTALL)


def choice_prompt(question: str, choices: Sequence[str]) -> str:
    """The question and its choices as the benchmark puts them, one choice a line."""
    options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS[: len(choices)], choices, strict=True)]
    return "\n".join([_INSTRUCTION, question, *options])


def right_letter(item: Item) -> str:
    """The letter of the item's answer. Raises UserError where `check_choices` would refuse the question."""
    try:
        check_choices(f"{item.cut_id}, {item.text!r}", item.choices, item.answer)
    except ValueError as error:
        raise UserError(f"{error}; mend the benchmark's list and prepare it again") from error
    return LETTERS[item.choices.index(item.answer)]


def official_letter(response: str) -> str | None:
    """The letter that the official scorer reads, None where it leaves the item out."""
    text = response.strip()
    candidates = [text[:1], text[-2:-1] if len(text) > 1 else ""]
    return next((letter for letter in candidates if letter and letter in LETTERS), None)


def strict_letter(response: str, choices: Sequence[str]) -> str | None:
    """The one letter on offer that the response names, or whose choice it repeats; None otherwise."""
    text = response.strip()
    offered = LETTERS[: len(choices)]
    plain = text.strip(".!\"' ").casefold()
    for letter, choice in zip(offered, choices, strict=True):
        if plain == choice.strip(".!\"' ").casefold():
            return letter
    match = _LETTER.fullmatch(text)
    if match is None or match[1] not in offered:
        return None
    named = set(re.findall(r"(?<![A-Za-z'])([A-D])(?![A-Za-z'])", text))
    return match[1] if named == {match[1]} else None


@dataclass(frozen=True)
class ChoiceScores:
    """Percentages of one list of responses, and how many the official scorer could read."""

    accuracy: float  # as the official scorer: unreadable responses left out
    strict_accuracy: float  # strict reading, unreadable responses wrong
    instruction_following: float  # share that the strict reading can read
    num_read: int
    chance: float  # share of the most frequent answer


def score_choices(items: Sequence[Item], responses: Sequence[str]) -> ChoiceScores:
    """Score the responses to multiple-choice items both ways.

    Raises:
        UserError: see `right_letter`.
    """
    right = [right_letter(item) for item in items]
    official = [official_letter(response) for response in responses]
    strict = [strict_letter(response, item.choices) for item, response in zip(items, responses, strict=True)]
    num_read = sum(letter is not None for letter in official)
    num_right = sum(letter == wanted for letter, wanted in zip(official, right, strict=True))
    num_strict = sum(letter == wanted for letter, wanted in zip(strict, right, strict=True))
    return ChoiceScores(
        accuracy=100.0 * num_right / num_read if num_read else 0.0,
        strict_accuracy=100.0 * num_strict / len(items),
        instruction_following=100.0 * sum(letter is not None for letter in strict) / len(items),
        num_read=num_read,
        chance=100.0 * max(Counter(item.answer for item in items).values()) / len(items),
    )


def prediction_row(item: Item, response: str) -> dict[str, Any]:
    """One line of a prediction file in the official format, so that the official scorer can read it too."""
    task_name, _, dataset_name = item.task.partition("/")
    path = item.cut_id.partition("/")[2] or item.cut_id
    row = {"path": path, "question": item.text, "answer_gt": item.answer, "uniq_id": item.id, "response": response}
    row |= {"task_name": task_name, "dataset_name": dataset_name}
    row |= {
        f"choice_{letter.lower()}": choice
        for letter, choice in zip(LETTERS[: len(item.choices)], item.choices, strict=True)
    }
    return row | ({"meta_info": item.reference} if item.reference else {})
