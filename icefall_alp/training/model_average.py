# SPDX-License-Identifier: Apache-2.0
"""Average of a model's weights over training: kept while it runs, and between any two of its checkpoints.

The running average over all batches up to b is updated every P batches: avg = avg (1 - P/b) + cur P/b. Being sums over
the same start, two running averages give the average of what lies between them, without the weights themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from icefall_alp.utils.errors import UserError


class RunningAverage:
    """Average of a module's floating-point tensors, in float64; other tensors are those of the last update.

    Args:
        module: What is averaged, on its final device; its present weights are the start.
        period: Batches between updates.
    """

    def __init__(self, module: nn.Module, period: int) -> None:
        self.module = module
        self.period = period
        self._average = {
            name: tensor.to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)
            for name, tensor in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the present weights in, if `step`, the number of finished batches, is a multiple of the period."""
        if step % self.period:
            return
        current = self.module.state_dict()
        averages, values = [], []
        for name, average in self._average.items():
            if average.is_floating_point():
                averages.append(average)
                values.append(current[name])
            else:
                average.copy_(current[name])
        weight = self.period / step
        torch._foreach_mul_(averages, 1.0 - weight)
        torch._foreach_add_(averages, values, alpha=weight)

    def state_dict(self) -> dict[str, Tensor]:
        """The average under the module's own names; not copied."""
        return dict(self._average)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            UserError: When names or shapes are not the module's; nothing is changed then.
        """
        for name in sorted(self._average.keys() | state_dict.keys()):
            here, there = self._average.get(name), state_dict.get(name)
            if here is None or there is None or here.shape != there.shape:
                raise UserError(
                    f"model average: {name} does not fit the model: resume with the configuration that wrote it"
                )
        for name, average in self._average.items():
            average.copy_(state_dict[name])


def average_between(
    avg_start: Mapping[str, Tensor], avg_end: Mapping[str, Tensor], start: int, end: int, period: int
) -> dict[str, Tensor]:
    """Average of the weights over the batches after `start` up to `end`.

    Args:
        avg_start: `RunningAverage.state_dict()` of a checkpoint at batch `start`.
        avg_end: The same at batch `end`.
        start: Batches; counts as the last multiple of `period`, when the average was updated.
        end: Likewise.
        period: Batches between updates of both averages.

    Returns:
        Floating-point tensors in float64, the others those of `avg_end`.

    Raises:
        UserError: When no update lies between the two.
    """
    first, last = start // period * period, end // period * period
    if first >= last:
        raise UserError(
            f"no model average between batches {start} and {end}: they must be at least {period} apart, the period of "
            "the updates"
        )
    weight = last / (last - first)
    result = dict(avg_end)
    for name, value in avg_end.items():
        if value.is_floating_point():
            result[name] = value.double() * weight + avg_start[name].double() * (1.0 - weight)
    return result
