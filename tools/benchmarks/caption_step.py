# SPDX-License-Identifier: Apache-2.0
"""A whole captioning step: encoder, decoder, loss, backward and optimizer; and the same with transformers' decoder.

That one is BART's, with a mask (U, U) for every caption, all captions padded to `max_tokens` and logits of all their
positions, beside our encoder in plain eager PyTorch and ScaledAdam as a loop.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BartConfig
from transformers.models.bart.modeling_bart import BartDecoder

from benchmarks import _forms, _workload
from benchmarks.timing import count_flops
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.models.pooling import valid_frames
from icefall_alp.models.text_decoder import DecoderSizes, TextDecoder
from icefall_alp.objectives.captioning import CaptioningObjective
from icefall_alp.training.scaled_adam import ScaledAdam

PARALLEL = 0.75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which encoder and decoder on what batch."""
    _workload.add_encoder_arguments(parser, max_duration=80.0)
    _forms.add_arguments(parser)
    parser.add_argument("--text-width", type=int, default=768, help="of the decoder (%(default)s)")
    parser.add_argument("--text-layers", type=int, default=6, help="of the decoder (%(default)s)")
    parser.add_argument("--vocabulary", type=int, default=50265, help="of the decoder (%(default)s, BART's)")
    parser.add_argument("--max-tokens", type=int, default=_workload.LONGEST, help="(%(default)s; the recipe: 128)")


def run(arguments: argparse.Namespace) -> None:
    """Time both forms of the step; they start from the same weights and draw the same numbers."""
    batch = _workload.make_batch(arguments)
    ours, plain = _objective(CaptioningObjective, arguments), _objective(_Plain, arguments)
    plain_step = _step(plain, batch, arguments, _workload.looped_scaled_adam(plain))

    def plain_eager() -> None:
        with _workload.plain_eager():
            plain_step()

    update = ScaledAdam(_workload.trained(ours), lr=1e-4).step
    steps = {"plain eager": plain_eager, "ours": _step(ours, batch, arguments, update)}
    steps = {name: _workload.same_draws(step) for name, step in steps.items()}
    with _workload.plain_eager():
        flops = 3 * count_flops(lambda: ours(batch))
    _forms.compare(steps, _step(ours, batch, arguments, lambda: None), batch.num_seconds, flops, arguments)


class _Plain(CaptioningObjective):
    """A mask for every caption, and logits of all positions, padding included."""

    def __init__(
        self, audio_encoder: nn.Module, text_decoder: TextDecoder, parallel_fraction: float, label_smoothing: float
    ) -> None:
        super().__init__(audio_encoder, _Bart(text_decoder), parallel_fraction, label_smoothing)

    def forward(self, batch: CaptionBatch) -> Tensor:
        """The sum over target tokens."""
        bart, device = self.text_decoder, batch.features.device
        ids, lens, _ = bart.tokenizer.encode(batch.captions, bart.sizes.max_tokens)
        parallel = self._draw_modes(batch.cut_ids).to(device)
        longest = bart.sizes.max_tokens
        padded = F.pad(ids, (0, longest - ids.size(1)), value=bart.tokenizer.pad_id).to(device)
        inputs = F.pad(padded[:, :-1], (1, 0), value=bart.sizes.start_id)
        inputs = torch.where(parallel[:, None], bart.tokenizer.mask_id, inputs)
        seen = torch.ones(len(ids), 1, longest, longest, dtype=torch.bool, device=device)
        seen = torch.where(parallel[:, None, None, None], seen, seen.tril())
        mask = torch.zeros(seen.shape, device=device).masked_fill(~seen, float("-inf"))
        logits = bart(inputs, mask, *self.audio_encoder(batch.features, batch.feature_lens))
        position = torch.arange(longest)
        is_target = ((position > 0) & (position < lens[:, None])).to(device)
        targets = padded.masked_fill(~is_target, -100)
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="sum", label_smoothing=smoothing)


class _Bart(nn.Module):
    """The library's decoder, with the weights of ours."""

    def __init__(self, ours: TextDecoder) -> None:
        super().__init__()
        self.sizes, self.tokenizer, self.bridge = ours.sizes, ours.tokenizer, ours.bridge
        sizes = self.sizes
        config = BartConfig(
            vocab_size=sizes.vocab_size, max_position_embeddings=sizes.num_positions, d_model=sizes.hidden_size,
            decoder_layers=sizes.num_layers, decoder_attention_heads=sizes.num_heads,
            decoder_ffn_dim=sizes.feedforward_dim, dropout=sizes.dropout, pad_token_id=ours.tokenizer.pad_id,
        )  # fmt: skip
        self.decoder = BartDecoder(config)
        others = ("bridge.", "final_logits_bias")
        weights = {name: tensor for name, tensor in ours.state_dict().items() if not name.startswith(others)}
        self.decoder.load_state_dict(weights)

    def forward(self, inputs: Tensor, mask: Tensor, frames: Tensor, frame_lens: Tensor) -> Tensor:
        """Logits (N, U, V) of inputs (N, U); what `mask` (N, 1, U, U) holds is added to the self-attention's scores."""
        hidden = self.decoder(
            input_ids=inputs,
            attention_mask=mask,
            encoder_hidden_states=self.bridge(frames),
            encoder_attention_mask=valid_frames(frame_lens, frames.size(1)),
            use_cache=False,
        )
        return F.linear(hidden.last_hidden_state, self.decoder.embed_tokens.weight)


def _objective(kind: type[CaptioningObjective], arguments: argparse.Namespace) -> CaptioningObjective:
    encoder = _workload.build_encoder(arguments)
    width = arguments.text_width
    sizes = DecoderSizes(
        encoder.output_dim, arguments.vocabulary, start_id=2, max_tokens=arguments.max_tokens, hidden_size=width,
        num_layers=arguments.text_layers, num_heads=max(1, width // 64), feedforward_dim=4 * width,
    )  # fmt: skip
    objective = kind(
        encoder, TextDecoder(sizes, _workload.Numbers(arguments.vocabulary)), PARALLEL, label_smoothing=0.1
    )
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
