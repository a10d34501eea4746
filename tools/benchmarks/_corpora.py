# SPDX-License-Identifier: Apache-2.0
"""Made-up corpora that benchmarks share: durations in the paper's mix, and shards with noise in them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
from lhotse import MonoCut, SupervisionSegment

from icefall_alp.data.shards import AUDIO, CLIP, FBANK, ShardWriter, finish_shards, start_shards
from icefall_alp.utils.digests import word_sum

PAPER_CLIPS = 9_300_000


def paper_durations(num_clips: int) -> np.ndarray:
    """Seconds: three clips of four have ten, the rest is speech and music of 1 to 60 (mean 14.4 s in the paper)."""
    generator = np.random.default_rng(0)
    num_others = num_clips // 4
    others = np.clip(generator.lognormal(np.log(14.0), 0.8, size=num_others), 1.0, 60.0)
    durations = np.concatenate([np.full(num_clips - num_others, 10.0), np.round(others, 2)])
    return generator.permutation(durations)


def write_noise(folder: Path, durations: np.ndarray, kind: str, shard_size: int = 200) -> None:
    """Store noise as features or audio, with a caption each."""
    generator = np.random.default_rng(1)
    parts = np.split(np.arange(len(durations)), np.arange(shard_size, len(durations), shard_size))
    start_shards(folder, len(parts))
    for number, part in enumerate(parts):
        with ShardWriter(folder, number, kind) as writer:
            for clip in part:
                shape = (int(durations[clip] * 16000),) if kind == AUDIO else (int(durations[clip] * 100), 80)
                writer.add(_cut(int(clip), float(durations[clip])), generator.normal(0, 0.05, shape).astype(np.float32))
            writer.finish("benchmark", [])
    finish_shards(folder, [])


def write_index(folder: Path, durations: np.ndarray, shard_size: int = 1000) -> None:
    """Shards of silence that take no room: all that a run reads before its first batch, and that batch, are there.

    The data are holes in files of the right size, and all clips of a shard share the description of one.
    """
    folder, num_shards = Path(folder), -(-len(durations) // shard_size)
    clips = np.zeros(len(durations), dtype=CLIP)  # the sum of nothing but zeros is zero
    clips["num_frames"] = np.rint(durations * 100)
    clips["shard"] = np.arange(len(durations)) // shard_size
    clips["size"] = clips["num_frames"].astype(np.int64) * 320
    starts = np.cumsum(clips["size"]) - clips["size"]
    clips["offset"] = starts - starts[clips["shard"] * shard_size]
    sizes = np.add.reduceat(clips["size"], np.arange(0, len(durations), shard_size)).tolist()
    description = gzip.compress(json.dumps(_cut(0, 10.0).to_dict()).encode(), mtime=0)
    clips["cut_size"] = len(description)
    for number, size in enumerate(sizes):
        (folder / f"cuts.{number:06d}.jsonl.gz").write_bytes(description)
        (folder / f"features.{number:06d}.tar").touch()
        os.truncate(folder / f"features.{number:06d}.tar", size)
    np.save(folder / "clips.npy", clips, allow_pickle=False)
    about = {"kind": FBANK, "num_features": 80, "sources": ["toy"], "digests": ["benchmark"] * num_shards}
    about |= {"tar_bytes": sizes, "cuts_bytes": [len(description)] * num_shards}
    about["checksum"] = word_sum(clips.view(np.uint8))
    (folder / "clips.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "skipped.jsonl").touch()


def _cut(number: int, duration: float) -> MonoCut:
    name = f"toy:{number}"
    custom = {"captions": [{"text": f"noise number {number}", "source": "toy"}]}
    supervision = SupervisionSegment(name, name, 0, duration, custom=custom)
    return MonoCut(name, 0, duration, 0, supervisions=[supervision], custom={"corpus": "toy"})
