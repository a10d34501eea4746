# SPDX-License-Identifier: Apache-2.0
"""Encoder seconds of probing: one pass for all heads, against one pass per step and head."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from lhotse import Features, MonoCut, SupervisionSegment
from torch import Tensor, nn

from benchmarks.timing import report, take_turns
from icefall_alp.config import LinearProbeConfig
from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.data.fbank import FRAME_RATE, NUM_BINS
from icefall_alp.data.shards import FeatureShards, ShardWriter, finish_shards
from icefall_alp.evaluation.encoders import FrozenEncoder
from icefall_alp.evaluation.linear_probe import score
from icefall_alp.models import AudioEncoder

NUM_CLASSES = 10
SMALL = ZipformerConfig(
    frontend_channels=(4, 8, 16), num_encoder_layers=(1,) * 6, encoder_dim=(48, 64, 96, 128, 96, 64),
    feedforward_dim=(96, 128, 192, 256, 192, 128), encoder_unmasked_dim=(48, 48, 64, 64, 64, 48),
    num_heads=(2, 2, 4, 4, 4, 2), query_head_dim=16, value_head_dim=12, pos_dim=32,
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much is probed."""
    parser.add_argument("--preset", help="a preset of the encoder, as zipformer_m; by default the embedded run's sizes")
    parser.add_argument("--clips", type=int, default=200, help="training clips per task (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="per clip (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=6, help="tasks (default: %(default)s)")
    parser.add_argument("--rates", type=int, default=8, help="learning rates (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="updates of every head (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="clips (default: %(default)s)")


class Timed(nn.Module):
    """An encoder that counts its seconds and calls."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        self.encoder, self.output_dim, self.min_frames = encoder, encoder.output_dim, encoder.min_frames
        self.seconds, self.calls = 0.0, 0

    def forward(self, features: Tensor, feature_lens: Tensor) -> tuple[Tensor, Tensor]:
        """As the encoder."""
        begin = time.perf_counter()
        frames, lens = self.encoder(features, feature_lens)
        if frames.device.type != "cpu":
            torch.accelerator.synchronize(frames.device)
        self.seconds += time.perf_counter() - begin
        self.calls += 1
        return frames, lens


def run(arguments: argparse.Namespace) -> None:
    """Probe made-up tasks by this project's protocol; then time one encoder pass per step and head for a batch.

    The baseline is every step of every head, with one seed per rate, running the encoder on its batch of clips. That is
    timed batch by batch and multiplied by the number of steps and heads, which it would take hours to run.
    """
    os.environ["ALP_DEVICE"] = arguments.device.type  # where the protocol works
    os.environ["LOCAL_RANK"] = str(arguments.device.index or 0)
    sizes = ZipformerConfig.presets()[arguments.preset] if arguments.preset else SMALL
    torch.manual_seed(0)
    timed = Timed(AudioEncoder(sizes).eval().requires_grad_(False))
    encoder = FrozenEncoder("benchmark", timed, "benchmark")
    config = LinearProbeConfig(
        multi_label=False, metric="accuracy", batch_size=arguments.batch_size, num_steps=arguments.steps,
        learning_rates=tuple(np.geomspace(1e-3, 3e-2, arguments.rates).tolist()), max_duration=100.0, valid_share=0.1,
    )  # fmt: skip
    heads = arguments.tasks * len(config.poolings) * arguments.rates
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        for task in range(arguments.tasks):
            _probe_task(encoder, config, Path(folder) / str(task), arguments)
        whole, ours = time.perf_counter() - begin, timed.seconds
        train = FeatureShards(Path(folder) / "0" / "train")
        batch = torch.from_numpy(np.stack([train.features(i) for i in range(min(len(train), arguments.batch_size))]))
    batch, lens = batch.to(arguments.device), torch.full((len(batch),), batch.shape[1])
    timed.to(arguments.device)

    def one_step() -> None:
        with torch.no_grad():
            timed(batch, lens.to(arguments.device))

    times = take_turns({"encoder, one batch": one_step}, arguments.device, arguments.rounds, repeats=1)
    report(times, "encoder, one batch")
    step = float(np.median(times["encoder, one batch"]))
    passes = arguments.steps * heads
    baseline = step * passes
    print(
        f"{arguments.tasks} tasks x {len(config.poolings)} poolings x {arguments.rates} rates, {arguments.steps} steps:"
    )
    print(f"one pass per step and head {baseline:,.1f} s of the encoder: seconds of a step, times {passes:,}")
    print(f"ours {ours:.2f} s of the encoder, {whole:.1f} s with all {config.num_seeds * heads} heads (5 seeds each)")
    print(f"ratio of encoder seconds {baseline / ours:,.0f}")


def _probe_task(encoder: FrozenEncoder, config: LinearProbeConfig, folder: Path, arguments: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    counts = {"train": arguments.clips, "test": max(2, arguments.clips // 4)}
    for name, count in counts.items():
        _write_clips(folder / name, name, count, round(arguments.seconds * FRAME_RATE), rng)
    (folder / "classes.txt").write_text("\n".join(map(str, range(NUM_CLASSES))), encoding="utf-8")
    paths = {"train_cuts": folder / "train", "test_cuts": folder / "test", "class_list": folder / "classes.txt"}
    own = LinearProbeConfig(**{**vars(config), **{name: str(path) for name, path in paths.items()}})
    list(score(encoder, own, folder, own.poolings))


def _write_clips(folder: Path, name: str, count: int, num_frames: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    seconds = num_frames / FRAME_RATE
    with ShardWriter(folder, 0) as writer:
        for i in range(count):
            features = Features(
                type="kaldi-fbank", num_frames=num_frames, num_features=NUM_BINS, frame_shift=1 / FRAME_RATE,
                sampling_rate=16000, start=0, duration=seconds, storage_type="shar", storage_path="", storage_key="",
            )  # fmt: skip
            cut_id = f"{name}:{i}"
            custom = {"labels": [str(i % NUM_CLASSES)]}
            supervision = SupervisionSegment(cut_id, cut_id, 0, seconds, custom=custom)
            cut = MonoCut(cut_id, 0, seconds, 0, supervisions=[supervision], features=features)
            writer.add(cut, rng.normal(size=(num_frames, NUM_BINS)).astype(np.float32))
        writer.finish("made up", [])
    finish_shards(folder, [])
