# SPDX-License-Identifier: Apache-2.0
"""fit(): the one training loop, for every objective, on one or many processes.

The loss is a sum: it is divided once, by the count over all processes. DistributedDataParallel averages gradients over
processes, so what each of them backpropagates is `total * world_size / global_count`.

Where a run starts is decided in this order: the newest intact checkpoint in `exp_dir`; else the weights that the
objective came with. Neither the order of the data nor the random numbers depend on whether a run was interrupted.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from icefall_alp.config import OptimConfig, TrainingConfig
from icefall_alp.objectives.base import Objective
from icefall_alp.training import checkpoint as checkpoints
from icefall_alp.training.eden import Eden
from icefall_alp.training.metrics import MetricSums, RunLog
from icefall_alp.training.model_average import RunningAverage
from icefall_alp.training.scaled_adam import ScaledAdam, parameter_groups
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.logging import logging_to
from icefall_alp.utils.seeds import preserved_rng, rng_state, seed_everything, set_rng_state, stable_seed
from icefall_alp.utils.signals import STOPPED, StopRequest

LOGGER = logging.getLogger(__name__)

MAX_SKIPPED_IN_ROW = 20


class Batch(Protocol):
    """What the trainer asks of a batch; the rest is between the data and the objective."""

    features: Tensor  # (N, T, ...), padded
    feature_lens: Tensor  # (N,)
    cut_ids: list[str]
    num_seconds: float

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""


class TrainStream(Protocol):
    """Endless batches whose order depends on nothing but the step."""

    max_duration: float  # seconds of audio in a full batch of one process

    def iterate(self, start_step: int) -> Iterator[Batch]:
        """This process's batches from `start_step` on."""

    def epoch_of(self, step: int) -> int:
        """0-based pass over the data that `step` belongs to."""


