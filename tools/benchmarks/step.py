# SPDX-License-Identifier: Apache-2.0
"""A whole contrastive step: both towers, the loss, backward and optimizer; and the same in plain eager PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from benchmarks import _forms, _workload
from benchmarks.timing import count_flops
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.models import text_passes
from icefall_alp.models.text_encoder import TextEncoder
from icefall_alp.objectives.base import LossOutput
from icefall_alp.objectives.contrastive import ContrastiveObjective
from icefall_alp.training.gradients import Gradients
from icefall_alp.training.recording import record_steps
from icefall_alp.training.scaled_adam import ScaledAdam

VOCABULARY, WIDTH, TEMPERATURE = 4000, 512, 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which towers on what batch."""
    _workload.add_encoder_arguments(parser, max_duration=80.0)
    _forms.add_arguments(parser)
    parser.add_argument("--text-width", type=int, default=768, help="of the text encoder (%(default)s)")
    parser.add_argument("--text-layers", type=int, default=12, help="of the text encoder (%(default)s)")
    parser.add_argument("--recorded", action="store_true", help="also with the encoder's step recorded and replayed")


def run(arguments: argparse.Namespace) -> None:
    """Time both forms of the step; they start from the same weights and draw the same numbers."""
    batch = _workload.make_batch(arguments)
    ours, plain = (build(kind, arguments) for kind in (ContrastiveObjective, AllAtOnce))
    steps = {
        "plain eager": _plainly(_step(plain, batch, arguments, _workload.looped_scaled_adam(plain))),
        "ours": _step(ours, batch, arguments, ScaledAdam(_workload.trained(ours), lr=1e-4).step),
    }
    if arguments.recorded:
        replayed = build(ContrastiveObjective, arguments)
        record_steps(replayed.audio_encoder)
        steps["recorded"] = _step(replayed, batch, arguments, ScaledAdam(_workload.trained(replayed), lr=1e-4).step)
    steps = {name: _workload.same_draws(step) for name, step in steps.items()}
    with _workload.plain_eager():
        flops = 3 * count_flops(lambda: ours(batch))
    _forms.compare(steps, _step(ours, batch, arguments, lambda: None), batch.num_seconds, flops, arguments)


class AllAtOnce(ContrastiveObjective):
    """Holds all similarities of a step, differentiated by autograd."""

    def _compare(self, audio: Tensor, text: Tensor) -> LossOutput:
        logits = self._scale() * audio @ text.T
        labels = torch.arange(len(logits), device=logits.device)
        total = sum(F.cross_entropy(own, labels, reduction="sum") for own in (logits, logits.T)) / 2
        return LossOutput(total, logits.new_full((), len(logits)), {})


def build(kind: type[ContrastiveObjective], arguments: argparse.Namespace) -> ContrastiveObjective:
    """Both towers with random weights, the same each time."""
    encoder = _workload.build_encoder(arguments)
    width = arguments.text_width
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(1, width // 64)}
    config = BertConfig(vocab_size=VOCABULARY, num_hidden_layers=arguments.text_layers, **sizes)
    transformer = BertModel(config, add_pooling_layer=False)
    text = TextEncoder(transformer, _workload.Numbers(VOCABULARY), _workload.LONGEST)
    return kind(encoder, text, WIDTH, TEMPERATURE).to(arguments.device).train()


def _step(
    objective: ContrastiveObjective, batch: CaptionBatch, arguments: argparse.Namespace, update: Callable[[], object]
) -> Callable[[], None]:
    gradients = Gradients(objective, "bfloat16" if arguments.bfloat16 else "float32", arguments.device)

    def step() -> None:
        objective.zero_grad(set_to_none=True)
        objective.set_batch_count(_workload.SETTLED)
        gradients.backward([batch])
        update()

    return step


def _plainly(step: Callable[[], None]) -> Callable[[], None]:
    """The step with its chains as defined and all captions padded to the longest."""

    def plain() -> None:
        together, text_passes.TOGETHER = text_passes.TOGETHER, 1 << 30
        try:
            with _workload.plain_eager():
                step()
        finally:
            text_passes.TOGETHER = together

    return plain
