# SPDX-License-Identifier: Apache-2.0
"""P13: how long training stands still for a checkpoint of Zipformer-M; beside it a blocking torch.save of the same."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from icefall_alp.config import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.training.background import Background
from icefall_alp.training.checkpoint import Checkpoint, save_checkpoint
from icefall_alp.training.model_average import RunningAverage
from icefall_alp.training.scaled_adam import ScaledAdam, parameter_groups


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--preset", default="zipformer_m", help="size of the encoder (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Measure both in turns."""
    encoder = AudioEncoder(ZipformerConfig.presets()[options.preset]).to(options.device)
    optimizer = ScaledAdam(parameter_groups(encoder, 0.01), lr=0.01)
    for parameter in encoder.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    average = RunningAverage(encoder, 1)
    ours, theirs, whole = [], [], []
    space: dict[str, torch.Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(-1, options.rounds):
            content = Checkpoint(
                turn + 2, encoder.state_dict(), average.state_dict(), optimizer.state_dict(), {}, {"training": {}}
            )
            stalled, total = _ours(content, Path(folder), space)
            blocked = _blocking(content, Path(folder) / "blocking.pt")
            if turn >= 0:  # the turn before the first warms up
                ours.append(stalled)
                whole.append(total)
                theirs.append(blocked)
    ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
    print(f"training stands still for {1e3 * statistics.median(ours):.0f} ms (written {statistics.median(whole):.2f} s")
    print(f"later, with digests and checked to the disk); torch.save: {1e3 * statistics.median(theirs):.0f} ms")
    print(f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds)")


def _ours(content: Checkpoint, folder: Path, space: dict[str, torch.Tensor]) -> tuple[float, float]:
    writer = Background()
    start = time.perf_counter()
    copied = content.copied(space)
    writer.start(lambda: save_checkpoint(folder, copied, 1, content.step - 1))
    stalled = time.perf_counter() - start
    writer.wait()
    return stalled, time.perf_counter() - start


def _blocking(content: Checkpoint, path: Path) -> float:
    start = time.perf_counter()
    with path.open("wb") as file:
        torch.save({"model": content.model, "average": content.average, "optimizer": content.optimizer}, file)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - start
