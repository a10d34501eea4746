# SPDX-License-Identifier: Apache-2.0
"""The contrastive loss with its gradient: a few rows of similarities at a time, and all of them at once."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import report, report_memory, take_turns
from icefall_alp.models.kernels.cross_entropy import SIMILARITIES_HELD, cross_entropy_by_rows
from icefall_alp.utils.errors import UserError

CLIP_SECONDS = 10
TOLERANCE = 1e-5  # of the largest gradient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many clips of what width."""
    parser.add_argument("--clips", type=int, default=8192, help="in the batch (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=512, help="of the common space (default: %(default)s)")
    parser.add_argument("--held", type=int, default=SIMILARITIES_HELD, help="similarities at a time (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Time both forms, after checking that their gradients agree."""
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(2, arguments.clips, arguments.dim, device=arguments.device), dim=-1)
    vectors.requires_grad_()
    labels = torch.arange(arguments.clips, device=arguments.device)
    scale = torch.tensor(20.0, device=arguments.device)

    def in_rows() -> Tensor:
        pairs = ((vectors[0], vectors[1]), (vectors[1], vectors[0]))
        return _gradient(sum(cross_entropy_by_rows(scale, *pair, labels, arguments.held)[0] for pair in pairs), vectors)

    def at_once() -> Tensor:
        logits = scale * vectors[0] @ vectors[1].T
        pairs = (logits, logits.T)
        return _gradient(sum(F.cross_entropy(own, labels, reduction="sum") for own in pairs), vectors)

    contenders = {"all at once": at_once, "in rows": in_rows}
    wanted = at_once()
    difference = float((in_rows() - wanted).abs().max() / wanted.abs().max())
    if difference > TOLERANCE:
        raise UserError(f"the gradients differ by {difference:.1e} of the largest")
    everything = arguments.clips**2
    held = min(arguments.held, everything)
    print(f"{arguments.clips:,} clips, at most {held:,} of {everything:,} similarities at a time; "
          f"gradients differ by at most {difference:.1e} of the largest")  # fmt: skip
    times = take_turns(contenders, arguments.device, arguments.rounds, repeats=1)
    report(times, "all at once")
    report_memory({name: contenders[name] for name in times}, CLIP_SECONDS * arguments.clips, arguments.device)


def _gradient(loss: Tensor, vectors: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, vectors)
    return gradient
