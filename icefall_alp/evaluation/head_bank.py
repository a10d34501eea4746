# SPDX-License-Identifier: Apache-2.0
"""Many heads trained side by side on the same frames: every learning rate with every seed.

All parameters carry a leading dimension of G = R rates x S seeds, so that one read of the frames and one matrix product
serve all heads. No head feels the others: each has its own loss, gradient and Adam moments, and ends where it would
have ended alone. A seed decides a head's initial weights; with clip means also its order of the clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from icefall_alp.models.pooling import AttentionPooling, valid_frames
from icefall_alp.utils import distributed
from icefall_alp.utils.seeds import preserved_rng

WARMUP_SHARE = 0.1  # of the steps; then half a cosine down to zero


class Head(nn.Module):
    """One head: attention pooling or none, then a linear layer. The pattern that a bank holds many of.

    Args:
        dim: Width C of the frames.
        num_classes: K.
        pooling_heads: Of the attention pooling; 0 for no pooling.
        multi_label: True starts every class at about one positive in K.
    """

    def __init__(self, dim: int, num_classes: int, pooling_heads: int, multi_label: bool) -> None:
        super().__init__()
        self.pooling = AttentionPooling(dim, pooling_heads) if pooling_heads else None
        self.classifier = nn.Linear(dim, num_classes)
        if multi_label:
            nn.init.constant_(self.classifier.bias, -math.log(num_classes))

    def forward(self, frames: Tensor, lens: Tensor | None = None) -> Tensor:
        """Vectors (..., C), or frames (N, T, C) with lens (N,), to logits (..., K) or (N, K)."""
        return self.classifier(frames if self.pooling is None else self.pooling(frames, lens))


@dataclass(frozen=True)
class HeadBank:
    """G heads as stacked parameters, rate by rate: head r * S + s has rate r and seed s.

    Attributes:
        params: name -> (G, ...), named as in `Head`, but with one input projection for queries, keys and values each.
        pooling_heads: Of the attention pooling; 0 for no pooling.
        num_seeds: S.
    """

    params: dict[str, Tensor]
    pooling_heads: int
    num_seeds: int

    @classmethod
    def build(
        cls, dim: int, num_classes: int, pooling_heads: int, multi_label: bool, num_rates: int, seeds: Sequence[int]
    ) -> HeadBank:
        """Heads of equal seed start from equal weights, whatever their rate."""
        states = []
        with preserved_rng():
            for seed in seeds:
                torch.manual_seed(seed)
                states.append(_named(Head(dim, num_classes, pooling_heads, multi_label)))
        place = distributed.device()
        params = {}
        for name in states[0]:
            stacked = torch.stack([state[name] for state in states])
            repeated = stacked.repeat(num_rates, *[1] * (stacked.dim() - 1)).to(place)
            params[name] = repeated.requires_grad_()
        return cls(params, pooling_heads, len(seeds))

    def __len__(self) -> int:
        """Number of heads G."""
        return len(self.params["classifier.bias"])

    def rate(self, place: int) -> HeadBank:
        """The heads of one rate, one per seed, without gradient."""
        return self._part(slice(place * self.num_seeds, (place + 1) * self.num_seeds), self.num_seeds)

    def head(self, place: int) -> HeadBank:
        """One head, without gradient."""
        return self._part(slice(place, place + 1), 1)

    def _part(self, chosen: slice, num_seeds: int) -> HeadBank:
        params = {name: value.detach()[chosen] for name, value in self.params.items()}
        return HeadBank(params, self.pooling_heads, num_seeds)

    def diverged(self) -> np.ndarray:
        """(G,) true where a head has a weight that is not finite."""
        finite = [value.detach().isfinite().flatten(1).all(1) for value in self.params.values()]
        return (~torch.stack(finite).all(0)).cpu().numpy()

    def __call__(self, frames: Tensor, lens: Tensor | None = None) -> Tensor:
        """Logits of every head.

        Args:
            frames: (N, C) vectors for all heads, (S, N, C) vectors of each seed, or with attention pooling
                (N, T, C) frames.
            lens: (N,) frames of each clip, with attention pooling only.

        Returns:
            (G, N, K).
        """
        if self.pooling_heads:
            frames = self._attend(frames, lens)
        elif frames.dim() == 3:
            frames = frames.repeat(len(self) // len(frames), 1, 1)
        return self._linear("classifier", frames)

    def _linear(self, name: str, inputs: Tensor) -> Tensor:
        """Shared inputs (N, C), or (G, N, C) one for each head, to (G, N, K)."""
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        if inputs.dim() == 3:
            return torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2))
        flat = F.linear(inputs, weight.flatten(0, 1), bias.flatten())
        return flat.unflatten(1, bias.shape).transpose(0, 1)

    def _norm(self, name: str, inputs: Tensor) -> Tensor:
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        return F.layer_norm(inputs, inputs.shape[-1:]) * weight[:, None] + bias[:, None]

    def _attend(self, frames: Tensor, lens: Tensor) -> Tensor:
        """Attention pooling of all heads (G, N, C), as `AttentionPooling` does it for one.

        With a single query, keys and values need not be computed per frame: query times key is the frame times one
        vector per attention head, and the mean of the values is the value of the mean. (The bias of the keys adds the
        same to all frames of a clip, which softmax takes away.)
        """
        num_heads, dim = self.pooling_heads, frames.shape[2]
        seed = self.params["pooling.seed"].flatten(1)
        query = self._linear("query", seed[:, None]).unflatten(2, (num_heads, 1, -1)).flatten(0, 2)  # (G * H, 1, D)
        probe = torch.bmm(query, self.params["key.weight"].unflatten(1, (num_heads, -1)).flatten(0, 1)).squeeze(1)
        probe = probe / math.sqrt(dim // num_heads)
        scores = F.linear(frames, probe)  # (N, T, G * H)
        padding = ~valid_frames(lens.to(frames.device), frames.shape[1])
        weights = scores.masked_fill(padding[..., None], -math.inf).softmax(dim=1)
        means = torch.bmm(weights.transpose(1, 2), frames).transpose(0, 1)  # (G * H, N, C)
        value_w = self.params["value.weight"].unflatten(1, (num_heads, -1)).flatten(0, 1)
        values = torch.bmm(means, value_w.transpose(1, 2)).unflatten(0, (-1, num_heads))
        values = values.permute(0, 2, 1, 3).flatten(2) + self.params["value.bias"][:, None]
        attended = self._linear("pooling.attention.out_proj", values)
        hidden = self._norm("pooling.attention_norm", seed[:, None] + attended)
        return self._norm("pooling.output_norm", hidden + self._linear("pooling.feedforward", hidden).relu())


def _named(head: Head) -> dict[str, Tensor]:
    """Parameters of a head, its input projection taken apart and without the keys' bias, on which nothing depends."""
    state = head.state_dict()
    if head.pooling is not None:
        weights = state.pop("pooling.attention.in_proj_weight").chunk(3)
        biases = state.pop("pooling.attention.in_proj_bias").chunk(3)
        state |= {"query.weight": weights[0], "key.weight": weights[1], "value.weight": weights[2]}
        state |= {"query.bias": biases[0], "value.bias": biases[2]}
    return state


