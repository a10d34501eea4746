# SPDX-License-Identifier: Apache-2.0
"""Log-Mel filterbanks as Kaldi computes them, for whole batches, and their storage in restartable shards.

16 kHz, 80 bins from 20 Hz to 7600 Hz, 25 ms povey windows every 10 ms, mean of each window removed, pre-emphasis
0.97, power spectrum of 512 points, no dither, edges reflected (`snip_edges=False`). Samples lie in [-1, 1] and the
floor below the logarithm is float32's epsilon, as in Lhotse; frames past a clip's end hold ln(1e-10).
"""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from lhotse import Features, MonoCut
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from icefall_alp.data.captions import CutDict, read_jsonl
from icefall_alp.data.shards import ShardWriter, finish_shards, start_shards, stored_shard
from icefall_alp.utils.digests import sha256_file, sha256_text
from icefall_alp.utils.errors import UserError

SAMPLING_RATE = 16000  # Hz
NUM_BINS = 80
FRAME_RATE = 100  # Hz
PADDING = math.log(1e-10)
MIN_FRAMES = 9  # what the encoder needs at least

_WINDOW, _SHIFT, _FFT = 400, 160, 512  # samples
_LEAD = (_WINDOW - _SHIFT) // 2  # the first window begins this far before the first sample
_TAIL = 200  # no window reaches further past the last sample
_BLOCK = math.gcd(_WINDOW, _SHIFT)
_PREEMPHASIS = 0.97
_ROWS_ON_CPU, _ROWS_ELSEWHERE = 256, 1 << 17  # windows per block: what fits the cache, what fits the memory
_ROW_MULTIPLE = 64
_MAX_RESAMPLING_KERNEL = 20_000_000  # taps; only rates that share no factor with 16 kHz need more
_CODE = sha256_file(Path(__file__))  # features made by other code are computed again


