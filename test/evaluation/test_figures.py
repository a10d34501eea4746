# SPDX-License-Identifier: Apache-2.0
"""The figure is a PNG, and absent when there is nothing to draw."""

from __future__ import annotations

from icefall_alp.evaluation.figures import draw_over_chance
from icefall_alp.evaluation.published import load_published
from icefall_alp.evaluation.report import Numbers
from icefall_alp.evaluation.results import read_results


def test_figure(published_yaml, exp_dir, tmp_path):
    published = load_published(published_yaml)
    draw_over_chance(published, Numbers([]), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    draw_over_chance(published, Numbers(read_results(exp_dir)), tmp_path / "figures" / "a.png")
    assert (tmp_path / "figures" / "a.png").read_bytes().startswith(b"\x89PNG")
