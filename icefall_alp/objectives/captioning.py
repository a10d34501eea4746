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
        # everything that decides a shape is worked out on the CPU, so that the device is never waited for
        ids, lens, num_cut = self.text_decoder.tokenize(batch.captions)
        position = torch.arange(ids.size(1))
        # the first token is always <s>: nothing to predict
        is_target = (position > 0) & (position < lens[:, None])
        where = is_target.flatten().nonzero().squeeze(1)
        parallel = self._draw_modes(batch.cut_ids)
        token_is_parallel = parallel[:, None].expand_as(ids)[is_target].to(device, non_blocking=True)
        targets = ids[is_target].to(device, non_blocking=True)
        ids, where = ids.to(device, non_blocking=True), where.to(device, non_blocking=True)
        modes = parallel.to(device, non_blocking=True) if parallel.any() else None

        memory = self.text_decoder.memory(*self.audio_encoder(batch.features, batch.feature_lens))
        states = self.text_decoder(ids, memory, modes)
        logits = self.text_decoder.project(states.flatten(0, 1).index_select(0, where))
        smoothing = self.label_smoothing if self.training else 0.0
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        logs = _token_logs(losses.detach(), logits.argmax(dim=-1) == targets, token_is_parallel)
        # filled where they are used: copying a number to the device would wait for it
        logs["captions_cut"] = torch.stack([losses.new_full((), num_cut), losses.new_full((), len(lens))]).detach()
        return LossOutput(losses.sum(), losses.new_full((), len(where)), logs)

    def _draw_modes(self, cut_ids: list[str]) -> Tensor:
        """Return (N,) bool on the CPU, true where a caption is to be predicted in parallel."""
        if self.training:
            return torch.rand(len(cut_ids)) < self.parallel_fraction
        return torch.tensor([zlib.crc32(cut_id.encode()) < self.parallel_fraction * 2**32 for cut_id in cut_ids])


def _token_logs(losses: Tensor, is_right: Tensor, is_parallel: Tensor) -> dict[str, Tensor]:
    """Sums and counts over tokens, of both modes and of each."""
    everywhere = torch.ones_like(is_parallel)
    chosen = {
        "loss_autoregressive": (losses, ~is_parallel),
        "loss_parallel": (losses, is_parallel),
        "token_accuracy": (is_right, everywhere),
        "token_accuracy_autoregressive": (is_right, ~is_parallel),
        "token_accuracy_parallel": (is_right, is_parallel),
    }
    return {name: torch.stack([(value * mask).sum(), mask.sum()]).to(losses) for name, (value, mask) in chosen.items()}
