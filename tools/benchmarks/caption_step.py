# SPDX-License-Identifier: Apache-2.0
"""A whole captioning step: encoder, decoder, loss, backward and optimizer; and the same in plain eager PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import _forms, _workload
from benchmarks.generate import Words
from benchmarks.timing import count_flops
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.models.text_decoder import DecoderSizes, TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective
from icefall_alp.training.scaled_adam import ScaledAdam

SHORTEST, LONGEST, PARALLEL = 6, 40, 0.75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which encoder and decoder on what batch."""
    _workload.add_encoder_arguments(parser, max_duration=80.0)
    _forms.add_arguments(parser)
    parser.add_argument("--text-width", type=int, default=768, help="of the decoder (%(default)s)")
    parser.add_argument("--text-layers", type=int, default=6, help="of the decoder (%(default)s)")
    parser.add_argument("--vocabulary", type=int, default=50265, help="of the decoder (%(default)s, BART's)")


def run(arguments: argparse.Namespace) -> None:
    """Time both forms of the step; they start from the same weights and draw the same numbers."""
    features, lens = _workload.make_features(arguments, 80)
    batch = CaptionBatch(features, lens, _captions(len(lens)), [str(i) for i in range(len(lens))])
    ours, plain = _objective(CaptioningObjective, arguments), _objective(_Plain, arguments)
    plain_step = _step(plain, batch, arguments, _workload.looped_scaled_adam(plain))

    def plain_eager() -> None:
        with _workload.plain_eager():
            plain_step()

    update = ScaledAdam(_workload.trained(ours), lr=1e-4).step
    steps = {"plain eager": plain_eager, "ours": _step(ours, batch, arguments, update)}
    steps = {name: _workload.same_draws(step) for name, step in steps.items()}
    seconds = float(lens.sum()) / _workload.FRAMES_PER_SECOND
    with _workload.plain_eager():
        flops = 3 * count_flops(lambda: ours(batch))
    _forms.compare(steps, _step(ours, batch, arguments, lambda: None), seconds, flops, arguments)


class _Plain(CaptioningObjective):
    """A mask for every caption, and logits of all positions, padding included."""

    def forward(self, batch: CaptionBatch) -> Tensor:
        """The sum over target tokens."""
        decoder, device = self.text_decoder, batch.features.device
        ids, lens, _ = decoder.tokenize(batch.captions)
        parallel = self._draw_modes(batch.cut_ids).to(device)
        longest = decoder.sizes.max_tokens
        padded = F.pad(ids, (0, longest - ids.size(1)), value=decoder.tokenizer.pad_id).to(device)
        inputs = F.pad(padded[:, :-1], (1, 0), value=decoder.sizes.start_id)
        inputs = torch.where(parallel[:, None], decoder.tokenizer.mask_id, inputs)
        seen = torch.ones(len(ids), 1, longest, longest, dtype=torch.bool, device=device)
        seen = torch.where(parallel[:, None, None, None], seen, seen.tril())
        mask = torch.zeros(seen.shape, device=device).masked_fill(~seen, float("-inf"))
        memory = decoder.memory(*self.audio_encoder(batch.features, batch.feature_lens))
        logits = decoder.project(decoder._run(inputs, memory, mask, None)[0])
        position = torch.arange(longest)
        is_target = ((position > 0) & (position < lens[:, None])).to(device)
        targets = padded.masked_fill(~is_target, -100)
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="sum", label_smoothing=smoothing)


class _Numbers(Words):
    """Captions that are written as ids."""

    def _words_to_ids(self, texts: list[str]) -> list[list[int]]:
        return [list(map(int, text.split())) for text in texts]


def _captions(num: int) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    lens = torch.randint(SHORTEST, LONGEST - 1, (num,), generator=generator).tolist()
    return [" ".join(map(str, torch.randint(4, 1000, (n,), generator=generator).tolist())) for n in lens]


def _objective(kind: type[CaptioningObjective], arguments: argparse.Namespace) -> CaptioningObjective:
    encoder = _workload.build_encoder(arguments)
    tokenizer = _Numbers()
    tokenizer.vocab_size, tokenizer.mask_id = arguments.vocabulary, arguments.vocabulary - 1
    width = arguments.text_width
    sizes = DecoderSizes(
        encoder.output_dim, arguments.vocabulary, start_id=2, max_tokens=LONGEST, hidden_size=width,
        num_layers=arguments.text_layers, num_heads=max(1, width // 64), feedforward_dim=4 * width,
    )  # fmt: skip
    objective = kind(encoder, TextDecoder(sizes, tokenizer), PARALLEL, label_smoothing=0.1)
    return objective.to(arguments.device).train()


def _step(
    objective: CaptioningObjective,
    batch: CaptionBatch,
    arguments: argparse.Namespace,
    update: Callable[[], object],
) -> Callable[[], None]:
    def step() -> None:
        objective.zero_grad(set_to_none=True)
        objective.audio_encoder.set_batch_count(_workload.SETTLED)
        with torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bfloat16):
            out = objective(batch)
        (out if isinstance(out, Tensor) else out.total).backward()
        update()

    return step
