# SPDX-License-Identifier: Apache-2.0
"""Captioning objective (paper, Eq. 2 and 3): some captions are predicted left to right, the others all at once.

Each caption draws its mode on its own: parallel with probability `parallel_fraction`. In training the draw comes from
PyTorch's CPU generator; in evaluation from the cut's id, so that a validation loss depends neither on chance nor on how
batches are made. Both modes predict the same targets, `</s>` included.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.models.text_decoder import TextDecoder
from icefall_alp.objectives.base import LossOutput, Objective
from icefall_alp.objectives.caption_modes import states_by_mode, token_logs
from icefall_alp.utils.transfer import send


class CaptioningObjective(Objective):
    """Cross-entropy of captions, summed over tokens.

    Args:
        audio_encoder: features to frames.
        text_decoder: frames and captions to token predictions.
        parallel_fraction: probability that a caption is predicted in parallel (Eq. 3).
        label_smoothing: in training only; evaluation reports the plain equations.
    """

    def __init__(
        self, audio_encoder: nn.Module, text_decoder: TextDecoder, parallel_fraction: float, label_smoothing: float
    ):
        super().__init__(audio_encoder)
        self.text_decoder = text_decoder
        self.parallel_fraction = parallel_fraction
        self.label_smoothing = label_smoothing

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a `CaptionBatch`: the sum over this process's target tokens, counted in tokens."""
        device = batch.features.device
        # everything that decides a shape or an index is worked out on the CPU, so that the device is never waited for
        ids, lens, num_cut = self.text_decoder.tokenize(batch.captions)
        parallel, order = self._draw_modes(batch.cut_ids).sort(stable=True)  # left to right first
        ids, lens = ids[order], lens[order]
        # the first token is always <s>: nothing to predict
        position = torch.arange(ids.size(1))
        is_target = (position > 0) & (position < lens[:, None])
        targets = send(ids[is_target], device)
        token_is_parallel = send(parallel[:, None].expand_as(ids)[is_target], device)

        # before the encoder, where rows have no gradient that would have to be put back in its order
        audio = (x.index_select(0, send(order, x.device)) for x in (batch.features, batch.feature_lens))
        frames = self.audio_encoder(*audio)
        states = states_by_mode(self.text_decoder, *frames, ids, is_target, num_parallel=int(parallel.sum()))
        logits = self.text_decoder.project(states)
        smoothing = self.label_smoothing if self.training else 0.0
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        logs = token_logs(losses.detach(), logits.argmax(dim=-1) == targets, token_is_parallel)
        # filled where they are used: copying a number to the device would wait for it
        logs["captions_cut"] = torch.stack([losses.new_full((), num_cut), losses.new_full((), len(lens))]).detach()
        return LossOutput(losses.sum(), losses.new_full((), len(targets)), logs)

    def _draw_modes(self, cut_ids: list[str]) -> Tensor:
        """Return (N,) bool on the CPU, true where a caption is to be predicted in parallel."""
        if self.training:
            return torch.rand(len(cut_ids)) < self.parallel_fraction
        return torch.tensor([zlib.crc32(cut_id.encode()) < self.parallel_fraction * 2**32 for cut_id in cut_ids])
