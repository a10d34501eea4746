# SPDX-License-Identifier: Apache-2.0
"""Two runs alike, one unbroken, one that faults befall: in the end they must be equal to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import forks
from faults.workbench import Workbench
from icefall_alp.config import TrainingConfig
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.training.trainer import Trainer
from icefall_alp.utils.errors import UserError

NUM_STEPS = 24
TRAINING = TrainingConfig(
    num_steps=NUM_STEPS, log_every=3, valid_every=8, save_every=2, keep_checkpoints=3, average_every=4
)


@dataclass(frozen=True)
class Twins:
    """The folders `unbroken` and `broken` below `bench.folder`, and what is trained there."""

    bench: Workbench
    objective: str = "contrastive"
    num_processes: int = 1
    num_workers: int = 0

    @property
    def folder(self) -> Path:
        """Where everything is."""
        return self.bench.folder

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self.folder / "log"

    @property
    def broken(self) -> Path:
        """Folder of the run that faults befall."""
        return self.folder / "broken"

    @property
    def finished(self) -> bool:
        """Whether the broken run has come to its end."""
        return (self.broken / f"checkpoints/step_{NUM_STEPS}").is_dir()

    def trainer(self, name: str = "broken") -> Trainer:
        """A trainer of one of the two, for this process's rank."""
        return self.bench.trainer(self.objective, self.folder / name, TRAINING, self.num_workers)

    def run_unbroken(self) -> None:
        """Train to the end undisturbed."""
        forks.run(lambda: self.trainer("unbroken").fit(), self.log, self.num_processes)

    def start_broken(self, work: Callable[[], object] | None = None) -> list[int]:
        """Begin or go on; returns the processes, in a group of their own that the first one leads."""
        return forks.start(work or (lambda: self.trainer().fit()), self.log, self.num_processes, own_group=True)

    def finish(self) -> None:
        """Go on undisturbed to the end, compare, and clear the broken run away."""
        forks.run(lambda: self.trainer().fit(), self.log, self.num_processes)
        self.compare()

    def compare(self) -> None:
        """Compare the finished run with the unbroken one, and clear it away.

        Raises:
            UserError: a file differs.
        """
        last = sorted((self.folder / f"unbroken/checkpoints/step_{NUM_STEPS}").iterdir())
        for name in ("losses.jsonl", *(f"checkpoints/step_{NUM_STEPS}/{path.name}" for path in last)):
            if (self.broken / name).read_bytes() != (self.folder / "unbroken" / name).read_bytes():
                raise UserError(f"{self.broken / name} differs from that of the unbroken run")
        shutil.rmtree(self.broken)


class Watched:
    """A stream that calls `look` with the number of each batch of this start, from 0, before it is handed out."""

    def __init__(self, stream: TrainStream, look: Callable[[int], object]) -> None:
        self.stream, self.look = stream, look
        self.max_duration, self.epoch_of = stream.max_duration, stream.epoch_of

    def iterate(self, position: int) -> Iterator[Any]:
        """As the stream's."""
        for number, batch in enumerate(self.stream.iterate(position)):
            self.look(number)
            yield batch
