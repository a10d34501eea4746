# SPDX-License-Identifier: Apache-2.0
"""Anybody's recordings through a trained encoder, window by window; a file that cannot be used costs one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from icefall_alp.data.fbank import SAMPLING_RATE, Fbank
from icefall_alp.data.recordings import UnusableError, Window, clock, read_windows, shown
from icefall_alp.models.kernels.frozen import FrozenWeights
from icefall_alp.utils import distributed

BATCH_SECONDS = 240.0  # audio through the encoder at a time


def batch_features(fbank: Fbank, windows: list[Window]) -> tuple[Tensor, Tensor]:
    """Log-Mel features (n, T, 80) of windows and their lengths (n,), on this process's device."""
    waveforms = [window.waveform for window in windows]
    lens = torch.tensor([len(waveform) for waveform in waveforms])
    return fbank(pad_sequence(waveforms, batch_first=True).to(distributed.device()), lens.to(distributed.device()))


def usable_windows(files: Iterable[Path], seconds: float) -> Iterator[list[Window]]:
    """Yield the windows of one usable file after the other; say in one line what is wrong with each other file.

    A long file comes in several lists; if it fails later, what was yielded of it stands.
    """
    for path in files:
        pending: list[Window] = []
        count = 0
        try:
            for window in read_windows(path, seconds):
                pending.append(window)
                count += 1
                if len(pending) * seconds >= BATCH_SECONDS:
                    yield pending
                    pending = []
            if count * seconds > BATCH_SECONDS:
                say(f"note: {shown(path)}: long, {count} windows of {seconds:g} s")
        except UnusableError as cause:
            say_skipped(path, str(cause), cause.start)
        if pending:
            yield pending


def batches(windows: Iterable[list[Window]], seconds: float) -> Iterator[list[Window]]:
    """Gather the windows of several files into batches of up to `seconds` of audio, padding included."""
    batch: list[Window] = []
    for window in (window for own in windows for window in own):
        longest = max(len(other.waveform) for other in [*batch, window])
        if batch and longest * (len(batch) + 1) > seconds * SAMPLING_RATE:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def encoded_windows(
    files: Iterable[Path], seconds: float, encode: Callable[[list[Window]], tuple[Tensor, ...]]
) -> Iterator[tuple[list[Window], tuple[Tensor, ...]]]:
    """Yield the windows of all usable files, batch by batch, with what `encode` makes of them.

    Args:
        files: what to read.
        seconds: length of a window.
        encode: n windows to tensors (n, ...), by a model that does not change. Where the first is not finite, the file
            is left from there on and named.
    """
    left: set[Path] = set()
    frozen = FrozenWeights()
    for batch in batches(usable_windows(files, seconds), BATCH_SECONDS):
        with frozen:
            encoded = encode(batch)
        kept = []
        for row, (window, fine) in enumerate(zip(batch, encoded[0].isfinite().flatten(1).all(1).tolist(), strict=True)):
            if window.path not in left and fine:
                kept.append(row)
            elif window.path not in left:
                left.add(window.path)
                cause = f"what is computed from it is not finite; its peak is {float(window.waveform.abs().max()):.1e}"
                say_skipped(window.path, cause, window.start)
        if kept:
            yield [batch[row] for row in kept], tuple(values[kept] for values in encoded)


def say(line: str) -> None:
    """One line to the person, beside a progress bar."""
    tqdm.write(line, file=sys.stderr)


def say_skipped(path: Path, cause: str, start: float) -> None:
    """One line about a file that is not used from `start` on, in seconds."""
    say(f"skipped{f' from {clock(start)} on' if start else ''}: {shown(path)}: {cause}")
