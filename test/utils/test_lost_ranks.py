# SPDX-License-Identifier: Apache-2.0
"""Who is lost is judged by looks at signs of life, without waiting for anybody."""

from itertools import count

from icefall_alp.utils.lost_ranks import Judge, Sign


def judged(looks, silence=3, stillness=5):
    """The first verdict over a row of signs, with the number of the look that brought it."""
    judge = Judge(silence, stillness)
    verdicts = ((number, judge.look(signs)) for number, signs in enumerate(looks))
    return next(((number, verdict) for number, verdict in verdicts if verdict), None)


def test_who_gives_no_sign_of_life_is_lost():
    number, verdict = judged({0: Sign(tick), 1: Sign(min(tick, 2)), 2: Sign(tick)} for tick in range(20))
    assert verdict.startswith("rank 1 is lost") and number == 2 + 4


def test_when_nothing_arrives_it_is_the_first_process_and_nobody_else():
    looks = [{0: Sign(1), 1: Sign(1)}, None, None, {0: Sign(2), 1: Sign(1)}, *[None] * 4]
    assert judged(looks) == (7, "rank 0 is lost: it does not answer")


def test_what_another_has_found_out_is_believed():
    assert judged([{0: Sign(0), 1: Sign(0, verdict="rank 2 is lost")}]) == (0, "rank 2 is lost")


def test_who_came_to_the_fewest_collectives_hangs():
    looks = ({0: Sign(tick, 9, 4), 1: Sign(tick, 8, 4), 2: Sign(tick, 9, 4)} for tick in count())
    assert judged(looks)[1] == "rank 1 hangs: nothing moves"


def test_before_the_first_batch_and_while_one_is_patient_nobody_hangs():
    assert judged({0: Sign(tick, 9, 4), 1: Sign(tick, 8, 0)} for tick in range(99)) is None
    assert judged({0: Sign(tick, 9, 4), 1: Sign(tick, 8, 4, patient=True)} for tick in range(99)) is None


def test_slow_steps_are_no_hang_but_the_end_of_them_is():
    """Pauses of 20 looks where 5 are allowed: the second batch teaches how long one takes."""
    slow = [{0: Sign(tick, tick // 20, 1 + tick // 20)} for tick in range(200)]
    assert judged(slow) is None
    stuck = [*slow, *({0: Sign(tick, 10, 11)} for tick in range(200, 400))]
    assert judged(stuck)[0] <= 200 + 2 * 20 + 1
