# SPDX-License-Identifier: Apache-2.0
"""The one contract between objectives and the trainer: a batch goes in, a sum with its count comes out.

Sums, never means: batches are filled by duration, so their sizes differ, and only the trainer, which sees every
process, may divide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from icefall_alp.objectives.encoder_in_training import EncoderInTraining


@dataclass
class LossOutput:
    """Loss of one batch in one process.

    Attributes:
        total: scalar with gradient, the sum over this process's items.
        count: scalar, the number of items (clips, tokens) that the sum runs over.
        logs: name -> detached tensor [sum, count], averaged over steps and processes when logged.
    """

    total: Tensor
    count: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)


class Objective(EncoderInTraining):
    """An audio encoder with what trains it; what the trainer tells it besides batches is in `EncoderInTraining`.

    Args:
        audio_encoder: what survives pretraining, `self.audio_encoder`.
    """

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a batch; subclasses implement it."""
        raise NotImplementedError


class CoupledObjective(Objective):
    """A loss in which every clip of an update meets every other, such as InfoNCE.

    It splits in two, so that a batch may be larger than what fits into memory at once: `embed` works on any part of
    the batch, `compare` on the embeddings of the whole.
    """

    def embed(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Embeddings of this process's clips, (n, E) with gradient, and logs that concern single clips."""
        raise NotImplementedError

    def compare(self, embeddings: Tensor) -> LossOutput:
        """Loss of this process's embeddings (n, E) against those of all processes."""
        raise NotImplementedError

    def comparison_parameters(self) -> list[nn.Parameter]:
        """The parameters that `compare` uses, all of which want a gradient."""
        raise NotImplementedError

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a batch."""
        embeddings, logs = self.embed(batch)
        output = self.compare(embeddings)
        output.logs.update(logs)
        return output
