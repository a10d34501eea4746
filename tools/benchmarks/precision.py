# SPDX-License-Identifier: Apache-2.0
"""The loss of a short contrastive training in bfloat16 beside float32, and beside float32 with other random numbers."""

from __future__ import annotations

import argparse
import random

import torch
from torch import Tensor
from tqdm import trange

from benchmarks import _workload
from benchmarks.step import build
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.training.gradients import Gradients
from icefall_alp.training.scaled_adam import ScaledAdam
from icefall_alp.utils.errors import UserError

NUM_KINDS, CLIPS, WINDOW = 64, 16, 30  # kinds of sound, clips in a batch, steps in a mean
RATE, WARM_UP = 0.02, 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which towers, for how long."""
    _workload.add_encoder_arguments(parser, max_duration=CLIPS * 1.0)
    parser.set_defaults(clip_seconds=1.0)
    parser.add_argument("--text-width", type=int, default=64, help="of the text encoder (%(default)s)")
    parser.add_argument("--text-layers", type=int, default=2, help="of the text encoder (%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--band", type=float, default=0.02, help="of the first loss, allowed (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Train three times from the same weights on the same batches, and compare means of the loss."""
    ways = {"float32": (1, "float32"), "bfloat16": (1, "bfloat16"), "float32, other numbers": (2, "float32")}
    means = {name: _train(arguments, *way, name) for name, way in ways.items()}
    for step in range(len(means["float32"])):
        values = ", ".join(f"{name} {float(curve[step]):.3f}" for name, curve in means.items())
        print(f"steps {step * WINDOW + 1} to {(step + 1) * WINDOW}: {values}")
    wanted = means.pop("float32")
    apart = {name: float((curve - wanted).abs().max() / wanted[0]) for name, curve in means.items()}
    for name, deviation in apart.items():
        print(f"{name}: at most {deviation:.2%} of the first loss from float32")
    if apart["bfloat16"] > arguments.band:
        raise UserError(f"bfloat16 leaves the band of {arguments.band:.0%}")


def _train(arguments: argparse.Namespace, seed: int, precision: str, name: str) -> Tensor:
    """Means of the loss over windows of steps; `seed` decides on dropout and regularisers."""
    objective = build(ContrastiveObjective, arguments)
    optimizer = ScaledAdam(_workload.trained(objective), lr=RATE)
    gradients = Gradients(objective, precision, arguments.device)
    random.seed(seed)
    torch.manual_seed(seed)
    batches, losses = _Batches(arguments), []
    for step in trange(arguments.steps, desc=name, unit="step", disable=None):
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / WARM_UP)
        optimizer.zero_grad(set_to_none=True)
        objective.set_batch_count(float(step))
        losses.append(gradients.backward([batches.draw()]).own_total / CLIPS)
        optimizer.step()
    return torch.stack(losses).cpu()[: arguments.steps // WINDOW * WINDOW].view(-1, WINDOW).mean(1)


class _Batches:
    """Clips of different kinds, each a spectrum of its own under noise, with the tokens that name it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.shape = (CLIPS, int(arguments.clip_seconds * _workload.FRAMES_PER_SECOND))
        self.spectra = torch.randn(NUM_KINDS, 1, 80, generator=self.generator)
        names = torch.randint(4, 1000, (NUM_KINDS, 10), generator=self.generator)
        self.names = [" ".join(map(str, name)) for name in names.tolist()]

    def draw(self) -> CaptionBatch:
        """Clips of kinds that all differ."""
        kinds = torch.randperm(NUM_KINDS, generator=self.generator)[:CLIPS]
        features = self.spectra[kinds] + 2.0 * torch.randn(*self.shape, 80, generator=self.generator)
        names = [self.names[kind] for kind in kinds.tolist()]
        return CaptionBatch(features, torch.full((CLIPS,), self.shape[1]), names, names)
