# SPDX-License-Identifier: Apache-2.0
"""What a module asks of a step is answered at once, or by the panel of the step that is recorded."""

from __future__ import annotations

import torch

from icefall_alp.models.zipformer.clock import Clock
from icefall_alp.models.zipformer.panel import Panel


def test_without_a_panel_the_answer_is_what_was_asked():
    clock = Clock()
    assert clock.per_step(lambda: None, 3) is None
    assert clock.per_step(lambda: (1.0, 2.0), 2) == (1.0, 2.0)


def test_a_panel_answers_anew_before_each_replay():
    answers = [None, (1.0, 2.0)]
    panel = Panel(torch.device("cpu"))
    place = Clock(panel=panel).per_step(lambda: answers.pop(0), 2)
    panel.refresh()
    assert place.tolist() == [0.0, 0.0]
    panel.refresh()
    assert place.tolist() == [1.0, 2.0]
