# SPDX-License-Identifier: Apache-2.0
"""AIR-Bench's letters by hand: what the official scorer reads, what the strict reading does, both denominators."""

from __future__ import annotations

import pytest

from icefall_alp.evaluation.air_bench import (
    choice_prompt,
    official_letter,
    prediction_row,
    right_letter,
    score_choices,
    strict_letter,
)
from icefall_alp.evaluation.questions import Item
from icefall_alp.utils.errors import UserError

CHOICES = ("happy", "sad", "angry")


def item(answer="sad", choices=CHOICES, number=0):
    return Item(number, f"airbench:T_d/{number}.wav", "Which mood?", answer, choices, "T/d", str(number))


def test_the_prompt_is_the_benchmarks():
    text = choice_prompt("Which mood?", ("glad", "sad"))
    assert text == (
        "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, "
        "you may only choose A or B or C or D.\nWhich mood?\nA. glad\nB. sad"
    )


@pytest.mark.parametrize(
    ("response", "official", "strict"),
    [
        ("B", "B", "B"),
        ("B. sad", "B", "B"),
        ("  C\n", "C", "C"),
        ("(B)", "B", "B"),  # official: second to last
        ("the answer is B.", "B", "B"),
        ("Answer: C", "A", "C"),
        ("sad", None, "B"),
        ("Angry.", "A", "C"),  # official: the first character
        ("Both are possible", "B", None),
        ("D", "D", None),  # not on offer
        ("A or B", "A", None),
        ("A dog barks", "A", None),
        ("**B**", None, "B"),
        ("b", None, None),  # too small a letter for both: the official scorer knows capitals
        ("", None, None),
        ("I cannot tell", None, None),
    ],
)
def test_letters(response, official, strict):
    assert official_letter(response) == official
    assert strict_letter(response, CHOICES) == strict


def test_unreadable_answers_leave_the_official_denominator_and_count_as_wrong_in_the_strict_one():
    items = [item(number=i) for i in range(4)] + [item("happy", number=4)]
    scores = score_choices(items, ["B", "A", "cannot say", "Because it is sad", "A"])
    # official: B right, A wrong, out, B right, A right; strict: right, wrong, -, -, right
    assert (scores.num_read, scores.accuracy) == (4, 75.0)
    assert (scores.strict_accuracy, scores.instruction_following, scores.chance) == (40.0, 60.0, 80.0)


def test_nothing_readable_scores_nothing():
    scores = score_choices([item()], ["?"])
    assert (scores.num_read, scores.accuracy, scores.strict_accuracy) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        (item("calm"), "the answer 'calm' is none of the choices 'happy', 'sad', 'angry'"),
        (item("sad", ()), "0 choices instead of two to four"),
        (item("sad", ("sad", "sad")), "empty or there twice"),
        (item("sad", ("sad", " ")), "empty or there twice"),
        (item("sad", ("sad", "b", "c", "d", "e")), "5 choices"),
    ],
)
def test_questions_that_cannot_be_scored_are_one_line(wrong, cause):
    with pytest.raises(UserError, match=cause) as error:
        right_letter(wrong)
    assert "airbench:T_d/0.wav" in str(error.value) and "prepare it again" in str(error.value)


def test_a_prediction_has_the_official_fields():
    assert prediction_row(item(), "B") == {
        "path": "0.wav", "question": "Which mood?", "answer_gt": "sad", "uniq_id": "0", "response": "B",
        "task_name": "T", "dataset_name": "d", "choice_a": "happy", "choice_b": "sad", "choice_c": "angry",
    }  # fmt: skip
    free = Item(0, "airbench:T_d/0.wav", "What?", "rain", task="T/d", id="3", reference="It rains.")
    assert prediction_row(free, "hail")["meta_info"] == "It rains."
