# SPDX-License-Identifier: Apache-2.0
"""The clock that all modules of an encoder share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from icefall_alp.models.kernels.plain import Numbers
from icefall_alp.models.zipformer.panel import Ask, Panel


@dataclass
class Clock:
    """What the training loop tells all modules.

    Attributes:
        batch_count: how far training is, in reference batches; None until it is set.
        loss_scale: what the loss, a sum over the batch, is multiplied by before backward; number or scalar tensor.
        panel: of the step that is being recorded, else None.
    """

    batch_count: float | None = None
    loss_scale: float | Tensor = 1.0
    panel: Panel | None = None

    def per_step(self, ask: Ask, size: int) -> Numbers | None:
        """What `ask` answers: `size` numbers, or None for "nothing in this step".

        In a recorded step a tensor (size,) that holds what it answers before each replay, zeros for None.
        """
        return ask() if self.panel is None else self.panel.read(ask, size)
