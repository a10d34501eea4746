# SPDX-License-Identifier: Apache-2.0
"""A whole contrastive step: both towers, the loss, backward and optimizer; and the same in plain eager PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from benchmarks import _forms, _workload
from benchmarks.timing import count_flops
from icefall_alp.models import text_encoder
from icefall_alp.models.pooling import masked_mean
from icefall_alp.training.scaled_adam import ScaledAdam

VOCABULARY, SHORTEST, LONGEST, WIDTH = 4000, 6, 40, 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which towers on what batch."""
    _workload.add_encoder_arguments(parser, max_duration=80.0)
    _forms.add_arguments(parser)
    parser.add_argument("--text-width", type=int, default=768, help="of the text encoder (%(default)s)")
    parser.add_argument("--text-layers", type=int, default=12, help="of the text encoder (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Time both forms of the step; they start from the same weights and draw the same numbers."""
    features, lens = _workload.make_features(arguments, 80)
    ours, plain = Towers(arguments), Towers(arguments)
    steps = {
        "plain eager": _plainly(_step(plain, features, lens, arguments, _workload.looped_scaled_adam(plain))),
        "ours": _step(ours, features, lens, arguments, ScaledAdam(_workload.trained(ours), lr=1e-4).step),
    }
    steps = {name: _workload.same_draws(step) for name, step in steps.items()}
    seconds = float(lens.sum()) / _workload.FRAMES_PER_SECOND
    with _workload.plain_eager():
        flops = 3 * count_flops(lambda: ours.loss(features, lens, *_captions(lens, arguments)))
    without_update = _step(ours, features, lens, arguments, lambda: None)
    _forms.compare(steps, without_update, seconds, flops, arguments)


class Towers(nn.Module):
    """Audio and text, pooled and projected into one space."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.audio = _workload.build_encoder(arguments).train()
        width = arguments.text_width
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(1, width // 64)}
        config = BertConfig(vocab_size=VOCABULARY, num_hidden_layers=arguments.text_layers, **sizes)
        transformer = BertModel(config, add_pooling_layer=False)
        self.text = text_encoder.TextEncoder(transformer, None, LONGEST)
        self.projections = nn.ModuleList([nn.Linear(self.audio.output_dim, WIDTH), nn.Linear(width, WIDTH)])
        self.to(arguments.device).train()

    def loss(self, features: Tensor, lens: Tensor, ids: Tensor, id_lens: Tensor) -> Tensor:
        """Symmetric cross-entropy over the batch."""
        audio = self.projections[0](masked_mean(*self.audio(features, lens)))
        text = self.projections[1](self.text.encode(ids, id_lens))
        logits = 20.0 * F.normalize(audio.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
        labels = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _captions(lens: Tensor, arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Tokens (N, U) of one caption for each clip, and their lengths (N,) on the CPU."""
    generator = torch.Generator().manual_seed(0)
    id_lens = torch.randint(SHORTEST, LONGEST + 1, (len(lens),), generator=generator)
    return torch.randint(VOCABULARY, (len(lens), LONGEST), generator=generator).to(arguments.device), id_lens


def _step(
    towers: Towers, features: Tensor, lens: Tensor, arguments: argparse.Namespace, update: Callable[[], object]
) -> Callable[[], None]:
    ids, id_lens = _captions(lens, arguments)

    def step() -> None:
        towers.zero_grad(set_to_none=True)
        towers.audio.set_batch_count(_workload.SETTLED)
        with torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bfloat16):
            loss = towers.loss(features, lens, ids, id_lens)
        loss.backward()
        update()

    return step


def _plainly(step: Callable[[], None]) -> Callable[[], None]:
    """The step with its chains as defined and all captions padded to the longest."""

    def plain() -> None:
        together, text_encoder.TOGETHER = text_encoder.TOGETHER, 1 << 30
        try:
            with _workload.plain_eager():
                step()
        finally:
            text_encoder.TOGETHER = together

    return plain