def mel_weights() -> Tensor:
    """Triangular filters, evenly spaced on Kaldi's Mel scale: (257, 80) float32, the Nyquist bin unused."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz, dtype=np.float64) / 700.0)

    corners = np.linspace(mel(20.0), mel(SAMPLING_RATE / 2 - 400.0), NUM_BINS + 2)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = mel(np.arange(_FFT // 2 + 1) * SAMPLING_RATE / _FFT)[:, None]
    weights = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(min=0.0)
    weights[-1] = 0.0
    return torch.from_numpy(weights).float()


class Fbank(nn.Module):
    """Waveforms to log-Mel features, on any device; a clip's features do not depend on its batch."""

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(_WINDOW, periodic=False, dtype=torch.float64).pow(0.85).float()
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("weights", mel_weights(), persistent=False)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            waveforms: (N, S) float32 in [-1, 1] at 16 kHz; what lies past a clip's length is ignored.
            lens: (N,) samples of each clip.

        Returns:
            features (N, T, 80) with T = round(S / 160), and feature_lens (N,) = round(lens / 160).
        """
        num_frames = (waveforms.shape[1] + _SHIFT // 2) // _SHIFT
        feature_lens = (lens + _SHIFT // 2) // _SHIFT
        signal = _reflect_edges(waveforms, lens.to(waveforms.device))
        # The window is zero at its first sample, so pre-emphasis may look across the window's start, and the mean of
        # the window can be taken away after it: (x - m) - 0.97 (x' - m) = (x - 0.97 x') - 0.03 m.
        sums = signal.unflatten(1, (-1, _BLOCK)).sum(2).unfold(1, _WINDOW // _BLOCK, _SHIFT // _BLOCK).sum(2)
        means = sums[..., None] * ((1.0 - _PREEMPHASIS) / _WINDOW)
        emphasized = torch.zeros_like(signal)
        torch.sub(signal[:, 1:], signal[:, :-1] * _PREEMPHASIS, out=emphasized[:, 1:])
        frames = emphasized.unfold(1, _WINDOW, _SHIFT)
        rows = _ROWS_ON_CPU if waveforms.device.type == "cpu" else _ROWS_ELSEWHERE
        step = max(1, rows // max(1, len(waveforms)))
        features = waveforms.new_empty(len(waveforms), num_frames, NUM_BINS)
        for start in range(0, num_frames, step):
            block = slice(start, min(start + step, num_frames))
            features[:, block] = self._mel_energies(frames[:, block], means[:, block])
        features = features.clamp_(min=torch.finfo(torch.float32).eps).log_()
        past_end = torch.arange(num_frames, device=features.device) >= feature_lens.to(features.device)[:, None]
        return features.masked_fill_(past_end[..., None], PADDING), feature_lens

    def _mel_energies(self, frames: Tensor, means: Tensor) -> Tensor:
        windowed = torch.mul(frames, self.window).addcmul_(means, self.window, value=-1.0)
        real, imaginary = torch.view_as_real(torch.fft.rfft(windowed, n=_FFT)).unbind(-1)
        power = real.square().addcmul_(imaginary, imaginary).flatten(0, 1)
        # Few rows take another matrix kernel, whose sums round differently: a clip's features would depend on how
        # many windows happen to be left for its last block.
        num_rows = len(power)
        energies = nn.functional.pad(power, (0, 0, 0, -num_rows % _ROW_MULTIPLE)) @ self.weights
        return energies[:num_rows].unflatten(0, frames.shape[:2])


def _reflect_edges(waveforms: Tensor, lens: Tensor) -> Tensor:
    """Continue each clip as its mirror image on both sides: (N, S) to (N, >= 120 + S + 200), a multiple of 80."""
    num_clips, num_samples = waveforms.shape
    width = math.ceil((_LEAD + num_samples + _TAIL) / _BLOCK) * _BLOCK
    signal = waveforms.new_zeros(num_clips, width)
    signal[:, _LEAD : _LEAD + num_samples] = waveforms
    lens = lens[:, None]
    lead = torch.arange(-_LEAD, 0, device=lens.device)
    signal[:, :_LEAD] = waveforms.gather(1, _mirror(lead.expand(num_clips, -1), lens))
    tail = lens + torch.arange(_TAIL, device=lens.device)
    return signal.scatter_(1, tail + _LEAD, waveforms.gather(1, _mirror(tail, lens)))


def _mirror(positions: Tensor, lens: Tensor) -> Tensor:
    lens = lens.clamp(min=1)
    positions = positions % (2 * lens)
    return torch.minimum(positions, 2 * lens - 1 - positions)


def read_audio(path: Path, start: float, duration: float) -> Tensor:
    """Read a stretch of a file as mono at 16 kHz, whatever its format, rate and number of channels.

    Args:
        path: a file that libsndfile reads.
        start: seconds into the file.
        duration: seconds.

    Returns:
        (S,) float32.

    Raises:
        ValueError: the audio is unreadable, too short or not finite; the message is the cause.
    """
    if not path.is_file():
        raise ValueError("no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(round(start * rate), file.frames))
            samples = file.read(round(duration * rate), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise ValueError(f"unreadable: {' '.join(str(error).split())}") from error
    if len(samples) == 0:
        raise ValueError("empty")
    if len(samples) < (duration - 0.1) * rate:
        raise ValueError(f"ends early: {len(samples) / rate:.2f} s of {duration:.2f} s")
    if not np.isfinite(samples).all():
        raise ValueError("NaN or infinite samples")
    return mono_at_16_khz(torch.from_numpy(samples), rate)


def mono_at_16_khz(samples: Tensor, rate: int) -> Tensor:
    """Average the channels of samples (S, channels) at `rate` Hz and resample them: (S',).

    Raises:
        ValueError: the rate shares no factor with 16 kHz.
    """
    waveform = samples.mean(dim=1)
    return waveform if rate == SAMPLING_RATE else _resampler(rate)(waveform)


@functools.lru_cache(maxsize=8)
def _resampler(rate: int) -> torchaudio.transforms.Resample:
    factor = math.gcd(rate, SAMPLING_RATE)
    if (rate // factor) * (SAMPLING_RATE // factor) > _MAX_RESAMPLING_KERNEL:
        raise ValueError(f"sampling rate {rate} Hz shares no factor with {SAMPLING_RATE} Hz")
    return torchaudio.transforms.Resample(rate, SAMPLING_RATE)


@dataclass
class StorageReport:
    """What one or all shards of a cutset hold."""

    num_cuts: int = 0
    num_seconds: float = 0.0
    num_computed: int = 0  # cuts whose features were computed now; the others lay there already
    skipped: list[dict[str, str]] = field(default_factory=list)


def store_fbank(cuts: Path, output_dir: Path, roots: dict[str, Path], shard_size: int, num_jobs: int) -> StorageReport:
    """Compute the features of a cutset and store them as Lhotse Shar; shards that are up to date are kept.

    Args:
        cuts: jsonl.gz of captioned cuts.
        output_dir: where the shards go; `skipped.jsonl` there lists what was left out, with its cause.
        roots: folder of each corpus that the recordings' paths are relative to.
        shard_size: cuts per shard.
        num_jobs: processes.

    Raises:
        UserError: the cutset is unreadable or its corpus unknown, the disk refuses, or nothing could be stored.
    """
    total = sum(1 for _ in read_jsonl(cuts))
    num_shards = math.ceil(total / shard_size)
    start_shards(output_dir, num_shards)
    jobs = DataLoader(
        _ShardJobs(cuts, output_dir, roots, shard_size), batch_size=None, num_workers=num_jobs if num_jobs > 1 else 0
    )
    summary = StorageReport()
    with tqdm(total=total, desc=output_dir.name, unit="cut") as progress:
        for report in jobs:
            if isinstance(report, UserError):
                raise report
            summary.num_cuts += report.num_cuts
            summary.num_seconds += report.num_seconds
            summary.num_computed += report.num_computed
            summary.skipped += report.skipped
            progress.update(report.num_cuts + len(report.skipped))
    summary.skipped.sort(key=lambda entry: entry["id"])
    if summary.num_cuts == 0:
        cause = f"the first of {total}: {summary.skipped[0]}" if summary.skipped else "it is empty"
        raise UserError(f"no cut of {cuts} could be stored; {cause}")
    finish_shards(output_dir, summary.skipped)
    return summary


class _ShardJobs(IterableDataset):
    """Worker w of W stores every W-th shard and yields its report, or the `UserError` that stopped it."""

    def __init__(self, cuts: Path, output_dir: Path, roots: dict[str, Path], shard_size: int) -> None:
        self.cuts, self.output_dir, self.roots, self.shard_size = cuts, output_dir, roots, shard_size

    def __iter__(self) -> Iterator[StorageReport | UserError]:
        worker = get_worker_info()
        worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        entries, number = read_jsonl(self.cuts), 0
        while shard := list(islice(entries, self.shard_size)):
            if number % num_workers == worker_id:
                try:
                    yield self._store(number, shard)
                except UserError as error:
                    yield error
            number += 1

    def _store(self, number: int, entries: list[CutDict]) -> StorageReport:
        cuts = [MonoCut.from_dict(entry) for entry in entries]
        paths = [self._path(cut) for cut in cuts]
        digest = sha256_text("\n".join([_CODE, json.dumps(entries), *map(_stamp, paths)]))
        if (stored := stored_shard(self.output_dir, number, digest)) is not None:
            return StorageReport(len(stored.num_frames), sum(stored.num_frames) / FRAME_RATE, 0, stored.skipped)
        fbank, report = Fbank(), StorageReport()
        with ShardWriter(self.output_dir, number) as writer:
            for cut, path in zip(cuts, paths, strict=True):
                if (parent := multiprocessing.parent_process()) is not None and not parent.is_alive():
                    sys.exit(1)  # killed: the next start must not meet a writer of this one
                try:
                    features = _cut_features(fbank, cut, path)
                except ValueError as cause:
                    report.skipped.append({"id": cut.id, "path": str(path), "reason": str(cause)})
                    continue
                writer.add(_stored_cut(cut, len(features)), features)
                report.num_cuts += 1
                report.num_seconds += len(features) / FRAME_RATE
            writer.finish(digest, report.skipped)
        report.num_computed = report.num_cuts
        return report

    def _path(self, cut: MonoCut) -> Path:
        corpus = (cut.custom or {}).get("corpus")
        root = self.roots.get(corpus)
        if root is None:
            known = ", ".join(sorted(self.roots)) or "none"
            raise UserError(
                f"{self.cuts}: cut {cut.id} is of corpus {corpus!r}, whose folder is not known; known: {known}"
            )
        if not root.is_dir():
            raise UserError(f"the folder {root} of corpus {corpus} is gone; run stage 0 again with its present place")
        return root / cut.recording.sources[0].source


def _stamp(path: Path) -> str:
    """Changes when a file is replaced, so that features are never those of another recording."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _cut_features(fbank: Fbank, cut: MonoCut, path: Path) -> np.ndarray:
    waveform = read_audio(path, cut.start, cut.duration)
    features, _ = fbank(waveform[None], torch.tensor([len(waveform)]))
    if features.shape[1] < MIN_FRAMES:
        raise ValueError(f"shorter than {MIN_FRAMES} frames: {len(waveform) / SAMPLING_RATE:.3f} s")
    return features[0].numpy()


def _stored_cut(cut: MonoCut, num_frames: int) -> MonoCut:
    """The cut with its features in place of its recording."""
    duration = num_frames / FRAME_RATE
    features = Features(
        type="kaldi-fbank", num_frames=num_frames, num_features=NUM_BINS, frame_shift=1 / FRAME_RATE,
        sampling_rate=SAMPLING_RATE, start=0, duration=duration, storage_type="shar", storage_path="", storage_key="",
    )  # fmt: skip
    return MonoCut(
        id=cut.id, start=0, duration=duration, channel=0, supervisions=cut.supervisions, features=features,
        custom=cut.custom,
    )  # fmt: skip
