# SPDX-License-Identifier: Apache-2.0
"""The figures of the report: lengths of clips, and the map of captions (paper, Figure 3)."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no display is needed to write a file
from matplotlib import pyplot as plt


def draw_durations(seconds: dict[str, np.ndarray], path: Path) -> None:
    """Stacked bars of the number of clips by whole seconds, for each corpus that gives the audio."""
    figure, axes = plt.subplots(figsize=(8.0, 3.5), layout="constrained")
    below = 0
    for name, counts in sorted(seconds.items()):
        axes.bar(np.arange(len(counts)) + 0.5, counts, 1.0, bottom=below, label=name)
        below = below + counts
    axes.set_xlabel("seconds")
    axes.set_ylabel("clips")
    axes.legend(fontsize="small")
    _save(figure, path)


def draw_map(plane: np.ndarray, sources: list[str], path: Path) -> None:
    """Captions as points (N, 2), coloured by source."""
    figure, axes = plt.subplots(figsize=(7.0, 6.0), layout="constrained")
    labels = np.array(sources)
    for name in dict.fromkeys(sources):
        points = plane[labels == name]
        axes.scatter(points[:, 0], points[:, 1], s=6, label=name)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(fontsize="small", markerscale=2)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
