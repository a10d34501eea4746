# SPDX-License-Identifier: Apache-2.0
"""What a list gives as a time is a number of seconds or a ValueError, whatever it is."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icefall_alp.data.times import MAX_SECONDS, seconds, stretch

JSON = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))
HUGE = st.integers(300, 4000).map(lambda digits: 10**digits)


@settings(deadline=None)
@given(st.one_of(JSON, HUGE, HUGE.map(str)))
def test_any_value_is_seconds_or_a_value_error(value):
    try:
        number = seconds(value, "start")
    except ValueError as error:
        assert str(error).startswith("start is ") and len(str(error)) < 80
    else:
        assert 0.0 <= number <= MAX_SECONDS and math.isfinite(number)


def test_numbers_and_their_texts_are_seconds():
    assert (seconds("30", "start"), seconds(30, "start"), seconds(" 0.5 ", "start")) == (30.0, 30.0, 0.5)


@pytest.mark.parametrize("value", [-1, "-0.5", "nan", "inf", float("nan"), 1e306, 10**400, True, None, [], "", "soon"])
def test_what_no_recording_has_is_no_time(value):
    with pytest.raises(ValueError, match="end is"):
        stretch(0, value)


@pytest.mark.parametrize(("start", "end"), [(30, 20), (30, 30), (0, 600), (0, 0.0001)])
def test_a_stretch_has_a_length_and_is_no_longer_than_told(start, end):
    with pytest.raises(ValueError, match="bound no clip of at most 10 s"):
        stretch(start, end, longest=10.0)


def test_a_stretch_of_just_the_longest_length_is_one():
    assert stretch("30.1", "40.1", longest=10.0) == (30.1, 40.1)
