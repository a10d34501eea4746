# SPDX-License-Identifier: Apache-2.0
"""How fast a run is: audio per second, floating-point operations against what the device can do, waiting, padding.

Operations are counted: at some steps every matrix product and convolution, forward and backward, is looked at as
PyTorch runs it. For all others they follow from the lengths of clips and captions, as fitted to the counted steps.
Counted steps take longer: most of a run's first 50 are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from icefall_alp.data.fbank import FRAME_RATE
from icefall_alp.training.flop_counter import FlopCounter
from icefall_alp.training.metrics import MetricSums
from icefall_alp.training.peak_flops import peak_flops
from icefall_alp.utils import distributed

_COUNT_EVERY = 1000  # steps; before that eight times while their number doubles
_PRIOR = 0.01  # of a count's weight: how far the fit believes in a constant number for each second of audio

Shape = tuple[int, float, int]  # of a batch: clips, seconds of one with padding, letters of all texts


def shape_of(batch: Any) -> Shape:
    """What the operations of a step on a batch, whose features (N, T, F) are there, depend on."""
    num_clips, num_frames = batch.features.shape[:2]
    return num_clips, num_frames / FRAME_RATE, sum(map(len, getattr(batch, "captions", ())))


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
        self._counted: list[tuple[int, Tensor]] = []  # operations of a step, and its sizes
        self._unread, self._elapsed = torch.zeros(4, dtype=torch.float64), 0.0  # sizes and seconds since last read
        self._num_steps = 0
        self._peak = 1e12 * peak_tflops

    @contextmanager
    def counting(self, shapes: Sequence[Shape]) -> Iterator[None]:
        """Around a step on micro-batches of these shapes; counts its operations now and then."""
        self._num_steps += 1
        if self._num_steps % min(1 << max(0, self._num_steps.bit_length() - 4), _COUNT_EVERY):
            yield
            return
        with FlopCounter() as counter:
            yield
        self._counted.append((counter.total, _sizes(shapes)))

    def add(self, seconds: float, shapes: Sequence[Shape], waited: float, elapsed: float) -> None:
        """Take a step in.

        Args:
            seconds: of audio in this process.
            shapes: of its micro-batches.
            waited: seconds until the data were there.
            elapsed: seconds of the whole step.
        """
        sizes = _sizes(shapes)
        self._unread += sizes
        self._elapsed += elapsed
        rates, slot_seconds = self._rates, float(sizes[0])
        rates.add_ratio("audio-s/s", seconds * distributed.world_size(), elapsed)
        rates.add_ratio("data wait", waited, elapsed)
        rates.add_ratio("padding", slot_seconds - seconds, slot_seconds)
        rates.add_ratio("seconds per step", elapsed, 1)

    def read(self) -> dict[str, float]:
        """Rates over all processes since the last call."""
        if self._elapsed:
            self._peak = self._peak or peak_flops(self._device, self._precision)
            flops = self._estimate()
            self._rates.add_ratio("TFLOP/s", flops * distributed.world_size() / 1e12, self._elapsed)
            self._rates.add_ratio("MFU", flops, self._elapsed * self._peak)
            self._unread, self._elapsed = torch.zeros_like(self._unread), 0.0
        return self._rates.reduce()

    def _estimate(self) -> float:
        """Operations since last read, by least squares; from few or similar steps in proportion to the seconds."""
        counts, sizes = zip(*self._counted, strict=True)
        counts, sizes = torch.tensor(counts, dtype=torch.float64), torch.stack(sizes)
        scale = sizes.mean(0).clamp(min=1e-9)  # not every objective has texts
        x, prior = sizes / scale, _PRIOR * torch.eye(4, dtype=torch.float64)
        weights = torch.linalg.solve(x.T @ x + prior, x.T @ counts + prior[0] * counts.mean())
        return float(weights @ (self._unread / scale))


def _sizes(shapes: Sequence[Shape]) -> Tensor:
    """What operations grow with: seconds with padding, for attention these times a clip's length, clips, letters."""
    clips, length, letters = torch.tensor(shapes, dtype=torch.float64).T
    return torch.stack([clips @ length, clips @ length.square(), clips.sum(), letters.sum()])
