# SPDX-License-Identifier: Apache-2.0
"""Eden: a learning rate that falls with the square root of both the batches and the epochs done.

With b batches done in epoch e (0-based), and B, E the points where the fall begins (Yao et al., "Zipformer", ICLR 2024,
section 3.5):

    lr = base_lr ((b^2 + B^2) / B^2)^(-1/4) ((e^2 + E^2) / E^2)^(-1/4) warmup(b)

where warmup rises in a straight line from `warmup_start` to 1. Eden2 leaves the epochs out and falls as 1/b.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


def _fall(done: float, start: float, power: float) -> float:
    return ((done**2 + start**2) / start**2) ** -power


def _warmup(batch: float, warmup_batches: float, warmup_start: float) -> float:
    return 1.0 if batch >= warmup_batches else warmup_start + (1.0 - warmup_start) * batch / warmup_batches


def eden_factor(
    batch: float, epoch: float, lr_batches: float, lr_epochs: float, warmup_batches: float, warmup_start: float
) -> float:
    """Learning rate over base learning rate after `batch` batches, in 0-based epoch `epoch`."""
    falls = _fall(batch, lr_batches, 0.25) * _fall(epoch, lr_epochs, 0.25)
    return falls * _warmup(batch, warmup_batches, warmup_start)


def eden2_factor(batch: float, lr_batches: float, warmup_batches: float, warmup_start: float) -> float:
    """The same without epochs, for runs that see their data about once."""
    return _fall(batch, lr_batches, 0.5) * _warmup(batch, warmup_batches, warmup_start)


class Eden:
    """Sets the learning rate of every group of an optimizer; call `step_batch` before each `optimizer.step`.

    The rate a group has when it is first seen is kept in it as `base_lr`, so it is saved with the optimizer.

    Args:
        optimizer: Any `torch.optim.Optimizer`.
        lr_batches: B, in batches.
        lr_epochs: E, in epochs.
        warmup_batches: Length of the warm-up, in batches.
        warmup_start: Factor on the rate at batch 0.
    """

    def __init__(
        self, optimizer: Optimizer, lr_batches: float, lr_epochs: float, warmup_batches: float, warmup_start: float
    ) -> None:
        self.optimizer = optimizer
        self.lr_batches = lr_batches
        self.lr_epochs = lr_epochs
        self.warmup_batches = warmup_batches
        self.warmup_start = warmup_start
        self.batch = 0
        self.epoch = 0
        for group in optimizer.param_groups:
            group.setdefault("base_lr", group["lr"])
        self._set_rates()

    def step_batch(self, batch: int) -> None:
        """Set the rates for the update that follows `batch` finished ones."""
        self.batch = batch
        self._set_rates()

    def step_epoch(self, epoch: int) -> None:
        """Begin the 0-based `epoch`."""
        self.epoch = epoch
        self._set_rates()

    def state_dict(self) -> dict[str, Any]:
        """Batch and epoch; the base rates are in the optimizer's groups."""
        return {"batch": self.batch, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.batch = state_dict["batch"]
        self.epoch = state_dict["epoch"]
        self._set_rates()

    def _set_rates(self) -> None:
        factor = eden_factor(
            self.batch, self.epoch, self.lr_batches, self.lr_epochs, self.warmup_batches, self.warmup_start
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
