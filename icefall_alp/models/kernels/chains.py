# SPDX-License-Identifier: Apache-2.0
"""The chains as models call them: defined in `plain`, computed by the form that suits the device of the first tensor.

ICEFALL_ALP_FUSED=0 in the environment computes the definitions themselves, everywhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

from icefall_alp.models.kernels import closed, native, plain
from icefall_alp.models.kernels.native_library import library

FUSED = os.environ.get("ICEFALL_ALP_FUSED", "1") != "0"


def form_for(device_type: str) -> ModuleType:
    """The module that computes chains on a type of device; what `torch.compile` traces are the definitions."""
    if not FUSED or torch.compiler.is_compiling():
        return plain
    if device_type != "cpu":
        return _device_form()
    return closed if library() is None else native


@cache
def _device_form() -> ModuleType:
    if find_spec("triton") is None:
        return closed
    try:
        import_module("triton.runtime").driver.active.get_current_target()  # compiles what talks to the driver
    except Exception as error:  # whatever a compiler, a header or a library that is missing makes of it
        logging.warning(
            "Triton cannot compile here, so PyTorch's operations compute, slower: %s", " ".join(str(error).split())
        )
        return closed
    return import_module("icefall_alp.models.kernels.triton_forms")


def _by_device(definition: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(definition)
    def chosen(x, *arguments):
        return getattr(form_for(x.device.type), definition.__name__)(x, *arguments)

    return chosen


swoosh = _by_device(plain.swoosh)
swoosh_linear = _by_device(plain.swoosh_linear)
feed_forward = _by_device(plain.feed_forward)
pointwise_feed_forward = _by_device(plain.pointwise_feed_forward)
gate = _by_device(plain.gate)
tanh_gate = _by_device(plain.tanh_gate)
linear = _by_device(plain.linear)
bias_norm = _by_device(plain.bias_norm)
bypass = _by_device(plain.bypass)
residual = _by_device(plain.residual)
sum_groups = _by_device(plain.sum_groups)
logits = _by_device(plain.logits)
depthwise_conv = _by_device(plain.depthwise_conv)
depthwise_image_conv = _by_device(plain.depthwise_image_conv)
image_conv = _by_device(plain.image_conv)
attention_weights = _by_device(plain.attention_weights)
mix = _by_device(plain.mix)
balancer_gradient = _by_device(plain.balancer_gradient)
whiten_gradient = _by_device(plain.whiten_gradient)
