# SPDX-License-Identifier: Apache-2.0
"""Operations per second that a device could do at most, for MFU."""

from __future__ import annotations

import time

import torch

# TFLOP/s of dense matrix products as the makers state them, for float32 and for 16 bits. Longer names first: they hold
# the shorter.
_PEAKS = {"H200 NVL": (60, 835), "H100 NVL": (60, 835), "H100 PCIe": (51, 756), "H200": (67, 989), "H100": (67, 989)}
_PEAKS |= {"A100": (19.5, 312), "V100": (15.7, 125), "L40S": (91.6, 362), "L40": (90.5, 181)}


def peak_flops(device: torch.device, precision: str) -> float:
    """Operations per second that the device could do: as its maker states, or else as a large product reaches."""
    if device.type != "cpu":
        name = torch.get_device_module(device).get_device_name(device)
        for part, peaks in _PEAKS.items():
            if part in name:
                return 1e12 * peaks[precision != "float32"]
    size = 512 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, device=device, dtype=torch.float32 if precision == "float32" else torch.bfloat16)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
