# SPDX-License-Identifier: Apache-2.0
"""Encoding a batch with a frozen encoder: ours, and the same encoder in plain eager PyTorch operations."""

from __future__ import annotations

import argparse
from functools import partial

import torch
from torch import nn

from benchmarks import _forms, _workload
from benchmarks.timing import count_flops
from icefall_alp.models.kernels.frozen import FrozenWeights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which encoder on what batch."""
    _workload.add_encoder_arguments(parser, max_duration=200.0)  # the least that an evaluation of the recipe takes
    _forms.add_arguments(parser)
    parser.add_argument("--compile", action="store_true", help="also by torch.compile, on a GPU as CUDA graphs")


def run(arguments: argparse.Namespace) -> None:
    """Time both forms of the encoder, and what PyTorch's compiler makes of its definition."""
    encoder = _workload.build_encoder(arguments).eval()
    features, lens = _workload.make_features(arguments, encoder.config.feature_dim)
    frozen = FrozenWeights()

    @torch.no_grad()
    def encode(model: nn.Module) -> None:
        with frozen, torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bfloat16):
            model(features, lens)

    def plain() -> None:
        with _workload.plain_eager():
            encode(encoder)

    contenders = {"plain eager": plain, "ours": partial(encode, encoder)}
    if arguments.compile:
        mode = "default" if arguments.device.type == "cpu" else "reduce-overhead"
        contenders["compiled"] = partial(encode, torch.compile(encoder, dynamic=False, mode=mode))
    seconds = float(lens.sum()) / _workload.FRAMES_PER_SECOND
    _forms.compare(contenders, contenders["ours"], seconds, count_flops(plain), arguments)
