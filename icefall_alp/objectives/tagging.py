# SPDX-License-Identifier: Apache-2.0
"""Tagging objective: clip labels from frames, for supervised encoders.

The head is icefall's, names included: dropout and a linear layer on every frame, then the masked mean of the logits
over time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icefall_alp.models.pooling import masked_mean
from icefall_alp.objectives.base import LossOutput, Objective


class TaggingObjective(Objective):
    """Cross-entropy of clip labels.

    Args:
        audio_encoder: features to frames.
        num_classes: K.
        dropout: before the linear layer.
        multi_label: True for binary cross-entropy, summed over classes; False where a clip has exactly one class.
    """

    def __init__(
        self,
        audio_encoder: nn.Module,
        num_classes: int,
        dropout: float,
        multi_label: bool = True,
    ):
        super().__init__(audio_encoder)
        self.multi_label = multi_label
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(audio_encoder.output_dim, num_classes))
        if multi_label:
            # a clip has about one class of many: from zero the first hundred steps would only learn how rare each is
            nn.init.constant_(self.classifier[1].bias, -math.log(num_classes))

    def forward(self, batch: Any) -> LossOutput:
        """Loss of a `LabelBatch`: the sum over this process's clips, counted in clips."""
        logits = self.classify(batch.features, batch.feature_lens)
        if self.multi_label:
            total = F.binary_cross_entropy_with_logits(logits, batch.targets, reduction="sum")
        else:
            total = F.cross_entropy(logits, batch.targets, reduction="sum")
        count = total.new_full((), len(logits))
        # the class with the highest score is one of the clip's
        hits = batch.targets.gather(1, logits.argmax(dim=1, keepdim=True)).sum()
        return LossOutput(total, count, {"top1_accuracy": torch.stack([hits.to(count), count])})

    def classify(self, features: Tensor, feature_lens: Tensor) -> Tensor:
        """Map features (N, T, F) with feature_lens (N,) to logits (N, K)."""
        frames, lens = self.audio_encoder(features, feature_lens)
        return masked_mean(self.classifier(frames), lens)
