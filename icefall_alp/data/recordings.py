# SPDX-License-Identifier: Apache-2.0
"""Any audio file as mono windows at 16 kHz, whatever its format, rate, number of channels and length.

A file of hours is never in memory whole. What cannot be used is an `UnusableError` whose message is the cause, one for
the file, so that a command over many files can say so and go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from icefall_alp.data.audio import check_samples, mono_at_16_khz
from icefall_alp.data.fbank import FRAME_RATE, MIN_FRAMES, SAMPLING_RATE

SHORTEST = MIN_FRAMES * SAMPLING_RATE // FRAME_RATE  # samples that the encoder needs
SILENCE = 2.0**-15  # peak; less than the smallest step of 16-bit samples


class UnusableError(ValueError):
    """A file cannot be used, from `start` on, in seconds; the message is the cause."""

    def __init__(self, cause: str, start: float = 0.0) -> None:
        super().__init__(cause)
        self.start = start


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
    """The files named, and those in and below the folders named, but hidden ones; sorted within a folder, each once."""
    found: dict[str, Path] = {}  # by absolute name: a file may be named, and lie in a folder that is named
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for item in inside:
            is_hidden = any(part.startswith(".") for part in item.relative_to(path).parts)
            if not item.is_dir() and not is_hidden:
                found.setdefault(os.path.abspath(item), item)  # noqa: PTH100 (a link keeps its own name)
    return list(found.values())


def read_windows(path: Path, seconds: float) -> Iterator[Window]:
    """Yield the windows of a file, each of `seconds` but the last; silent ones are left out.

    Raises:
        UnusableError: the file is missing, not audio, empty, too short, silent, or its samples are none.
    """
    num_read = num_yielded = longest = 0
    loudest = read = 0.0
    try:
        if not path.is_file():
            raise UnusableError("a link to a file that is not there" if path.is_symlink() else "no such file")
        if path.stat().st_size == 0:
            raise UnusableError("empty file")
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate = file.samplerate
            for block in file.blocks(round(seconds * rate), dtype="float32", always_2d=True):
                start = num_read / rate
                waveform = _checked(block, rate, start)
                num_read += len(block)
                read = num_read / rate
                longest, loudest = max(longest, len(waveform)), max(loudest, float(np.abs(block).max()))
                if len(waveform) >= SHORTEST and float(waveform.abs().max()) >= SILENCE:
                    num_yielded += 1
                    yield Window(path, start, waveform)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise UnusableError(f"not readable as audio: {' '.join(str(error).split())}", read) from error
    if num_yielded == 0:
        raise UnusableError(_why_nothing(longest, loudest))


def _why_nothing(longest: int, loudest: float) -> str:
    """What is wrong with a file whose longest window has so many samples, and whose loudest sample is that."""
    if longest == 0:
        return "no samples in it"
    if longest < SHORTEST:
        return f"too short: {longest / SAMPLING_RATE:.3f} s"
    return "silent" if loudest < SILENCE else "silent as mono: its channels cancel each other"


def _checked(block: np.ndarray, rate: int, start: float) -> Tensor:
    try:
        check_samples(block)
    except ValueError as error:
        raise UnusableError(str(error), start) from error
    return mono_at_16_khz(torch.from_numpy(block), rate)


def shown(path: Path | str) -> str:
    """A file's name as one line that any terminal takes: what is not printable stands there as its escape."""
    text = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clock(seconds: float) -> str:
    """Seconds as people read them: 1:02:03.5, or 2:03.5."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
