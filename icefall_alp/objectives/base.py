# SPDX-License-Identifier: Apache-2.0
"""The one contract between objectives and the trainer: a batch goes in, a sum with its count comes out.

Sums, never means: batches are filled by duration, so their sizes differ, and only the trainer, which sees every
process, may divide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


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


class Objective(nn.Module):
    """An audio encoder with what trains it.

    Args:
        audio_encoder: what survives pretraining. When none of its parameters wants a gradient it is frozen:
            it stays in evaluation mode whatever mode the objective is in.
    """

    def __init__(self, audio_encoder: nn.Module) -> None:
        super().__init__()
        self.audio_encoder = audio_encoder

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a batch; subclasses implement it."""
        raise NotImplementedError

    @property
    def encoder_is_frozen(self) -> bool:
        """True when no parameter of the encoder wants a gradient."""
        return not any(parameter.requires_grad for parameter in self.audio_encoder.parameters())

    def train(self, mode: bool = True) -> Objective:
        """Switch the mode; a frozen encoder keeps to evaluation, without dropout and regularisers."""
        super().train(mode)
        if self.encoder_is_frozen:
            self.audio_encoder.eval()
        return self

    def set_batch_count(self, value: float) -> None:
        """Tell the encoder's schedules how far training is, in batches of `reference_seconds`."""
        if not self.encoder_is_frozen:
            self.audio_encoder.set_batch_count(value)

    def settle(self) -> None:
        """Let the encoder draw its conclusions from a backward, at a moment when the device has been waited for."""
        if not self.encoder_is_frozen:
            self.audio_encoder.settle()

    def set_loss_scale(self, scale: Tensor) -> None:
        """Tell the encoder what the total is multiplied by before backward."""
        if not self.encoder_is_frozen:
            self.audio_encoder.set_loss_scale(scale)

    def recomputable_layers(self) -> list[nn.Module]:
        """The layers whose activations take most of the memory, for `training.recompute_activations`."""
        return [] if self.encoder_is_frozen else self.audio_encoder.layers()

    def training_state(self) -> dict[str, Any]:
        """What this process's training changes besides parameters, for checkpoints (plain JSON types)."""
        return {} if self.encoder_is_frozen else self.audio_encoder.training_state()

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Continue from `training_state`."""
        if not self.encoder_is_frozen:
            self.audio_encoder.set_training_state(state)


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
