# SPDX-License-Identifier: Apache-2.0
"""Writing captions by beam search: with the key-value cache, and with every step computed from the first token on."""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor, nn

from benchmarks import _workload
from benchmarks.timing import report, take_turns
from icefall_alp.models.beam_search import generate
from icefall_alp.models.text_decoder import DecoderSizes, Memory, Past, TextDecoder
from icefall_alp.utils.errors import UserError

VOCABULARY = 50265  # BART's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many captions, how long, of what decoder."""
    parser.add_argument("--tokens", type=int, default=60, help="of every caption (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=4, help="at a time (default: %(default)s)")
    parser.add_argument("--beam-size", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, default=250, help="of a clip (default: %(default)s, 10 seconds)")
    parser.add_argument("--width", type=int, default=768, help="of the decoder (default: %(default)s, BART-base)")
    parser.add_argument("--layers", type=int, default=6, help="of the decoder (default: %(default)s, BART-base)")


def run(arguments: argparse.Namespace) -> None:
    """Time both on random weights, after checking that they write the same tokens."""
    torch.manual_seed(0)
    decoder = random_decoder(arguments.width, arguments.layers, VOCABULARY).to(arguments.device)
    frames = torch.randn(arguments.clips, arguments.frames, arguments.width, device=arguments.device)
    lens = torch.full((arguments.clips,), arguments.frames, device=arguments.device)
    search = frames, lens, arguments.beam_size, arguments.tokens
    written = generate(decoder, *search)
    if any(len(tokens) != arguments.tokens for tokens in written):
        raise UserError("a caption ended early: its cost would not be that of --tokens; choose other sizes")
    contenders = {
        "no cache": lambda: generate(WithoutCache(decoder), *search),
        "cache": lambda: generate(decoder, *search),
    }
    same = contenders["no cache"]() == written
    print(f"{arguments.clips} clips, {arguments.beam_size} beams, {arguments.tokens} tokens; the same tokens: {same}")
    if not same:
        raise UserError("the cache changes what is written")
    times = take_turns(contenders, arguments.device, arguments.rounds, repeats=1)
    report(times, "no cache")
    total = arguments.clips * arguments.tokens
    for name, seconds in times.items():
        print(f"{name}: {total / statistics.median(seconds):.0f} tokens per second")


class WithoutCache:
    """A decoder whose past is the tokens so far, all of which it computes again at every step."""

    def __init__(self, decoder: TextDecoder) -> None:
        self.decoder = decoder
        self.tokenizer, self.sizes = decoder.tokenizer, decoder.sizes
        self.memory, self.project = decoder.memory, decoder.project

    def step(self, tokens: Tensor, memory: Memory, past: Past | None) -> tuple[Tensor, Past]:
        """As the decoder's, from the first token on."""
        if past is not None:
            tokens = torch.cat([past[0][0], tokens], dim=1)
        return self.decoder.step(tokens, memory, None)[0], [(tokens, tokens)]


def random_decoder(width: int, num_layers: int, vocab_size: int) -> TextDecoder:
    """A decoder that never ends a caption."""
    sizes = DecoderSizes(
        width, vocab_size, start_id=2, max_tokens=128, hidden_size=width, num_layers=num_layers,
        num_heads=max(1, width // 64), feedforward_dim=4 * width,
    )  # fmt: skip
    decoder = TextDecoder(sizes, _workload.Numbers(vocab_size)).eval().requires_grad_(False)
    nn.init.normal_(decoder.embed_tokens.weight, std=0.3)  # so that the best token stands out from rounding
    decoder.final_logits_bias[:, decoder.tokenizer.eos_id] = -1e4
    return decoder
