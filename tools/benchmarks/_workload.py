# SPDX-License-Identifier: Apache-2.0
"""Models and batches of the benchmarks, of the sizes that the command line asks for; random numbers in both."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.optimizer import reference_scaled_adam
from icefall_alp.config.loader import config_from_dict, read_yaml
from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.data.datasets import CaptionBatch
from icefall_alp.models import AudioEncoder
from icefall_alp.models.kernels import chains
from icefall_alp.models.tokenizer import Tokenizer

FRAMES_PER_SECOND = 100
SETTLED = 20000.0  # batch count from which most schedules are constant
SHORTEST, LONGEST = 6, 40  # tokens of a caption


def add_encoder_arguments(parser: argparse.ArgumentParser, max_duration: float) -> None:
    """Whose encoder, and how much audio."""
    parser.add_argument("--encoder", type=Path, help="YAML with audio_encoder; default: zipformer_m")
    parser.add_argument("--layers", type=int, nargs="+", help="layers of each stack instead of the encoder's own")
    parser.add_argument("--max-duration", type=float, default=max_duration, help="seconds in a batch (%(default)s)")
    parser.add_argument("--clip-seconds", type=float, default=10.0, help="longest clip (%(default)s)")


def build_encoder(arguments: argparse.Namespace) -> AudioEncoder:
    """The encoder, with random weights, on the device."""
    config = ZipformerConfig.presets()["zipformer_m"]
    if arguments.encoder:
        config = config_from_dict(ZipformerConfig, read_yaml(arguments.encoder)["audio_encoder"])
    if arguments.layers:
        config = replace(config, num_encoder_layers=tuple(arguments.layers))
    torch.manual_seed(0)
    encoder = AudioEncoder(config).to(arguments.device)
    encoder.set_batch_count(SETTLED)
    return encoder


def make_features(arguments: argparse.Namespace, feature_dim: int) -> tuple[Tensor, Tensor]:
    """Features (N, T, F) that fill the batch, and lengths (N,) on the CPU: the last tenth of a clip may be padding."""
    generator = torch.Generator().manual_seed(0)
    longest = int(arguments.clip_seconds * FRAMES_PER_SECOND)
    num_items = max(1, int(arguments.max_duration // arguments.clip_seconds))
    lens = longest - torch.randint(longest // 10 + 1, (num_items,), generator=generator)
    lens[0] = longest
    return torch.randn(num_items, longest, feature_dim, generator=generator).to(arguments.device), lens


def make_batch(arguments: argparse.Namespace) -> CaptionBatch:
    """Features as above, and for each clip a caption of 6 to 40 tokens."""
    features, lens = make_features(arguments, 80)
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(SHORTEST, LONGEST - 1, (len(lens),), generator=generator).tolist()
    captions = [" ".join(map(str, torch.randint(4, 1000, (n,), generator=generator).tolist())) for n in sizes]
    return CaptionBatch(features, lens, captions, [str(i) for i in range(len(lens))])


class Numbers(Tokenizer):
    """Captions that are written as ids."""

    bos_id, pad_id, eos_id = range(3)

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size, self.mask_id = vocab_size, vocab_size - 1

    def _words_to_ids(self, texts: list[str]) -> list[list[int]]:
        return [list(map(int, text.split())) for text in texts]

    def _ids_to_words(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))

    def save(self, folder: Path) -> str:
        """Nothing to write."""
        return ""


@contextmanager
def plain_eager() -> Iterator[None]:
    """Compute every chain as it is defined, in plain PyTorch operations."""
    chosen, chains.FUSED = chains.FUSED, False
    try:
        yield
    finally:
        chains.FUSED = chosen


def same_draws(step: Callable[[], object]) -> Callable[[], None]:
    """The step with regularisers and dropout drawn alike each time: contenders then do the same work."""

    def run() -> None:
        random.seed(1)
        torch.manual_seed(1)
        step()

    return run


def trained(module: nn.Module) -> list[nn.Parameter]:
    """What an optimizer is given."""
    return [p for p in module.parameters() if p.requires_grad]


def looped_scaled_adam(module: nn.Module) -> Callable[[], None]:
    """ScaledAdam as a loop over the parameters; one that the loss did not reach this time has no gradient."""
    parameters = trained(module)
    for p in parameters:
        p.grad = torch.zeros_like(p)
    update = reference_scaled_adam(parameters, lr=1e-4)

    def checked() -> None:
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        update()

    return checked
