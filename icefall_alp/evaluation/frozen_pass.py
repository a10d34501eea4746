# SPDX-License-Identifier: Apache-2.0
"""A frozen encoder over batches of clips: the next batch is read while one is encoded, and what is odd is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from lhotse import MonoCut
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from icefall_alp.data.fbank import PADDING
from icefall_alp.models.kernels.frozen import FrozenWeights
from icefall_alp.models.pooling import valid_frames
from icefall_alp.utils import distributed
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.transfer import send

Argument, Value = TypeVar("Argument"), TypeVar("Value")


class Clips(Protocol):
    """What an encoder is given: cuts and, for each, its features (T, F) or waveform (T,); see `FeatureShards`."""

    folder: Path
    cuts: Sequence[MonoCut]
    durations: np.ndarray

    def __len__(self) -> int: ...

    def features(self, position: int) -> np.ndarray:
        """Input of the clip at `position`."""
        ...


def encoded_batches(
    encoder: nn.Module, clips: Clips, batches: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Run a frozen encoder over batches of clips; while it works on one, a thread reads the next.

    Args:
        encoder: Frozen and in evaluation mode; it is moved to the device of this process.
        clips: What it is given.
        batches: Positions in `clips` of each batch.

    Yields:
        Positions (n,), frames (n, T, C) float32 on the device, and the number of each clip's frames (n,).

    Raises:
        UserError: A clip is empty or too short for the encoder, or its frames are not finite; names the clip.
    """
    place, frozen = distributed.device(), FrozenWeights()
    encoder = encoder.to(place)
    shortest = getattr(encoder, "min_frames", 1)
    read = partial(_padded, clips, getattr(encoder, "padding_value", PADDING))
    with (
        tqdm(total=sum(map(len, batches)), desc=f"encode {clips.folder.name}", unit=" clips", mininterval=1.0) as bar,
        closing(_one_ahead(read, batches)) as inputs,
    ):
        for indices, (padded, lens) in zip(batches, inputs, strict=True):
            _check(lens >= shortest, clips, indices, f"less than the {shortest} frames that the encoder needs")
            with torch.no_grad(), frozen:
                encoder_out, out_lens = encoder(send(padded, place), send(lens, place))
            encoder_out = encoder_out.float()
            _check(out_lens >= 1, clips, indices, "the encoder gives it no frame")
            valid = valid_frames(out_lens, encoder_out.shape[1])[..., None]
            finite = (encoder_out.isfinite() | ~valid).all(-1).all(-1)
            _check(finite, clips, indices, "the encoder's frames are not finite; did training diverge?")
            yield indices, encoder_out, out_lens
            bar.update(len(indices))


def _padded(clips: Clips, padding: float, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Inputs of some clips, (n, T, F) or (n, T), and their lengths (n,)."""
    features = [torch.from_numpy(clips.features(int(i))) for i in indices]
    lens = torch.tensor([len(f) for f in features])
    return pad_sequence(features, batch_first=True, padding_value=padding), lens


def _one_ahead(function: Callable[[Argument], Value], arguments: Iterable[Argument]) -> Iterator[Value]:
    """`function` of each argument, in their order; a thread is at the next one. Closed, it leaves no thread."""
    with ThreadPoolExecutor(1) as thread:
        calls = (thread.submit(function, argument) for argument in arguments)
        call = next(calls, None)
        while call is not None:
            value, call = call.result(), next(calls, None)  # after an error no other call begins
            yield value


def _check(fine: Tensor, clips: Clips, indices: np.ndarray, wrong: str) -> None:
    if not fine.all():
        bad = int(indices[int(fine.int().argmin())])
        raise UserError(f"{clips.folder}: {clips.cuts[bad].id}: {wrong}")
