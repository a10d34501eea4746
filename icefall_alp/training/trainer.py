# SPDX-License-Identifier: Apache-2.0
"""fit(): the one training loop, for every objective, on one or many processes.

Where a run starts is decided in this order: the newest intact checkpoint in `exp_dir`; else the weights that the
objective came with. Neither the order of the data nor the random numbers depend on whether a run was interrupted.

The data are an endless row of micro-batches. An update of W processes with A micro-batches each reads the next W x A of
them; what a checkpoint remembers is how many were read, so that W and A may change between two runs and the next
micro-batch is still the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from icefall_alp.config import OptimConfig, TrainingConfig
from icefall_alp.objectives.base import Objective
from icefall_alp.training import checkpoint as checkpoints
from icefall_alp.training.background import Background
from icefall_alp.training.eden import Eden
from icefall_alp.training.encoder_steps import set_encoder_steps
from icefall_alp.training.gradients import Gradients
from icefall_alp.training.metrics import MetricSums, RunLog
from icefall_alp.training.model_average import RunningAverage
from icefall_alp.training.scaled_adam import ScaledAdam, parameter_groups
from icefall_alp.training.throughput import Throughput, shape_of
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.logging import logging_to
from icefall_alp.utils.seeds import preserved_rng, rng_state, seed_everything, set_rng_state, stable_seed
from icefall_alp.utils.signals import StopRequest, leave_stopped
from icefall_alp.utils.watchdog import Watchdog

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
    """An endless row of micro-batches, dealt to the processes in turn; what each is depends on its position only."""

    max_duration: float  # seconds of audio in a full micro-batch

    def iterate(self, position: int) -> Iterator[Batch]:
        """This process's micro-batches, the first process's being number `position` of the row."""

    def epoch_of(self, position: int) -> int:
        """0-based pass over the data that a position belongs to."""


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
        declared: dotted keys of the configuration that may differ from the checkpoint's all the same.
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
        declared: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.optim = optim
        self.train_stream = train_stream
        self.valid_batches = valid_batches
        self.exp_dir = exp_dir
        self.run_config = run_config
        self.seed = seed
        self.declared = declared
        self.device = distributed.device()
        self.objective = objective.to(self.device)
        set_encoder_steps(self.objective, config.encoder_steps)
        self.gradients = Gradients(self.objective, config.precision, self.device)
        groups = parameter_groups(self.objective, optim.base_lr)
        self.optimizer = ScaledAdam(groups, lr=optim.base_lr, clipping_scale=optim.clipping_scale)
        self.scheduler = Eden(self.optimizer, optim.lr_steps, optim.lr_epochs, optim.warmup_steps, optim.warmup_start)
        writes = exp_dir is not None and distributed.is_main()
        self.average = RunningAverage(self.objective, config.average_every) if writes else None
        self.step = 0  # updates done
        self.position = 0  # micro-batches read by all processes together
        self.saved_step = 0  # of the checkpoint that this run wrote or continued from
        self.num_skipped = 0
        self.num_skipped_in_row = 0
        self.stop = StopRequest()
        self.sums = MetricSums()  # a repeated run must reproduce these
        self.throughput = Throughput(self.device, config.precision, config.peak_tflops)
        self.writer = Background()
        self._copies: dict[str, Tensor] = {}  # what it writes, in memory that each checkpoint uses again
        self.watchdog = Watchdog(config.hang_seconds)

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
                stack.callback(self._await_writer)  # the folder is held until the last checkpoint is written
                stack.enter_context(self.stop.listening())
            stack.enter_context(logging_to(self.exp_dir and self.exp_dir / "train.log"))
            stack.enter_context(self.watchdog.watching())
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
        batches = self.train_stream.iterate(self.position)
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
                    distributed.on_main(self._await_writer)
                    LOGGER.warning("asked to stop: leaving after step %d; start again to continue", self.step)
                    leave_stopped()
        distributed.on_main(self._await_writer)

    def _timed_step(self, batches: Iterator[Batch]) -> bool:
        """Read an update's micro-batches and train on them; returns whether any process was asked to stop."""
        start = time.perf_counter()
        with preserved_rng():  # loaders draw seeds; a resumed run makes new loaders and must not notice
            micro_batches = [next(batches) for _ in range(self.config.accumulate)]
        waited = time.perf_counter() - start
        seconds = sum(batch.num_seconds for batch in micro_batches)
        micro_batches = [batch.to(self.device) for batch in micro_batches]
        shapes = [shape_of(batch) for batch in micro_batches]
        distributed.come()  # DistributedDataParallel waits for the other processes first thing in a step
        with self.throughput.counting(shapes):
            stopping = self.train_step(micro_batches)
        self.throughput.add(seconds, shapes, waited, time.perf_counter() - start)
        self.watchdog.beat()
        return stopping

    def train_step(self, batches: Sequence[Batch]) -> bool:
        """One update from this process's micro-batches, or none where the loss or a gradient is not finite.

        Returns:
            Whether any process was asked to stop, or could not save. All processes decide alike.
        """
        epoch = self._epoch()
        batch_count = self.position * self.train_stream.max_duration / self.config.reference_seconds
        self.objective.set_batch_count(self.config.initial_batch_count + batch_count)
        self.optimizer.zero_grad(set_to_none=True)
        # Where a checkpoint could not be written there is no point in going on: the next save, at once, says why.
        result = self.gradients.backward(batches, self.stop.received or self.writer.failed)
        norm = torch.nn.utils.get_total_norm(self.gradients.present())
        # The only wait for the device in a step: what is read next is there. Gradients are the same in every process.
        global_total, global_count, num_stops, norm_value, own_total = torch.stack(
            [*result.sums, norm.double(), result.own_total.double()]
        ).tolist()
        self.objective.settle()
        self.scheduler.step_epoch(epoch)
        self.scheduler.step_batch(self.step)
        self.step += 1
        self.position += len(batches) * distributed.world_size()
        is_finite = _is_finite(global_total) and _is_finite(norm_value)
        self.gradients.loss_scale.update(is_finite)
        if is_finite:
            self.optimizer.step()
            self.num_skipped_in_row = 0
            for logs in result.logs:
                self.sums.add(logs)
            self.sums.add_ratio("loss", global_total, global_count)
            self.sums.add_ratio("grad_norm", norm_value, 1)
            clip_factor = self.optimizer.clipping()["clip_factor"].mean()
            self.sums.add({"clip_factor": torch.stack([clip_factor, torch.ones_like(clip_factor)])})
        else:
            self._skip([cut_id for batch in batches for cut_id in batch.cut_ids], own_total)
        if self.average is not None:
            self.average.update(self.step)
        return num_stops > 0

    def _epoch(self) -> int:
        steps_per_epoch = self.optim.steps_per_epoch
        return self.step // steps_per_epoch if steps_per_epoch else self.train_stream.epoch_of(self.position)

    def _skip(self, cut_ids: list[str], own_total: float) -> None:
        self.num_skipped += 1
        self.num_skipped_in_row += 1
        LOGGER.warning("step %d skipped: its loss or gradient is not finite (%d so far)", self.step, self.num_skipped)
        if self.num_skipped_in_row < MAX_SKIPPED_IN_ROW:
            return
        reports = distributed.gather_json([_is_finite(own_total), cut_ids])
        all_finite = all(finite for finite, _ in reports)
        guilty = [cut_id for finite, ids in reports if all_finite or not finite for cut_id in ids]

        def fail() -> None:
            raise UserError(
                f"loss or gradient not finite in {MAX_SKIPPED_IN_ROW} steps in a row, up to step {self.step}; lower "
                f"optim.base_lr or look for broken audio in the last batch: {', '.join(guilty)}"
            )

        distributed.on_main(fail)

    def _log(self, log: RunLog, bar: tqdm) -> None:
        values = self.sums.reduce()
        rates = self.throughput.read()
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
                self.watchdog.beat()
        self.objective.train()
        return sums.reduce()

    def _save(self) -> None:
        exp_dir, average = self.exp_dir, self.average
        if exp_dir is None:
            return
        own = {"rng": rng_state(), "sums": self.sums.state(), "objective": self.objective.training_state()}
        state = {
            "position": self.position,
            "num_skipped": self.num_skipped,
            "num_skipped_in_row": self.num_skipped_in_row,
            "loss_scale": self.gradients.loss_scale.state(),
            "scheduler": self.scheduler.state_dict(),
            "ranks": distributed.gather_json(own),
        }

        def write() -> None:
            self._await_writer()  # for the one before; its failure is this run's
            content = checkpoints.Checkpoint(
                step=self.step,
                model=self.objective.state_dict(),
                average=average.state_dict(),
                optimizer=self.optimizer.state_dict(),
                state=state,
                config=self.run_config,
            ).copied(self._copies)
            keep, previous = self.config.keep_checkpoints, self.saved_step
            self.writer.start(lambda: checkpoints.save_checkpoint(exp_dir, content, keep, previous))

        distributed.on_main(write)
        self.saved_step = self.step

    def _await_writer(self) -> None:
        with self.watchdog.patient():
            self.writer.wait()

    def _resume(self, exp_dir: Path) -> None:
        """Continue from the newest intact checkpoint, if any."""

        def find() -> str | None:
            checkpoints.remove_unfinished(exp_dir)
            folder = checkpoints.find_checkpoint(exp_dir)
            if folder is not None:
                saved = checkpoints.load_config(folder)
                checkpoints.check_same_config(saved, self.run_config, exp_dir, self.declared)
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
        self.position = saved.state["position"]
        self.gradients.loss_scale.set_state(saved.state["loss_scale"])
        self._take_place(saved.state["ranks"])
        LOGGER.info("continuing from %s", folder)

    def _take_place(self, ranks: list[dict[str, Any]]) -> None:
        """Random states and unlogged sums, also when the number of processes has changed."""
        rank, world_size = distributed.rank(), distributed.world_size()
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
