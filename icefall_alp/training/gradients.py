# SPDX-License-Identifier: Apache-2.0
"""From the micro-batches of one update to the gradient of the mean loss over all of them and all processes.

The loss is a sum: it is divided once, by the count over all micro-batches and processes. DistributedDataParallel
averages gradients over processes, so what each of them backpropagates is `total * world_size / global_count`.

Where the items of a loss do not know each other, micro-batches simply add their gradients. Where every clip meets every
other (`CoupledObjective`), all micro-batches are embedded first and only the embeddings kept; the loss of all of them
gives each embedding its gradient; then every micro-batch is embedded again, with the same random numbers, and that
gradient is sent through it. The result is the gradient of the whole batch, in the memory of one micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from icefall_alp.objectives.base import CoupledObjective, LossOutput, Objective
from icefall_alp.training.loss_scale import LossScale
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.seeds import capture_rng, restore_rng

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class UpdateSums:
    """What one update's losses came to.

    Attributes:
        own_total: () this process's summed loss.
        sums: (3,) float64: total, count and processes asked to stop, over all processes.
        logs: of each micro-batch, name -> [sum, count].
    """

    own_total: Tensor
    sums: Tensor
    logs: list[dict[str, Tensor]]


class Gradients:
    """Computes the gradients of an update.

    Args:
        objective: on its device, with the same weights in every process.
        precision: float32, bfloat16 or float16.
        device: of this process.
    """

    def __init__(self, objective: Objective, precision: str, device: torch.device) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"training.precision is {precision!r}; use {', '.join(PRECISIONS)}")
        self.objective = objective
        self.parameters = list(objective.parameters())  # walking through all modules takes milliseconds
        self.device = device
        self.dtype = PRECISIONS[precision]
        self.loss_scale = LossScale(precision)
        self.model: nn.Module = _Pass(objective)
        if distributed.world_size() > 1:
            ids = None if device.type == "cpu" else [device]
            # Some steps leave parameters out, for example the position term that attention skips now and then.
            self.model = DistributedDataParallel(self.model, device_ids=ids, find_unused_parameters=True)

    def backward(self, batches: Sequence[Any], asked_to_stop: bool = False) -> UpdateSums:
        """Leave in every parameter the gradient of the mean loss over all micro-batches of all processes.

        Args:
            batches: this process's micro-batches, on any device; the same number in every process.
            asked_to_stop: whether this process was; travels along with the loss.
        """
        if len(batches) > 1 and isinstance(self.objective, CoupledObjective):
            result = self._backward_coupled(batches, asked_to_stop)
        else:
            result = self._backward_separate(batches, asked_to_stop)
        if self.loss_scale.value != 1.0:
            torch._foreach_mul_(self.present(), 1.0 / self.loss_scale.value)
        return result

    def present(self) -> list[Tensor]:
        """The gradients that are there."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def _backward_separate(self, batches: Sequence[Any], asked_to_stop: bool) -> UpdateSums:
        logs, counts, totals = [], [], []
        for index, batch in enumerate(batches):
            with self._syncing(index == len(batches) - 1):
                with self._autocast():
                    output = self.model(batch.to(self.device))
                totals.append(output.total.detach())
                counts.append(self._count(output))
                logs.append(output.logs)
                if index == 0:
                    # The count of all micro-batches is not known yet: the first one's serves until the end.
                    first = self._reduce(totals[0], counts[0], asked_to_stop)
                    scale = self._announce(first[1], output.total.dtype)
                (output.total * scale).backward()
        if len(batches) == 1:
            return UpdateSums(totals[0], first, logs)
        sums = first + self._reduce(torch.stack(totals[1:]).sum(), torch.stack(counts[1:]).sum(), False)
        torch._foreach_mul_(self.present(), (first[1] / sums[1]).to(scale.dtype))
        return UpdateSums(torch.stack(totals).sum(), sums, logs)

    def _backward_coupled(self, batches: Sequence[Any], asked_to_stop: bool) -> UpdateSums:
        embeddings, logs, random_states = [], [], []
        for batch in batches:
            random_states.append(capture_rng())
            # With gradients on, though nothing is sent back: only then do regularisers draw what they will draw again.
            with self._autocast():
                embedding, own_logs = self.objective.embed(batch.to(self.device))
            embeddings.append(embedding := embedding.detach())  # its graph goes before the next is made
            logs.append(own_logs)
        joined = torch.cat(embeddings).requires_grad_()
        output = self.objective.compare(joined)
        sums = self._reduce(output.total, self._count(output), asked_to_stop)
        scale = self._announce(sums[1], output.total.dtype)
        own = self.objective.comparison_parameters()
        gradient, *own_gradients = torch.autograd.grad(output.total * scale, [joined, *own])
        weighted = list(zip(own, own_gradients, strict=True))
        pieces = gradient.split([len(embedding) for embedding in embeddings])
        for index, (batch, state, piece) in enumerate(zip(batches, random_states, pieces, strict=True)):
            last = index == len(batches) - 1
            restore_rng(state)
            with self._syncing(last):
                with self._autocast():
                    total = self.model(batch.to(self.device), piece, weighted if last else [])
                total.backward()
        return UpdateSums(output.total.detach(), sums, [*logs, output.logs])

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def _syncing(self, last: bool) -> AbstractContextManager[None]:
        """Gradients travel between processes with the last micro-batch only."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) and not last else nullcontext()

    def _count(self, output: LossOutput) -> Tensor:
        return output.count.detach().to(self.device, torch.float64)

    def _reduce(self, total: Tensor, count: Tensor, asked_to_stop: bool) -> Tensor:
        stop = count.new_full((), float(asked_to_stop))  # filled there: a copied number would wait for the device
        return distributed.all_reduce_sum(torch.stack([total.detach().double(), count, stop]))

    def _announce(self, count: Tensor, dtype: torch.dtype) -> Tensor:
        """What the summed loss is multiplied by, also told to the regularisers."""
        scale = (distributed.world_size() * self.loss_scale.value / count).to(dtype)
        self.objective.set_loss_scale(scale)
        return scale


class _Pass(nn.Module):
    """What DistributedDataParallel sees: an objective's loss, or embeddings weighted by gradients they already have."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(
        self, batch: Any, gradient: Tensor | None = None, weighted: Sequence[tuple[Tensor, Tensor]] = ()
    ) -> LossOutput | Tensor:
        if gradient is None:
            return self.objective(batch)
        embedding, _ = self.objective.embed(batch)
        total = (embedding * gradient).sum()
        for parameter, own_gradient in weighted:
            total = total + (parameter * own_gradient).sum()
        return total
