# SPDX-License-Identifier: Apache-2.0
from icefall_alp.training.loss_scale import GROWTH_STEPS, LARGEST, START, LossScale


def test_only_float16_has_one():
    for precision in ("float32", "bfloat16"):
        scale = LossScale(precision)
        scale.update(False)
        assert scale.value == 1.0


def test_it_halves_after_an_overflow_and_grows_again_after_a_while():
    scale = LossScale("float16")
    assert scale.value == START
    scale.update(False)
    scale.update(False)
    assert scale.value == START / 4
    for _ in range(GROWTH_STEPS - 1):
        scale.update(True)
    assert scale.value == START / 4
    again = LossScale("float16")
    again.set_state(scale.state())
    again.update(True)
    assert again.value == START / 2
    for _ in range(20 * GROWTH_STEPS):
        again.update(True)
    assert again.value == LARGEST
