# SPDX-License-Identifier: Apache-2.0
"""Which answer counts, which questions are asked."""

from __future__ import annotations

import pytest

from icefall_alp.data.captions import Question
from icefall_alp.evaluation.questions import most_frequent, read_items
from icefall_alp.utils.errors import UserError
from test.evaluation.question_toys import question_cut

CUTS = [
    question_cut("a", [Question("loud?", ("no", "Yes", "yes")), Question("what?", ("rain", "hail", "snow"), task="t")]),
    question_cut("b", [Question("loud?", ("yes", "Yes"), id="7", reference="about b")]),
]


def test_majority_takes_the_most_frequent_whatever_its_case_and_the_first_of_equals():
    items, num_left_out = read_items(CUTS, "majority")
    assert [(item.clip, item.cut_id, item.text, item.answer) for item in items] == [
        (0, "a", "loud?", "Yes"), (0, "a", "what?", "rain"), (1, "b", "loud?", "yes")
    ]  # fmt: skip
    assert num_left_out == 0 and (items[2].id, items[2].reference) == ("7", "about b")
    assert most_frequent(["b", "a", "A"]) == "a"


def test_unanimous_leaves_out_and_counts_where_people_differ():
    items, num_left_out = read_items(CUTS, "unanimous")
    assert [item.cut_id for item in items] == ["b"] and num_left_out == 2


def test_parts_are_asked_alone_and_an_unknown_part_names_those_there_are():
    assert [item.text for item in read_items(CUTS, "majority", ["t"])[0]] == ["what?"]
    with pytest.raises(UserError, match="wanted u, there are , t"):
        read_items(CUTS, "majority", ["u"])


def test_items_have_keys_of_their_own_and_cuts_without_questions_are_refused():
    items, _ = read_items(CUTS, "majority")
    assert len({item.key for item in items}) == 3
    with pytest.raises(UserError, match="c: no question"):
        read_items([question_cut("c", [])], "majority")
