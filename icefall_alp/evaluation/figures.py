# SPDX-License-Identifier: Apache-2.0
"""One picture of all results: how far above chance each run is on each task."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from icefall_alp.evaluation.published import Published
from icefall_alp.evaluation.report import Numbers, over_chance

matplotlib.use("Agg")  # no display is needed to write a file
from matplotlib import pyplot as plt


def draw_over_chance(published: Published, numbers: Numbers, path: Path) -> None:
    """Bars of value / chance for every number that has a chance level, by run, on a logarithmic scale.

    Args:
        published: Names and order of the runs.
        numbers: Our results.
        path: PNG file to write; its folder is made.
    """
    keys = [key for key in numbers.by_key if numbers.chance(key)]
    runs = [run for run in [*published.baselines, *published.runs] if any(numbers.get(run, key) for key in keys)]
    if not keys or not runs:
        return
    figure, axes = plt.subplots(figsize=(max(6.0, 1.2 * len(keys)), 4.0), layout="constrained")
    width = 0.8 / len(runs)
    for i, run in enumerate(runs):
        found = [(j, numbers.get(run, key)) for j, key in enumerate(keys)]
        places = [j + (i - (len(runs) - 1) / 2) * width for j, result in found if result]
        axes.bar(places, [over_chance(r, published) for _, r in found if r], width, label=run)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylabel("times better than chance")
    labels = ["\n".join(part for part in (key[1], key[2], key[3]) if part) for key in keys]
    axes.set_xticks(range(len(keys)), labels, rotation=45, ha="right", fontsize="small")
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
