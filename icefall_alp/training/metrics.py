# SPDX-License-Identifier: Apache-2.0
"""What a run reports: sums with counts, divided once over all steps and processes, and where they are written.

`losses.jsonl` holds only what a repeated run must reproduce (losses, learning rate); rates that depend on the machine
go to the text log and TensorBoard.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icefall_alp.utils import distributed
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import disk_faults

LOGGER = logging.getLogger(__name__)


class MetricSums:
    """Named [sum, count] pairs in float64, accumulated over steps where they arise, without waiting for a device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, logs: dict[str, Tensor]) -> None:
        """Add tensors [sum, count]."""
        for name, pair in logs.items():
            pair = pair.detach().double()
            self._sums[name] = self._sums[name].to(pair.device) + pair if name in self._sums else pair

    def add_ratio(self, name: str, total: float, count: float) -> None:
        """Add one pair of plain numbers."""
        self.add({name: torch.tensor([total, count], dtype=torch.float64)})

    def reduce(self) -> dict[str, float]:
        """Sum over all processes, divide once, start again; names may differ between processes.

        Returns:
            name -> sum / count, sorted by name; names that counted nothing anywhere are left out.
        """
        names = sorted(set().union(*distributed.gather_json(list(self._sums))))
        if not names:
            return {}
        place, nothing = distributed.device(), torch.zeros(2, dtype=torch.float64)
        own = torch.stack([self._sums.get(name, nothing).to(place) for name in names])
        pairs = distributed.all_reduce_sum(own)
        self._sums = {}
        return {name: total / count for name, (total, count) in zip(names, pairs.tolist(), strict=True) if count}

    def state(self) -> dict[str, list[float]]:
        """This process's sums as JSON."""
        return {name: pair.tolist() for name, pair in self._sums.items()}

    def add_state(self, state: dict[str, list[float]]) -> None:
        """Add what `state` returned."""
        self.add({name: torch.tensor(pair, dtype=torch.float64) for name, pair in state.items()})


class RunLog:
    """`losses.jsonl`, TensorBoard and the text log of one run, written by the first process.

    Args:
        exp_dir: the experiment's folder; None writes the text log only (as do the other processes).
        step: updates done so far; whatever an interrupted run logged after that is forgotten.
    """

    def __init__(self, exp_dir: Path | None, step: int) -> None:
        self._exp_dir, self._step = exp_dir, step
        self._losses = self._board = None

    def write(self, step: int, kind: str, values: dict[str, float], rates: dict[str, float] | None = None) -> None:
        """Report numbers after update `step`; `kind` is train or valid. All processes come here together.

        Raises:
            UserError: the disk refused.
        """
        rates = rates or {}
        LOGGER.info("step %d %s: %s", step, kind, ", ".join(f"{k} {v:.4g}" for k, v in {**values, **rates}.items()))
        self._on_disk(lambda: self._write(step, kind, values, rates))

    def sync(self) -> None:
        """Bring `losses.jsonl` to the disk, before a checkpoint that counts on it. All processes come here together."""
        self._on_disk(lambda: (os.fsync(self._losses.fileno()), self._board.flush()))

    def __enter__(self) -> RunLog:
        self._on_disk(self._open)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._losses is None or self._board is None:
            return
        # After a failure the disk would only repeat what it has said.
        with disk_faults(self._exp_dir) if kind is None else suppress(OSError):
            self._losses.close()
            self._board.close()

    def _on_disk(self, function: Callable[[], object]) -> None:
        """The first process writes; where it cannot, all of them end together."""
        if self._exp_dir is None:
            return

        def guarded() -> None:
            with disk_faults(self._exp_dir):
                function()

        distributed.on_main(guarded)

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and needed here only

        path = self._exp_dir / "losses.jsonl"
        _forget_after(path, self._step)
        self._losses = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(self._exp_dir / "tensorboard"), purge_step=self._step + 1)

    def _write(self, step: int, kind: str, values: dict[str, float], rates: dict[str, float]) -> None:
        self._losses.write(json.dumps({"step": step, kind: values}) + "\n")
        self._losses.flush()
        for name, value in {**values, **rates}.items():
            self._board.add_scalar(f"{kind}/{name.replace(' ', '_')}", value, step)


def _forget_after(path: Path, step: int) -> None:
    """Cut the lines after `step` and a last line that a killed job left torn."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        entry = _parse(line)
        if entry is None or entry["step"] > step:
            break
        kept.append(line)
    atomic_write_text(path, "".join(kept))


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line) if line.endswith("\n") else None
    except json.JSONDecodeError:
        return None
