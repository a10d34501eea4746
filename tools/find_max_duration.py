#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Find how many seconds of audio fit into a batch on this device, for clips of each length, by trying.

  find_max_duration.py zipformer/train_contrastive.py --config conf/encoder.yaml conf/train_contrastive.yaml

Run it in a recipe's folder, with the training script and the configuration of the run that is planned; the features of
stage 2 must be there. A trial is a whole update, optimizer included, on batches of the longest clips up to a length.
What is printed may be pasted under `data:` in the configuration. On a CPU give --memory-gib, since there is no other
limit than the machine's memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import runpy
import sys
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # an optimizer imports it: once here, not in each trial's process
from run_once import die_with_parent

from icefall_alp.config import TrainConfig
from icefall_alp.config.loader import load_config
from icefall_alp.data.batch_plan import BatchPlan
from icefall_alp.data.datamodule import TrainStream
from icefall_alp.training.trainer import Trainer
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError, clean_exit
from icefall_alp.utils.seeds import seed_everything

LARGEST = 1 << 20  # clips
FITS, TOO_MUCH, BROKEN = 0, 1, 2  # how a process of `fits_apart` ends


@clean_exit
def main() -> None:
    """Read the options and try."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path, help="a recipe's training script")
    parser.add_argument("--config", nargs="+", required=True, help="YAML files, later ones winning")
    parser.add_argument("--set", nargs="*", default=[], help="key=value, winning over the files")
    parser.add_argument("--seconds", nargs="+", type=float, default=[5, 10, 20, 30, 60], help="lengths of clips")
    parser.add_argument("--headroom", type=float, default=0.1, help="share left free, for what a trial does not meet")
    parser.add_argument("--memory-gib", type=float, help="on a CPU: how much this process may take")
    options = parser.parse_args()
    device = distributed.device()
    if device.type == "cpu" and options.memory_gib is None:
        raise UserError("there is no GPU here; say with --memory-gib how much memory the training process may take")
    if device.type != "cpu" and options.memory_gib is not None:
        raise UserError("--memory-gib is for a CPU and here is a GPU; leave it out, or set ALP_DEVICE=cpu")
    trial = Trial(options.script, options.config, options.set)
    fits = trial.fits if options.memory_gib is None else partial(fits_apart, trial, options.memory_gib)
    lines = []
    for seconds in sorted(options.seconds):
        num_clips = largest(lambda n, seconds=seconds: fits(n, seconds))
        if num_clips == 0:
            print(f"up to {seconds:g} s: not one clip fits, or none is that long", file=sys.stderr)
            continue
        longest = trial.durations[trial.positions(1, seconds)[0]]
        lines.append(f'"{seconds:g}={max(longest, num_clips * longest * (1 - options.headroom)):.0f}"')
        print(f"up to {seconds:g} s: {num_clips} clips of {longest:.1f} s fit", file=sys.stderr)
    if not lines:
        raise UserError("nothing fits; take a smaller model, training.encoder_steps=recompute or a larger device")
    print(f"data: {{max_durations: [{', '.join(lines)}]}}")


class Trial:
    """An update of a planned run on batches of any size.

    Args:
        script: a recipe's training script, which calls `run(config_class, build_objective, build_dataset)`.
        config: YAML files.
        overrides: key=value.
    """

    def __init__(self, script: Path, config: list[str], overrides: list[str]) -> None:
        config_class, self._build_objective, build_dataset = wiring(script)
        self._config: TrainConfig = load_config(config_class, config, overrides)
        if self._config.training.encoder_steps == "record":
            raise UserError("find durations with training.encoder_steps=run, train with half: recordings hold as much")
        data, seed = self._config.data, self._config.seed
        self.dataset = build_dataset(data, data.train_cuts, training=True, seed=seed)
        self.durations = self.dataset.durations
        self._by_length = np.argsort(self.durations, kind="stable")

    @cached_property
    def trainer(self) -> Trainer:
        """Of the planned run; the first that computes anything with PyTorch."""
        config = self._config
        seed_everything(config.seed)
        plan = BatchPlan(self.durations, config.data.max_duration, config.data.num_buckets, config.seed)
        stream = TrainStream(self.dataset, plan)
        objective = self._build_objective(config).train()
        return Trainer(objective, config.training, config.optim, stream, [], None, {}, config.seed)

    def positions(self, num_clips: int, seconds: float) -> np.ndarray:
        """The longest clips up to `seconds`, over again where they are few; empty where all are longer."""
        count = int(np.searchsorted(self.durations[self._by_length], seconds, side="right"))
        chosen = self._by_length[max(0, count - num_clips) : count][::-1]
        return np.resize(chosen, num_clips if count else 0)

    def fits(self, num_clips: int, seconds: float) -> bool:
        """Whether an update on that many of the longest clips up to `seconds` finds memory enough."""
        positions = self.positions(num_clips, seconds)
        if len(positions) == 0:
            return False
        try:
            self.trainer.train_step([self.dataset[0, positions].to(self.trainer.device)])
        except (MemoryError, RuntimeError) as error:  # PyTorch's out-of-memory errors are RuntimeErrors
            if not any(word in str(error).lower() for word in ("memory", "alloc")):
                raise
            fitting = False
        else:
            fitting = True
        self.trainer.optimizer.zero_grad(set_to_none=True)
        if self.trainer.device.type != "cpu":
            torch.accelerator.empty_cache()
        return fitting


def wiring(script: Path) -> tuple[type, Callable[[Any], Any], Callable[..., Any]]:
    """What a recipe's script hands to `run` of the `train.py` beside it.

    Raises:
        UserError: it is no such script.
    """
    if not script.is_file():
        raise UserError(f"{script}: no such script")
    sys.path.insert(0, str(script.parent.resolve()))
    import train  # the recipe's own

    handed: list[Any] = []
    train.run = lambda *arguments: handed.extend(arguments)
    runpy.run_path(str(script), run_name="__main__")
    if len(handed) != 3:
        raise UserError(f"{script} does not call run(config class, build_objective, build_dataset)")
    return handed[0], handed[1], handed[2]


def largest(fits: Callable[[int], bool]) -> int:
    """The largest number that fits, by doubling and halving; 0 where not even 1 does."""
    if not fits(1):
        return 0
    low = 1
    while low < LARGEST and fits(2 * low):
        low *= 2
    high = 2 * low
    # Within one part in sixteen: finer is finer than what two batches of one size differ in.
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def fits_apart(trial: Trial, gibibytes: float, num_clips: int, seconds: float) -> bool:
    """What `trial.fits` says in a process that may take so much more memory: without it, libraries may even crash.

    Raises:
        UserError: the trainer could not be built there.
    """
    # The trainer is built in there each time: a fork has none of the threads that PyTorch starts when it first
    # computes, and would wait for them forever.
    process = os.fork()
    if process:
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status == BROKEN:
            raise UserError("the objective of the configuration could not be built; the cause is above")
        return status == FITS
    status = BROKEN
    try:
        die_with_parent()
        _ = trial.trainer
        status = TOO_MUCH
        limit_memory(gibibytes)
        status = FITS if trial.fits(num_clips, seconds) else TOO_MUCH
    except Exception as error:  # whatever a library makes of it: the line tells it from a mistake
        print(f"{num_clips} clips of {seconds:g} s: {' '.join(str(error).split())[:200]}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def limit_memory(gibibytes: float) -> None:
    """Let this process take that much more than it has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
