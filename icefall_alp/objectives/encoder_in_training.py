# SPDX-License-Identifier: Apache-2.0
"""What the trainer tells an audio encoder, and what a checkpoint keeps of it; a frozen one is told nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class EncoderInTraining(nn.Module):
    """Holds the audio encoder of an objective.

    Args:
        audio_encoder: what survives pretraining. When none of its parameters wants a gradient it is frozen:
            it stays in evaluation mode whatever mode this module is in.
    """

    def __init__(self, audio_encoder: nn.Module) -> None:
        super().__init__()
        self.audio_encoder = audio_encoder

    @property
    def encoder_is_frozen(self) -> bool:
        """True when no parameter of the encoder wants a gradient."""
        return not any(parameter.requires_grad for parameter in self.audio_encoder.parameters())

    @property
    def scheduled_encoder(self) -> Any | None:
        """The encoder where it follows training, such as an `AudioEncoder` that is not frozen; else None."""
        return None if self.encoder_is_frozen else self.audio_encoder

    def train(self, mode: bool = True) -> EncoderInTraining:
        """Switch the mode; a frozen encoder keeps to evaluation, without dropout and regularisers."""
        super().train(mode)
        if self.encoder_is_frozen:
            self.audio_encoder.eval()
        return self

    def set_batch_count(self, value: float) -> None:
        """Tell the encoder's schedules how far training is, in batches of `reference_seconds`."""
        if (encoder := self.scheduled_encoder) is not None:
            encoder.set_batch_count(value)

    def settle(self) -> None:
        """Let the encoder draw its conclusions from a backward, at a moment when the device has been waited for."""
        if (encoder := self.scheduled_encoder) is not None:
            encoder.settle()

    def set_loss_scale(self, scale: Tensor) -> None:
        """Tell the encoder what the total is multiplied by before backward."""
        if (encoder := self.scheduled_encoder) is not None:
            encoder.set_loss_scale(scale)

    def recomputable_layers(self) -> list[nn.Module]:
        """The layers whose activations take most of the memory, for `training.encoder_steps=recompute`."""
        return [] if (encoder := self.scheduled_encoder) is None else encoder.layers()

    def training_state(self) -> dict[str, Any]:
        """What this process's training changes besides parameters, for checkpoints (plain JSON types)."""
        return {} if (encoder := self.scheduled_encoder) is None else encoder.training_state()

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Continue from `training_state`."""
        if (encoder := self.scheduled_encoder) is not None:
            encoder.set_training_state(state)
