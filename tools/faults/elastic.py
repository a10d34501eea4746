# SPDX-License-Identifier: Apache-2.0
"""R2: 1 -> 2 -> 4 -> 2 processes, 0 -> 3 loader workers: no clip lost or repeated, whatever the objective.

Where the number of processes stays, a continued run is equal to the bit to one without a break.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from faults import forks
from faults.workbench import OBJECTIVES, Workbench
from icefall_alp.config import TrainingConfig
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError

PHASES = ((1, 1, 0), (2, 2, 3), (4, 1, 0), (2, 1, 2), (2, 1, 0))  # processes, micro-batches per update, loader workers
TRAINING = TrainingConfig(log_every=1, valid_every=0, save_every=7, average_every=5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--objective", choices=OBJECTIVES, default="contrastive", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="per number of processes (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Train in phases and count the clips; returns what was seen, in words."""
    bench, log = Workbench.build(folder), folder / "log"

    def phase(name: str, number: int, record: bool) -> Callable[[], None]:
        _, accumulate, num_workers = PHASES[number]
        training = replace(TRAINING, num_steps=options.steps * (number + 1), accumulate=accumulate)

        def train() -> None:
            trainer = bench.trainer(options.objective, folder / name, training, num_workers)
            if record:
                trainer.train_stream = _Recording(trainer.train_stream, folder / f"seen_{distributed.rank()}.jsonl")
            trainer.fit()

        return train

    last = len(PHASES) - 1
    for number, (num_processes, _, _) in enumerate(PHASES):
        if number == last - 1:
            shutil.copytree(folder / "run", folder / "unbroken")
        forks.run(phase("run", number, record=True), log, num_processes)
    forks.run(phase("unbroken", last, record=False), log, PHASES[last][0])
    _check_bits(folder, f"checkpoints/step_{options.steps * len(PHASES)}")
    return _check_epochs(bench, folder)


def _check_bits(folder: Path, last: str) -> None:
    """The last phases have one number of processes: as equal as if there had been only one of them."""
    found, expected = (_losses(folder / name / "losses.jsonl") for name in ("run", "unbroken"))
    if found != expected:
        raise UserError(f"losses of the last phases: {found}, without a break {expected}")
    for name in ("model", "average", "optimizer"):
        one, other = (folder / run / last / f"{name}.safetensors" for run in ("run", "unbroken"))
        if one.read_bytes() != other.read_bytes():
            raise UserError(f"{one} differs from {other}")


def _losses(path: Path) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()) if "train" in line]


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
    stream = bench.trainer("contrastive", None, TRAINING).train_stream
    length = len(stream.plan)
    num_epochs = len(places) // length
    for epoch in range(num_epochs):
        ids = Counter(name for place, names in rows if place // length == epoch for name in names)
        if set(ids.values()) != {1} or len(ids) != len(stream.dataset):
            raise UserError(f"epoch {epoch}: {len(ids)} of {len(stream.dataset)} clips, visits {set(ids.values())}")
    return f"{num_epochs} epochs over 1, 2, 4, 2, 2 processes: each of {len(stream.dataset)} clips once in each"
