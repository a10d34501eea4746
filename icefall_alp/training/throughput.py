# SPDX-License-Identifier: Apache-2.0
"""How fast a run is: audio per second, floating-point operations against what the device can do, waiting, padding.

Operations are counted, not estimated from sizes: at some steps every matrix product and convolution, forward and
backward, is looked at as PyTorch runs it. In between the count follows the seconds of audio, padding included.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from icefall_alp.models.kernels import chains
from icefall_alp.training.metrics import MetricSums
from icefall_alp.utils import distributed

# TFLOP/s of dense matrix products as the makers state them, for float32 and for 16 bits.
_PEAKS = {"H200": (67, 989), "H100": (67, 989), "A100": (19.5, 312), "V100": (15.7, 125), "L40": (90, 362)}
_COUNT_EVERY = 1000  # steps; before that at steps 1, 2, 4, 8, ...


class Throughput:
    """Rates of the steps since they were last read.

    Args:
        device: of this process.
        precision: float32, bfloat16 or float16.
        peak_tflops: what the device could do; 0 where `peak_flops` is to find out.
    """

    def __init__(self, device: torch.device, precision: str, peak_tflops: float = 0.0) -> None:
        self._device, self._precision = device, precision
        self._rates = MetricSums()
        self._flops, self._counted_seconds = 0.0, 0.0
        self._num_steps = 0
        self._peak = 1e12 * peak_tflops

    @contextmanager
    def counting(self, slot_seconds: float) -> Iterator[None]:
        """Around a step on `slot_seconds` of audio, padding included; counts its operations now and then."""
        self._num_steps += 1
        number = self._num_steps
        if number & (number - 1) and number % _COUNT_EVERY:
            yield
            return
        with FlopCounter() as counter:
            yield
        self._flops += counter.total
        self._counted_seconds += slot_seconds

    def add(self, seconds: float, slot_seconds: float, waited: float, elapsed: float) -> None:
        """Take a step in.

        Args:
            seconds: of audio in this process.
            slot_seconds: the same with padding.
            waited: seconds until the data were there.
            elapsed: seconds of the whole step.
        """
        self._peak = self._peak or peak_flops(self._device, self._precision)
        flops = self._flops / max(self._counted_seconds, 1e-9) * slot_seconds
        rates, world_size = self._rates, distributed.world_size()
        rates.add_ratio("audio-s/s", seconds * world_size, elapsed)
        rates.add_ratio("TFLOP/s", flops * world_size / 1e12, elapsed)
        rates.add_ratio("MFU", flops, elapsed * self._peak)
        rates.add_ratio("data wait", waited, elapsed)
        rates.add_ratio("padding", slot_seconds - seconds, slot_seconds)
        rates.add_ratio("seconds per step", elapsed, 1)

    def read(self) -> dict[str, float]:
        """Rates over all processes since the last call."""
        return self._rates.reduce()


class FlopCounter(TorchDispatchMode):
    """Counts the operations of matrix products, convolutions and attention while active: `total`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __enter__(self) -> FlopCounter:
        self.total -= chains.unseen_operations()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.total += chains.unseen_operations()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=result)
        return result


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
