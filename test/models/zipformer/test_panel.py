# SPDX-License-Identifier: Apache-2.0
"""Numbers of a recorded step: asked in order before each replay, found where they were promised."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.zipformer.panel import ALIGNED, CAPACITY, Panel

CPU = torch.device("cpu")


def test_answers_are_found_where_they_were_promised_and_follow_each_refresh():
    panel, said, order = Panel(CPU), {"a": (1.0, 2.0), "b": None, "c": (3.0,)}, []

    def ask(name):
        return lambda: order.append(name) or said[name]

    places = [panel.read(ask(name), size) for name, size in (("a", 2), ("b", 5), ("c", 1))]
    assert order == []
    panel.refresh()
    assert [place.tolist() for place in places] == [[1.0, 2.0], [0.0] * 5, [3.0]]
    said |= {"a": None, "b": (4.0, 5.0, 6.0, 7.0, 8.0)}
    panel.refresh()
    assert [place.tolist() for place in places] == [[0.0, 0.0], [4.0, 5.0, 6.0, 7.0, 8.0], [3.0]]
    assert order == ["a", "b", "c"] * 2
    assert all(place.storage_offset() % ALIGNED == 0 for place in places)


def test_a_step_recorded_again_uses_the_same_places():
    panel = Panel(CPU)
    first = panel.read(lambda: (1.0,), 1)
    panel.restart()
    panel.refresh()
    again = panel.read(lambda: (2.0,), 1)
    panel.refresh()
    assert first.data_ptr() == again.data_ptr() and first.item() == 2.0


def test_more_than_fits_is_an_error():
    panel = Panel(CPU)
    panel.read(lambda: None, CAPACITY)
    with pytest.raises(RuntimeError):
        panel.read(lambda: None, 1)
