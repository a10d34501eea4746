# SPDX-License-Identifier: Apache-2.0
"""Retrieval ranks of a large set, both directions, on a CPU with their memory; and a few queries beside sorting all."""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import report, take_turns
from icefall_alp.evaluation.ranks import audio_to_text, rank, text_to_audio
from icefall_alp.utils.errors import UserError

SAMPLE = 64  # queries of the comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many clips and captions of what width."""
    parser.add_argument("--clips", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--captions", type=int, default=5, help="of each clip (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=512, help="of the common space (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Rank everything once, then time a sample in turns."""
    audio, text, clip_of_caption = make_embeddings(arguments)
    before = _peak_gib()
    for direction, function in (("text to audio", text_to_audio), ("audio to text", audio_to_text)):
        began = time.perf_counter()
        found = function(text, audio, clip_of_caption)
        seconds = time.perf_counter() - began
        memory = f"; {_peak_gib():.2f} GiB, before ranking {before:.2f}" if arguments.device.type == "cpu" else ""
        print(
            f"{direction}: {len(text):,} captions, {len(audio):,} clips: {seconds:.1f} s, "
            f"R@1 {found.recall_at(1):.2f}{memory}",
            flush=True,
        )
    queries, answers = text[:SAMPLE], clip_of_caption[:SAMPLE, None]
    if not np.array_equal(sorted_ranks(queries, audio, answers), rank(queries, audio, answers).first):
        raise UserError("ranks differ from those of sorting")
    contenders = {
        "sorting all": lambda: sorted_ranks(queries, audio, answers),
        "counting": lambda: rank(queries, audio, answers),
    }
    report(take_turns(contenders, arguments.device, arguments.rounds, repeats=1), "sorting all")


def make_embeddings(arguments: argparse.Namespace) -> tuple[Tensor, Tensor, np.ndarray]:
    """Clips (N, E), captions (Q, E) near their clips, and the clip of each caption (Q,)."""
    generator = torch.Generator().manual_seed(0)
    audio = F.normalize(torch.randn(arguments.clips, arguments.dim, generator=generator), dim=1)
    clip_of_caption = np.repeat(np.arange(arguments.clips), arguments.captions)
    text = torch.randn(len(clip_of_caption), arguments.dim, generator=generator).div_(arguments.dim**0.5 / 4)
    text += audio[torch.from_numpy(clip_of_caption)]
    return audio.to(arguments.device), F.normalize(text, dim=1).to(arguments.device), clip_of_caption


def sorted_ranks(queries: Tensor, items: Tensor, answers: np.ndarray) -> np.ndarray:
    """Ranks (q,) from 1 of one right item each, by sorting all items for each query."""
    order = (queries @ items.T).argsort(dim=1, descending=True)
    return ((order == torch.from_numpy(answers).to(items.device)).nonzero()[:, 1] + 1).cpu().numpy()


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
