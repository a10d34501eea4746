# SPDX-License-Identifier: Apache-2.0
"""Gradient modifiers: which fire in a step, and with what settings; what they do is in `kernels/modifiers.py`.

Each fires at random and only in training with gradients on; the implementation that the public checkpoints come
from lets Balancer and Whiten fire in eval mode too, which changes nothing but gradients taken there. One that does
not fire returns its input itself: no node in the graph, no copy. Decisions come from Python's `random`, so a
checkpoint can keep its state. In a step that is recorded all are in the graph, and with settings of zero they change
nothing.
"""

from __future__ import annotations

import random
from functools import partial

import torch
from torch import Tensor, nn

from icefall_alp.models.kernels import modifiers
from icefall_alp.models.kernels.modifiers import AbsPenalty
from icefall_alp.models.kernels.plain import RMS_PER_MEAN_ABS, mean_over_deviation
from icefall_alp.models.zipformer.schedule import Scheduled, ScheduledModule, schedule

PARAM_LIMIT_PROB = 0.6
BALANCER_PROB = schedule((0, 0.5), (8000, 0.125), default=0.4)


def fires(prob: float) -> bool:
    """Draw one decision; a probability of zero draws nothing."""
    return prob > 0.0 and random.random() <= prob


def decide(module: ScheduledModule, prob: Scheduled) -> bool | Tensor:
    """Draw one decision for this step; in a recorded step a truth value () on the device."""
    answer = module.clock.per_step(lambda: (1.0,) if fires(module.now(prob)) else None, 1)
    return answer[0] > 0 if isinstance(answer, Tensor) else answer is not None


def wants_gradient(module: nn.Module, x: Tensor) -> bool:
    """Whether a modifier has anything to modify."""
    return module.training and x.requires_grad and torch.is_grad_enabled()


def abs_penalty(module: ScheduledModule, x: Tensor, limit: float, penalty: float, prob: float) -> AbsPenalty | None:
    """With probability `prob` what adds penalty * sign to the gradient of the summed loss where a score is above limit.

    Args:
        module: whose clock knows the scale of the loss.
        x: what the scores are made from; without gradient there is no penalty.
        limit: of the absolute scores.
        penalty: added.
        prob: else None.
    """
    if not wants_gradient(module, x):
        return None
    settings = module.clock.per_step(lambda: (penalty,) if fires(prob) else None, 1)
    return None if settings is None else AbsPenalty(limit, settings, lambda: module.clock.loss_scale)


class LimitedModule(ScheduledModule):
    """A module with parameters that have limits."""

    def limited(self, param: Tensor, low: Scheduled, high: float) -> Tensor:
        """With probability 0.6 turn around gradients that would move a parameter further outside [low, high]."""
        if not wants_gradient(self, param):
            return param
        settings = self.clock.per_step(lambda: (self.now(low), high, 1.0) if fires(PARAM_LIMIT_PROB) else None, 3)
        return param if settings is None else modifiers.limit_param(param, settings)


class ScaleGrad(nn.Module):
    """Multiply the gradient by `alpha` in training."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """The input, any shape."""
        return modifiers.scale_grad(x, self.alpha) if wants_gradient(self, x) else x


class Balancer(ScheduledModule):
    """Keep each channel's share of positive values and mean absolute value within limits.

    The original fires a little less often on a GPU whose memory is nearly full; this one does not look at memory.
    """

    def __init__(
        self,
        min_positive: Scheduled = 0.05,
        max_positive: Scheduled = 0.95,
        min_abs: Scheduled = 0.2,
        max_abs: Scheduled = 100.0,
        prob: Scheduled = BALANCER_PROB,
        grad_scale: float = 0.04,
        channel_dim: int = -1,
    ) -> None:
        super().__init__()
        self.min_positive, self.max_positive = min_positive, max_positive
        self.min_abs, self.max_abs = min_abs, max_abs
        self.prob, self.grad_scale, self.channel_dim = prob, grad_scale, channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """The input, any shape with channels on `channel_dim`."""
        settings = self.clock.per_step(self._settings, 5) if wants_gradient(self, x) else None
        return x if settings is None else modifiers.balance(x, settings, self.channel_dim)

    def _settings(self) -> tuple[float, ...] | None:
        """Limits of the mean over the deviation, those of the root mean square, and the scale of what is added."""
        if not fires(self.now(self.prob)):
            return None
        return (
            mean_over_deviation(self.now(self.min_positive)),
            mean_over_deviation(self.now(self.max_positive)),
            RMS_PER_MEAN_ABS * self.now(self.min_abs),
            RMS_PER_MEAN_ABS * self.now(self.max_abs),
            self.grad_scale,
        )


class Whiten(ScheduledModule):
    """Push the covariance of the activations towards a multiple of the identity where the metric is above a limit.

    `prob`, the chance to look, is high after a violation was seen and low otherwise: it is part of the training
    state (`AudioEncoder.training_state`). Backward leaves its verdict in `violated`, on the device;
    `settle_verdicts` turns those of a whole step into probabilities, waiting once. `looks` is the last decision: a
    recorded step has verdicts of those too that did not look.
    """

    min_prob, max_prob = 0.025, 0.25

    def __init__(self, whitening_limit: Scheduled, grad_scale: float = 0.01, num_groups: int = 1) -> None:
        super().__init__()
        self.whitening_limit, self.grad_scale, self.num_groups = whitening_limit, grad_scale, num_groups
        self.prob = self.max_prob
        self.looks = False
        self.violated: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The input (..., C)."""
        settings = self.clock.per_step(self._settings, 2) if wants_gradient(self, x) else None
        if settings is None:
            return x
        return modifiers.whiten(x, self.num_groups, settings, partial(setattr, self, "violated"))

    def _settings(self) -> tuple[float, float] | None:
        """The limit of the metric, and the length of the step as a share of the gradient's."""
        self.looks = fires(self.prob)
        return (self.now(self.whitening_limit), self.grad_scale) if self.looks else None


def settle_verdicts(modules: list[Whiten]) -> None:
    """Let the verdicts that backward left decide how often each module looks from now on."""
    judged = [module for module in modules if module.violated is not None]
    if not judged:
        return
    for module, violated in zip(judged, torch.stack([m.violated for m in judged]).tolist(), strict=True):
        module.prob = module.max_prob if violated else module.min_prob
        module.violated = None