class Trainer:
    """Trains one objective.

    Args:
        objective: what is trained, with the same weights in every process; moved to this process's device.
        config: the loop.
        optim: ScaledAdam and Eden.
        train_stream: batches; see `TrainStream`.
        valid_batches: this process's share of the validation batches, iterated anew each time.
        exp_dir: where everything is written; None trains without writing.
        run_config: the whole configuration (`config_to_dict`), saved with every checkpoint and compared on resume.
        seed: of everything random during training.
    """

    def __init__(
        self,
        objective: Objective,
        config: TrainingConfig,
        optim: OptimConfig,
        train_stream: TrainStream,
        valid_batches: Iterable[Batch],
        exp_dir: Path | None,
        run_config: dict[str, Any],
        seed: int,
    ) -> None:
        if config.precision not in ("float32", "bfloat16"):
            raise UserError(f"training.precision is {config.precision!r}; use float32 or bfloat16")
        self.config = config
        self.optim = optim
        self.train_stream = train_stream
        self.valid_batches = valid_batches
        self.exp_dir = exp_dir
        self.run_config = run_config
        self.seed = seed
        self.device = distributed.device()
        self.objective = objective.to(self.device)
        self.model: nn.Module = self.objective
        if distributed.world_size() > 1:
            ids = None if self.device.type == "cpu" else [self.device]
            # Some steps leave parameters out, for example the position term that attention skips now and then.
            self.model = DistributedDataParallel(self.objective, device_ids=ids, find_unused_parameters=True)
        groups = parameter_groups(self.objective, optim.base_lr)
        self.optimizer = ScaledAdam(groups, lr=optim.base_lr, clipping_scale=optim.clipping_scale)
        self.scheduler = Eden(self.optimizer, optim.lr_steps, optim.lr_epochs, optim.warmup_steps, optim.warmup_start)
        writes = exp_dir is not None and distributed.is_main()
        self.average = RunningAverage(self.objective, config.average_every) if writes else None
        self.step = 0  # updates done
        self.stream_step = 0  # batches read by each process; differs from `step` once the number of processes changed
        self.saved_step = 0  # of the checkpoint that this run wrote or continued from
        self.num_skipped = 0
        self.num_skipped_in_row = 0
        self.stop = StopRequest()
        self.sums = MetricSums()  # a repeated run must reproduce these
        self.rates = MetricSums()  # these depend on the machine

    def fit(self) -> None:
        """Train until `num_steps`, from the newest checkpoint if there is one.

        Raises:
            UserError: the folder is in use, its checkpoints do not fit, or the loss stays infinite or NaN.
            SystemExit: status 75 after SIGTERM or SIGUSR1, with everything saved.
        """
        seed_everything(stable_seed("training", self.seed, distributed.rank()))
        with ExitStack() as stack:
            if self.exp_dir is not None:
                distributed.on_main(lambda: stack.enter_context(checkpoints.exclusive_run(self.exp_dir)))
                stack.enter_context(self.stop.listening())
            stack.enter_context(logging_to(self.exp_dir and self.exp_dir / "train.log"))
            if self.exp_dir is not None:
                self._resume(self.exp_dir)
                distributed.on_main(lambda: checkpoints.write_config(self.exp_dir, self.run_config))
            if self.step >= self.config.num_steps:
                LOGGER.info("finished: %d of %d steps are done, nothing to do", self.step, self.config.num_steps)
                return
            log = stack.enter_context(RunLog(self.exp_dir, self.step))
            self._loop(log)

    def _loop(self, log: RunLog) -> None:
        config = self.config
        batches = self.train_stream.iterate(self.stream_step)
        # disable=None shows the bar on a terminal only; elsewhere the log lines tell how far it is.
        hidden = None if distributed.is_main() else True
        with tqdm(initial=self.step, total=config.num_steps, unit="step", disable=hidden) as bar:
            self.objective.train()
            while self.step < config.num_steps:
                stopping = self._timed_step(batches)
                last = self.step == config.num_steps
                bar.update()
                if last or self.step % config.log_every == 0:
                    self._log(log, bar)
                if last or (config.valid_every and self.step % config.valid_every == 0):
                    self._validate(log)
                if config.save_every and (last or stopping or self.step % config.save_every == 0):
                    log.sync()
                    self._save()
                if stopping and not last:
                    LOGGER.warning("asked to stop: leaving after step %d; start again to continue", self.step)
                    sys.exit(STOPPED)

    def _timed_step(self, batches: Iterator[Batch]) -> bool:
        """Read a batch and train on it; returns whether any process was asked to stop."""
        start = time.perf_counter()
        with preserved_rng():  # loaders draw seeds; a resumed run makes new loaders and must not notice
            batch = next(batches)
        waited = time.perf_counter() - start
        num_seconds = float(batch.num_seconds)
        num_frames, num_slots = int(batch.feature_lens.sum()), batch.features.shape[0] * batch.features.shape[1]
        stopping = self.train_step(batch)
        elapsed = time.perf_counter() - start
        self.rates.add_ratio("audio-s/s", num_seconds * distributed.world_size(), elapsed)
        self.rates.add_ratio("data wait", waited, elapsed)
        self.rates.add_ratio("padding", num_slots - num_frames, num_slots)
        self.rates.add_ratio("seconds per step", elapsed, 1)
        self.rates.add_ratio("TFLOP/s", 1e-12 * self.objective.flops, elapsed)
        if self.config.peak_tflops:
            self.rates.add_ratio("MFU", 1e-12 * self.objective.flops, elapsed * self.config.peak_tflops)
        return stopping

    def train_step(self, batch: Batch) -> bool:
        """One update, or none where the loss or a gradient is not finite: all processes decide alike.

        Returns:
            Whether any process was asked to stop.
        """
        epoch = self._epoch()
        num_batches = self.stream_step * distributed.world_size()
        batch_count = num_batches * self.train_stream.max_duration / self.config.reference_seconds
        self.objective.set_batch_count(self.config.initial_batch_count + batch_count)
        self.optimizer.zero_grad(set_to_none=True)
        total, logs, sums = self.backward(batch)
        gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The only wait for the device in a step. Gradients are already the same in every process.
        global_total, global_count, num_stops, norm_value, own_total = torch.stack(
            [*sums, norm.double(), total.double()]
        ).tolist()
        self.scheduler.step_epoch(epoch)
        self.scheduler.step_batch(self.step)
        self.step += 1
        self.stream_step += 1
        if _is_finite(global_total) and _is_finite(norm_value):
            self.optimizer.step()
            self.num_skipped_in_row = 0
            self.sums.add(logs)
            self.sums.add_ratio("loss", global_total, global_count)
            self.sums.add_ratio("grad_norm", norm_value, 1)
            clip_factor = self.optimizer.clipping()["clip_factor"].mean()
            self.sums.add({"clip_factor": torch.stack([clip_factor, torch.ones_like(clip_factor)])})
        else:
            self._skip(batch, own_total)
        if self.average is not None:
            self.average.update(self.step)
        return num_stops > 0

    def backward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Gradients of the mean loss over all processes.

        Returns:
            This process's detached total (), its logs, and [total, count, processes asked to stop] over all (3,).
        """
        bfloat16 = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            output = self.model(batch.to(self.device))
        total = output.total.detach()
        count = output.count.detach().to(self.device, torch.float64)
        sums = distributed.all_reduce_sum(
            torch.stack([total.double(), count, count.new_tensor(float(self.stop.received))])
        )
        scale = (distributed.world_size() / sums[1]).to(total.dtype)
        self.objective.set_loss_scale(scale)
        (output.total * scale).backward()
        return total, output.logs, sums

    def _epoch(self) -> int:
        steps_per_epoch = self.optim.steps_per_epoch
        return self.step // steps_per_epoch if steps_per_epoch else self.train_stream.epoch_of(self.stream_step)

    def _skip(self, batch: Batch, own_total: float) -> None:
        self.num_skipped += 1
        self.num_skipped_in_row += 1
        LOGGER.warning("step %d skipped: its loss or gradient is not finite (%d so far)", self.step, self.num_skipped)
        if self.num_skipped_in_row < MAX_SKIPPED_IN_ROW:
            return
        reports = distributed.gather_json([_is_finite(own_total), list(batch.cut_ids)])
        all_finite = all(finite for finite, _ in reports)
        guilty = [cut_id for finite, cut_ids in reports if all_finite or not finite for cut_id in cut_ids]

        def fail() -> None:
            raise UserError(
                f"loss or gradient not finite in {MAX_SKIPPED_IN_ROW} steps in a row, up to step {self.step}; lower "
                f"optim.base_lr or look for broken audio in the last batch: {', '.join(guilty)}"
            )

        distributed.on_main(fail)

    def _log(self, log: RunLog, bar: tqdm) -> None:
        values = self.sums.reduce()
        rates = self.rates.reduce()
        rates["hours left"] = rates["seconds per step"] * (self.config.num_steps - self.step) / 3600
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        values["epoch"] = self.scheduler.epoch
        values["skipped"] = self.num_skipped
        log.write(self.step, "train", values, rates)
        bar.set_postfix_str(f"loss {values.get('loss', float('nan')):.4g}, {rates['audio-s/s']:.0f} audio-s/s")

    def _validate(self, log: RunLog) -> None:
        values = self.validate()
        if values:
            log.write(self.step, "valid", values)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and logs over the validation batches; leaves no trace in weights, modes or random states.

        Each batch is judged by itself, so the figures do not depend on the number of processes, which may hold
        unequal numbers of batches.
        """
        sums = MetricSums()
        self.objective.eval()
        with preserved_rng(), distributed.single_process():
            seed_everything(stable_seed("validation", self.seed))
            for batch in self.valid_batches:
                output = self.objective(batch.to(self.device))
                sums.add({"loss": torch.stack([output.total, output.count.to(output.total)]), **output.logs})
        self.objective.train()
        return sums.reduce()

    def _save(self) -> None:
        exp_dir, average = self.exp_dir, self.average
        if exp_dir is None:
            return
        own = {"rng": rng_state(), "sums": self.sums.state(), "objective": self.objective.training_state()}
        state = {
            "num_batches": self.stream_step * distributed.world_size(),
            "num_skipped": self.num_skipped,
            "num_skipped_in_row": self.num_skipped_in_row,
            "scheduler": self.scheduler.state_dict(),
            "ranks": distributed.gather_json(own),
        }

        def write() -> None:
            content = checkpoints.Checkpoint(
                step=self.step,
                model=self.objective.state_dict(),
                average=average.state_dict(),
                optimizer=self.optimizer.state_dict(),
                state=state,
                config=self.run_config,
            )
            checkpoints.save_checkpoint(exp_dir, content, self.config.keep_checkpoints, self.saved_step)

        distributed.on_main(write)
        self.saved_step = self.step

    def _resume(self, exp_dir: Path) -> None:
        """Continue from the newest intact checkpoint, if any."""

        def find() -> str | None:
            checkpoints.remove_unfinished(exp_dir)
            folder = checkpoints.find_checkpoint(exp_dir)
            if folder is not None:
                checkpoints.check_same_config(checkpoints.load_config(folder), self.run_config, exp_dir)
            return folder and str(folder)

        folder = distributed.on_main(find)
        if folder is None:
            LOGGER.info("starting from step 0 in %s", exp_dir)
            return
        saved = checkpoints.load_checkpoint(Path(folder))
        try:
            self.objective.load_state_dict(saved.model)
        except RuntimeError as error:
            raise UserError(f"{folder} does not fit the objective: {error}") from error
        self.optimizer.load_state_dict(saved.optimizer)
        self.scheduler.load_state_dict(saved.state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(saved.average)
        self.step = self.saved_step = saved.step
        self.num_skipped = saved.state["num_skipped"]
        self.num_skipped_in_row = saved.state["num_skipped_in_row"]
        self._take_place(saved.state["num_batches"], saved.state["ranks"])
        LOGGER.info("continuing from %s", folder)

    def _take_place(self, num_batches: int, ranks: list[dict[str, Any]]) -> None:
        """Position in the data, random states and unlogged sums, also when the number of processes has changed."""
        rank, world_size = distributed.rank(), distributed.world_size()
        # Rounded down: after a change of processes a few batches may be seen twice, none is missed.
        self.stream_step = num_batches // world_size
        self.objective.set_training_state(ranks[rank % len(ranks)]["objective"])
        if len(ranks) == world_size:
            set_rng_state(ranks[rank]["rng"])
        else:
            LOGGER.warning("saved by %d processes, continued by %d: random states start anew", len(ranks), world_size)
            seed_everything(stable_seed("training", self.seed, rank, self.step))
        for place in ranks[rank::world_size]:
            self.sums.add_state(place["sums"])


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