def head_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of each head (G,), the mean over its items.

    Args:
        logits: (G, N, K).
        targets: Classes (N,) or (S, N) int64, or multi-hot (N, K) or (S, N, K) bool.
    """
    multi_label = targets.dtype == torch.bool
    if targets.dim() == 1 + multi_label:
        own = targets.expand(len(logits), *targets.shape)
    else:
        own = targets.repeat(len(logits) // len(targets), *[1] * (targets.dim() - 1))
    if multi_label:
        losses = F.binary_cross_entropy_with_logits(logits, own.to(logits.dtype), reduction="none").sum(-1)
    else:
        losses = F.cross_entropy(logits.flatten(0, 1), own.flatten(), reduction="none").unflatten(0, own.shape)
    return losses.mean(1)


Batch = tuple[tuple[Tensor, ...], Tensor]  # what the bank is called with, and the targets


def train_bank(
    bank: HeadBank, epochs: Callable[[int], Iterable[Batch]], rates: Sequence[float], num_steps: int, what: str
) -> None:
    """Train all heads of a bank by Adam, each at its own rate.

    Args:
        bank: Changed in place.
        epochs: Epoch number -> its batches.
        rates: R peak learning rates; a tenth of the steps warms up, then they fall to zero by half a cosine.
        num_steps: Updates.
        what: Shown with the progress.
    """
    params = list(bank.params.values())
    optimizer = _adam(bank, rates)
    schedule = LambdaLR(optimizer, lambda done: _decay(done + 1, num_steps))
    batches = islice(_endless(epochs), num_steps)
    for inputs, targets in tqdm(batches, f"{len(bank)} heads, {what}", num_steps, unit=" steps", mininterval=1.0):
        gradients = torch.autograd.grad(head_losses(bank(*inputs), targets).sum(), params)
        for group, heads in zip(optimizer.param_groups, _slices(bank, rates), strict=True):
            for own, gradient in zip(group["params"], gradients, strict=True):
                own.grad = gradient[heads].contiguous()  # the fused update takes strides for granted
        optimizer.step()
        schedule.step()


def _slices(bank: HeadBank, rates: Sequence[float]) -> list[slice]:
    """The heads of each rate."""
    return [slice(r * bank.num_seeds, (r + 1) * bank.num_seeds) for r in range(len(rates))]


def _adam(bank: HeadBank, rates: Sequence[float]) -> torch.optim.Adam:
    """Adam with a group per rate, whose parameters share the memory of the bank's."""
    groups = []
    for rate, heads in zip(rates, _slices(bank, rates), strict=True):
        groups.append({"params": [p.detach()[heads] for p in bank.params.values()], "lr": rate})
    return torch.optim.Adam(groups, fused=True)


def _endless(epochs: Callable[[int], Iterable[Batch]]) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from epochs(epoch)
        epoch += 1


def _decay(step: int, num_steps: int) -> float:
    warmup = WARMUP_SHARE * num_steps
    if step < warmup:
        return step / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1.0, num_steps - warmup)))
