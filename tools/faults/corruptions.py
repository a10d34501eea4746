# SPDX-License-Identifier: Apache-2.0
"""R4: damage the newest checkpoint at random: it must be named, and the one before used, or training must refuse."""

from __future__ import annotations

import argparse
import logging
import random
import shutil
from pathlib import Path

from tqdm import tqdm

from faults import forks
from faults.workbench import Workbench
from icefall_alp.config import TrainingConfig
from icefall_alp.training.checkpoint import find_checkpoint, remove_unfinished
from icefall_alp.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--rounds", type=int, default=1000, help="corruptions (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path) -> str:
    """Damage and look; returns what was seen, in words."""
    training = TrainingConfig(
        num_steps=4, log_every=2, valid_every=0, save_every=2, keep_checkpoints=2, average_every=2
    )
    bench = Workbench.build(folder)
    forks.run(lambda: bench.trainer("contrastive", folder / "run", training).fit(), folder / "log")
    generator, counts = random.Random(options.rounds), dict.fromkeys(DAMAGES, 0)
    for _ in tqdm(range(options.rounds), unit="corruption", disable=None):
        exp_dir = folder / "damaged"
        shutil.copytree(folder / "run", exp_dir)
        kind = generator.choice(list(DAMAGES))
        what = DAMAGES[kind](exp_dir / "checkpoints/step_4", generator)
        _check(exp_dir, what, kind)
        counts[kind] += 1
        shutil.rmtree(exp_dir)
    return "every one was named and passed over: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _check(exp_dir: Path, what: str, kind: str) -> None:
    """The damage is named in a warning, and what is used is whole."""
    messages: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("icefall_alp")
    logger.addHandler(listener)
    try:
        remove_unfinished(exp_dir)
        found = find_checkpoint(exp_dir)
    finally:
        logger.removeHandler(listener)
    wanted = "step_4" if kind == "stale temporary folder" else "step_2"
    if found is None or found.name != wanted:
        raise UserError(f"{what}: {found} is used instead of {wanted}")
    if not any("step_4" in message for message in messages):
        raise UserError(f"{what}: not named in {messages}")


def _victim(folder: Path, generator: random.Random) -> Path:
    return generator.choice(sorted(folder.iterdir()))


def _truncate(folder: Path, generator: random.Random) -> str:
    path = _victim(folder, generator)
    data = path.read_bytes()
    path.write_bytes(data[: generator.randrange(len(data))])
    return f"{path.name} truncated"


def _zero_fill(folder: Path, generator: random.Random) -> str:
    path = _victim(folder, generator)
    data = bytearray(path.read_bytes())
    start = generator.randrange(len(data))
    if not any(data[start:]):
        start = 0
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    return f"{path.name} zero from byte {start}"


def _flip(folder: Path, generator: random.Random) -> str:
    path = _victim(folder, generator)
    data = bytearray(path.read_bytes())
    place = generator.randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)
    return f"{path.name}: bit {place} flipped"


def _remove(folder: Path, generator: random.Random) -> str:
    path = _victim(folder, generator)
    path.unlink()
    return f"{path.name} missing"


def _leave_half(folder: Path, generator: random.Random) -> str:
    stale = folder.with_name(f".{folder.name}.new.tmp-{generator.randrange(1, 1 << 15)}")
    shutil.copytree(folder, stale)
    (stale / "manifest.json").unlink()
    return f"{stale.name} left behind"


DAMAGES = {
    "truncated": _truncate,
    "zero-filled": _zero_fill,
    "bit flipped": _flip,
    "file missing": _remove,
    "stale temporary folder": _leave_half,
}
