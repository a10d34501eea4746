# SPDX-License-Identifier: Apache-2.0
"""From the CPU to a device without waiting for what the device still has to do."""

from __future__ import annotations

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU, or already there, on `device`; where memory can be pinned it is copied from there.

    From other memory CUDA copies only after all work that was queued before, whatever `non_blocking` says.
    """
    if device.type == "cpu" or x.device == device:
        return x
    if torch.accelerator.is_available() and not torch.compiler.is_compiling() and not x.is_pinned():
        x = x.pin_memory()  # which compilers do not know
    return x.to(device, non_blocking=True)
