# SPDX-License-Identifier: Apache-2.0
"""R2: 1 -> 2 -> 4 -> 2 processes, 0 -> 3 loader workers: no clip lost or repeated, whatever the objective."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from faults import forks
from faults.workbench import OBJECTIVES, Workbench
from icefall_alp.config import TrainingConfig
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError

PHASES = ((1, 1, 0), (2, 2, 3), (4, 1, 0), (2, 1, 2))  # processes, micro-batches per update, loader workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--objective", choices=OBJECTIVES, default="contrastive", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="per number of processes (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Train in phases and count the clips; returns what was seen, in words."""
    bench = Workbench.build(folder)
    steps = 0
    for num_processes, accumulate, num_workers in PHASES:
        steps += options.steps
        training = TrainingConfig(
            num_steps=steps, log_every=5, valid_every=0, save_every=7, average_every=5, accumulate=accumulate
        )

        def phase(training: TrainingConfig = training, num_workers: int = num_workers) -> None:
            trainer = bench.trainer(options.objective, folder / "run", training, num_workers)
            trainer.train_stream = _Recording(trainer.train_stream, folder / f"seen_{distributed.rank()}.jsonl")
            trainer.fit()

        forks.run(phase, folder / "log", num_processes)
    return _check_epochs(bench, folder)


class _Recording:
    """A stream that writes down, when the next is asked for, which batch was trained on."""

    def __init__(self, stream: TrainStream, path: Path) -> None:
        self.stream, self.path = stream, path
        self.max_duration, self.epoch_of = stream.max_duration, stream.epoch_of

    def iterate(self, position: int) -> Iterator[Any]:
        place = position + distributed.rank()
        for batch in self.stream.iterate(position):
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([place, batch.cut_ids]) + "\n")
            yield batch
            place += distributed.world_size()


def _check_epochs(bench: Workbench, folder: Path) -> str:
    rows = [json.loads(line) for path in folder.glob("seen_*.jsonl") for line in path.read_text().splitlines()]
    places = sorted(place for place, _ in rows)
    if places != list(range(len(places))):
        raise UserError(f"micro-batches trained on: {places}")
    stream = bench.trainer("contrastive", None, replace(TrainingConfig(), num_steps=1)).train_stream
    length = len(stream.plan)
    num_epochs = len(places) // length
    for epoch in range(num_epochs):
        ids = Counter(name for place, names in rows if place // length == epoch for name in names)
        if set(ids.values()) != {1} or len(ids) != len(stream.dataset):
            raise UserError(f"epoch {epoch}: {len(ids)} of {len(stream.dataset)} clips, visits {set(ids.values())}")
    return f"{num_epochs} epochs over 1, 2, 4, 2 processes: each of {len(stream.dataset)} clips once in each"
