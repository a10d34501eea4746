# SPDX-License-Identifier: Apache-2.0
"""P5: 80-bin fbank of a batch, beside lhotse.Fbank, torchaudio's and kaldi-native-fbank's, and how much they differ."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import kaldi_native_fbank
import numpy as np
import torch
import torchaudio
from lhotse.features.kaldi.extractors import Fbank as LhotseFbank
from torch import Tensor

from benchmarks.timing import report, take_turns
from icefall_alp.data.fbank import Fbank

SAMPLE = 32  # clips that the baselines are timed on; they would need minutes for a batch that fills a GPU


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=32, help="in a batch (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Measure all in turns; the baselines run on the CPU, one clip at a time, as they are made for."""
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(options.clips, int(16000 * options.seconds), generator=generator)
    lens = torch.full((options.clips,), waveforms.shape[1])
    fbank, on_device = Fbank().to(options.device), (waveforms.to(options.device), lens.to(options.device))
    few = waveforms[:SAMPLE]
    clips = [clip.numpy() for clip in few]
    lhotse_fbank = LhotseFbank()
    contenders: dict[str, Callable[[], object]] = {
        "lhotse": lambda: [lhotse_fbank.extract(clip, 16000) for clip in clips],
        "ours": lambda: fbank(*on_device),
        "torchaudio": lambda: [torchaudio_fbank(clip) for clip in few],
        "kaldi-native-fbank": lambda: [kaldi_fbank(clip) for clip in clips],
    }
    times = take_turns(contenders, options.device, options.rounds, repeats=1)
    if len(few) < options.clips:
        times = {
            name: seconds if name == "ours" else [own * options.clips / len(few) for own in seconds]
            for name, seconds in times.items()
        }
        print(f"all but ours: timed on {len(few)} of the {options.clips:,} clips, times {options.clips / len(few):g}")
    report(times, "lhotse")
    audio = options.clips * options.seconds
    for name, seconds in times.items():
        print(f"{name}: {audio / statistics.median(seconds):.0f} audio-s/s")
    ours, kaldi, exact = fbank(*on_device)[0][0].cpu().numpy(), kaldi_fbank(clips[0]), exact_fbank(clips[0])
    for name, difference in (
        ("ours against Kaldi's", ours - kaldi),
        ("ours against Kaldi's formulas in float64", ours - exact),
        ("Kaldi's against its formulas in float64", kaldi - exact),
    ):
        size = np.abs(difference)
        print(
            f"{name}: at most {size.max():.1e}, on average {size.mean():.1e}, past 1e-4 in {np.mean(size > 1e-4):.2%}"
        )


def torchaudio_fbank(waveform: Tensor) -> Tensor:
    """The same features by torchaudio."""
    return torchaudio.compliance.kaldi.fbank(
        waveform[None], sample_frequency=16000, dither=0.0, snip_edges=False, num_mel_bins=80, high_freq=-400.0
    )


def kaldi_fbank(samples: np.ndarray) -> np.ndarray:
    """The same features by Kaldi's code."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = 80
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = -400.0
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(16000, samples)
    computer.input_finished()
    return np.stack([computer.get_frame(frame) for frame in range(computer.num_frames_ready)])


def exact_fbank(samples: np.ndarray) -> np.ndarray:
    """The same features by Kaldi's formulas, window by window in float64."""
    num_frames, length = (len(samples) + 80) // 160, len(samples)
    positions = (np.arange(num_frames)[:, None] * 160 - 120 + np.arange(400)) % (2 * length)
    frames = samples.astype(np.float64)[np.minimum(positions, 2 * length - 1 - positions)]
    frames -= frames.mean(axis=1, keepdims=True)
    frames -= 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(frames, n=512)) ** 2
    return np.log(np.maximum(power @ _exact_weights(), np.finfo(np.float32).eps))


def _exact_weights() -> np.ndarray:
    """The filters, corner by corner."""
    corners = np.linspace(np.log(1 + 20 / 700), np.log(1 + 7600 / 700), 82)
    places = np.log(1 + np.arange(257) * 31.25 / 700)
    triangles = [np.interp(places, corners[k : k + 3], [0.0, 1.0, 0.0]) for k in range(80)]
    return np.stack(triangles, axis=1)
