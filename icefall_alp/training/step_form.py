# SPDX-License-Identifier: Apache-2.0
"""In which form an encoder's steps are run.

Recomputed, layers keep little and run again for their gradients. Recorded, a GPU replays the encoder's forward and
backward for shapes of batches that it has seen; a run that was interrupted then continues with other masks than an
unbroken one.
"""

from __future__ import annotations

from icefall_alp.objectives.base import Objective
from icefall_alp.training.recompute import recompute_activations
from icefall_alp.training.recording import record_steps
from icefall_alp.utils.errors import UserError

FORMS = ("plain", "recompute", "record")


def choose_form(objective: Objective, form: str) -> None:
    """Change the objective's encoder, which is on its device, to one of `FORMS`.

    Raises:
        UserError: there is no such form, or see `record_steps`.
    """
    if form not in FORMS:
        raise UserError(f"training.step_form is {form!r}; use {', '.join(FORMS)}")
    if form == "record":
        record_steps(objective.audio_encoder)
    if form == "recompute":
        recompute_activations(objective.recomputable_layers())
