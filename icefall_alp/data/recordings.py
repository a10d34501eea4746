# SPDX-License-Identifier: Apache-2.0
"""Any audio file as mono windows at 16 kHz, whatever its format, rate, number of channels and length.

A file of hours is never in memory whole. What cannot be used is a `ValueError` whose message is the cause, one for the
file, so that a command over many files can say so and go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from icefall_alp.data.audio import mono_at_16_khz
from icefall_alp.data.fbank import FRAME_RATE, MIN_FRAMES, SAMPLING_RATE

SHORTEST = MIN_FRAMES * SAMPLING_RATE // FRAME_RATE  # samples that the encoder needs
SILENCE = 2.0**-15  # peak; less than the smallest step of 16-bit samples


@dataclass(frozen=True)
class Window:
    """A stretch of a file.

    Attributes:
        path: the file.
        start: seconds into the file.
        waveform: (S,) float32 at 16 kHz.
    """

    path: Path
    start: float
    waveform: Tensor

    @property
    def end(self) -> float:
        """Seconds into the file."""
        return self.start + len(self.waveform) / SAMPLING_RATE


def list_files(paths: list[Path]) -> list[Path]:
    """The files named, and those in and below the folders named, but hidden ones; sorted within a folder."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        hidden = [any(part.startswith(".") for part in item.relative_to(path).parts) for item in inside]
        found += [item for item, is_hidden in zip(inside, hidden, strict=True) if not item.is_dir() and not is_hidden]
    return found


def read_windows(path: Path, seconds: float) -> Iterator[Window]:
    """Yield the windows of a file, each of `seconds` but the last; silent ones are left out.

    Raises:
        ValueError: the file is missing, not audio, empty, too short, silent, or a sample is NaN or infinite.
    """
    if not path.is_file():
        raise ValueError("no such file")
    if path.stat().st_size == 0:
        raise ValueError("empty file")
    num_read = num_yielded = 0
    longest = 0
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            for block in file.blocks(round(seconds * rate), dtype="float32", always_2d=True):
                start, num_read = num_read / rate, num_read + len(block)
                waveform = _checked(block, rate)
                longest = max(longest, len(waveform))
                if len(waveform) >= SHORTEST and float(waveform.abs().max()) >= SILENCE:
                    num_yielded += 1
                    yield Window(path, start, waveform)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise ValueError(f"not readable as audio: {' '.join(str(error).split())}") from error
    if num_read == 0:
        raise ValueError("no samples in it")
    if num_yielded == 0:
        raise ValueError(f"too short: {longest / SAMPLING_RATE:.3f} s" if longest < SHORTEST else "silent")


def _checked(block: np.ndarray, rate: int) -> Tensor:
    if not np.isfinite(block).all():
        raise ValueError("NaN or infinite samples")
    return mono_at_16_khz(torch.from_numpy(block), rate)


def clock(seconds: float) -> str:
    """Seconds as people read them: 1:02:03.5, or 2:03.5."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
