# SPDX-License-Identifier: Apache-2.0
"""How an encoder's steps are computed: run, recomputed or recorded. By which kernels is another matter (`kernels`).

Recomputed, layers keep little and run again for their gradients. Recorded, a GPU replays forward and backward for
shapes of batches that it has seen, with the random numbers of a step that is run.
"""

from __future__ import annotations

from icefall_alp.objectives.base import Objective
from icefall_alp.training.recompute import recompute_activations
from icefall_alp.training.recording import record_steps
from icefall_alp.utils.errors import UserError

WAYS = ("run", "recompute", "record")


def set_encoder_steps(objective: Objective, way: str) -> None:
    """Change the objective's encoder, which is on its device.

    Args:
        objective: whose encoder trains.
        way: one of `WAYS`.

    Raises:
        UserError: there is no such way, or see `record_steps`.
    """
    if way not in WAYS:
        raise UserError(f"training.encoder_steps is {way!r}; use {', '.join(WAYS)}")
    if way == "record":
        record_steps(objective.audio_encoder)
    if way == "recompute":
        recompute_activations(objective.recomputable_layers())
