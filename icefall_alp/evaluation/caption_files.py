# SPDX-License-Identifier: Apache-2.0
"""What a model wrote, clip by clip, for people to read: `recogs-<task>.txt` and `errs-<task>.txt` as icefall has them.

recogs has every reference, the hypothesis and its ROUGE-L. errs aligns the hypothesis with its best reference: `(a->b)`
was said instead, `(a->*)` left out, `(*->b)` put in; the words most often confused stand at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import kaldialign

from icefall_alp.evaluation.caption_scores import rouge_l_of_each, words
from icefall_alp.utils.atomic_io import atomic_write_text

GAP = "*"
NUM_LISTED = 30


def write_caption_files(
    folder: Path, task: str, cut_ids: Sequence[str], hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> list[Path]:
    """Write both files.

    Args:
        folder: where to; it is made when missing.
        task: goes into the files' names.
        cut_ids: of the clips (N).
        hypotheses: one caption per clip.
        references: the captions of each clip.

    Returns:
        Their paths.
    """
    scores = rouge_l_of_each(hypotheses, references)
    recogs, aligned = [], []
    errors: Counter[tuple[str, str]] = Counter()
    num_words = 0
    for cut_id, text, own, score in zip(cut_ids, hypotheses, references, scores, strict=True):
        recogs += [f"{cut_id}:\tref={reference}" for reference in own]
        recogs += [f"{cut_id}:\thyp={text}", f"{cut_id}:\tROUGE-L={score:.1f}"]
        best = max(own, key=lambda reference: float(rouge_l_of_each([text], [[reference]])[0]))
        pairs = kaldialign.align(words(best), words(text), GAP)
        errors.update((r, h) for r, h in pairs if r != h)
        num_words += len(words(best))
        aligned.append(f"{cut_id}:\t{' '.join(r if r == h else f'({r}->{h})' for r, h in pairs)}\tROUGE-L={score:.1f}")
    kinds = Counter()
    for (reference, hypothesis), count in errors.items():
        kinds["insertions" if reference == GAP else "deletions" if hypothesis == GAP else "substitutions"] += count
    summary = ", ".join(f"{kinds[kind]} {kind}" for kind in ("substitutions", "insertions", "deletions"))
    head = f"ROUGE-L {scores.mean():.2f} over {len(scores)} clips; {num_words} words of the best references: {summary}"
    listed = [f"{count}\t{r} -> {h}" for (r, h), count in errors.most_common(NUM_LISTED)]
    errs = [head, "", *aligned, "", "Most frequent (count, reference -> hypothesis):", *listed]
    paths = []
    for kind, lines in (("recogs", recogs), ("errs", errs)):
        paths.append(folder / f"{kind}-{task}.txt")
        atomic_write_text(paths[-1], "\n".join(lines) + "\n")
    return paths
