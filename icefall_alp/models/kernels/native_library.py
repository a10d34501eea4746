# SPDX-License-Identifier: Apache-2.0
"""The loops in C of `native` and its neighbours, and how they are called."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from icefall_alp.utils.native_library import NativeLibrary

FOLDER = Path(__file__).parent
SOURCES = [
    FOLDER / f"cpu_{name}.c"
    for name in ("elementwise", "bypass", "linear", "attention", "depthwise", "convolution", "scaled_adam")
]
HEADERS = [FOLDER / f"cpu_{name}.h" for name in ("numbers", "registers")]
SIGNATURES = {
    "swoosh": (3, 3, 2, 2),
    "swoosh_backward": (5, 3, 2, 2),
    "linear": (6, 5, 2, 3),
    "feed_forward": (7, 5, 2, 2),
    "linear_backward_input": (6, 4, 2, 1),
    "linear_backward_weight": (3, 4, 0, 1),
    "gate": (4, 4, 0, 3),
    "gate_backward": (6, 4, 0, 3),
    "bias_norm": (5, 2, 0, 1),
    "bias_norm_backward": (8, 2, 0, 1),
    "bypass": (7, 5, 0, 2),
    "bypass_backward": (12, 6, 0, 2),
    "sum_groups": (3, 7, 0, 1),
    "moments": (3, 3, 0, 2),
    "add_line": (5, 3, 0, 2),
    "attention_weights": (6, 10, 0, 2),
    "attention_weights_backward": (11, 8, 0, 2),
    "mix": (3, 5, 0, 1),
    "mix_backward": (5, 5, 0, 1),
    "depthwise_conv": (4, 6, 0, 3),
    "depthwise_conv_backward": (3, 6, 0, 2),
    "scaled_adam": (7, 1, 6, 2),
    "scaled_adam_grow": (4, 1, 0, 1),
    "image_conv": (4, 10, 0, 1),
    "depthwise_image_conv": (4, 4, 0, 3),
    "depthwise_image_conv_backward": (3, 4, 0, 2),
}
LIBRARY = NativeLibrary("cpu_kernels", SOURCES, HEADERS, SIGNATURES)


def library() -> ctypes.CDLL | None:
    """The loops, or None where there is no compiler."""
    return LIBRARY.functions


def call(name: str, half: Tensor | None, *arguments: Tensor | float | None) -> None:
    """Call a loop with the tensors' addresses; `half` is a tensor of the type that the loop reads."""
    kind = () if half is None else (half.dtype == torch.bfloat16,)
    LIBRARY.call(name, *arguments, *kind, torch.get_num_threads())
