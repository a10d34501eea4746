# SPDX-License-Identifier: Apache-2.0
"""The questions of a set of cuts, one item each: which of several answers counts, which part of a set is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lhotse import MonoCut

from icefall_alp.utils.digests import sha256_text
from icefall_alp.utils.errors import UserError


@dataclass(frozen=True)
class Item:
    """One question about one clip.

    Attributes:
        clip: place of the cut among those it was read from.
        cut_id: its id.
        text: the question.
        answer: the one that counts; with choices the text of one of them.
        choices: to choose from, in order; empty where the answer is free.
        task: part of the benchmark.
        id: the publishers' own.
        reference: description of the clip for a judge.
    """

    clip: int
    cut_id: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()
    task: str = ""
    id: str = ""
    reference: str = ""

    @property
    def key(self) -> str:
        """Names the item in logs: digest of clip and question."""
        return sha256_text("\x1f".join([self.cut_id, self.id, self.text, *self.choices]))[:24]


def read_items(cuts: Sequence[MonoCut], rule: str, parts: Sequence[str] = ()) -> tuple[list[Item], int]:
    """All questions of some cuts.

    Args:
        cuts: with questions.
        rule: majority: the most frequent answer, of equally frequent ones the first; unanimous: questions whose
            answers differ are left out. Case does not count.
        parts: names of tasks; other questions are not meant. Empty, or an empty name among them, means all.

    Returns:
        The items, in the order of the cuts, and how many questions were left out because answers differ.

    Raises:
        UserError: a cut has no question, or no question is of these parts.
    """
    items, num_differing, known = [], 0, set()
    for clip, cut in enumerate(cuts):
        for question in _questions_of(cut):
            known.add(question.get("task", ""))
            if parts and "" not in parts and question.get("task", "") not in parts:
                continue
            answers = question["answers"]
            if rule == "unanimous" and len({answer.casefold() for answer in answers}) > 1:
                num_differing += 1
                continue
            optional = {name: question.get(name, "") for name in ("task", "id", "reference")}
            choices = tuple(question.get("choices", ()))
            items.append(Item(clip, cut.id, question["text"], most_frequent(answers), choices, **optional))
    if not items:
        raise UserError(f"no question left: wanted {', '.join(parts) or 'any'}, there are {', '.join(sorted(known))}")
    return items, num_differing


def most_frequent(answers: Iterable[str]) -> str:
    """The answer given most often, whatever its case; of equally frequent ones the first."""
    answers = list(answers)
    counts = Counter(answer.casefold() for answer in answers)
    return max(answers, key=lambda answer: counts[answer.casefold()])


def _questions_of(cut: MonoCut) -> list[dict[str, Any]]:
    questions: list[dict[str, Any]] = (cut.supervisions[0].custom or {}).get("questions", [])
    if not questions:
        raise UserError(f"{cut.id}: no question; this task needs cuts with questions (see icefall_alp.data.captions)")
    return questions
