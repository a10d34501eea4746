# SPDX-License-Identifier: Apache-2.0
"""Stored shards without audio: random features with captions and labels."""

import numpy as np
import pytest
from lhotse import Features, MonoCut, SupervisionSegment

from icefall_alp.data.shards import ShardWriter, finish_shards, start_shards


def stored_cut(name, num_frames, captions=("first", "second", "third"), labels=("dog",)):
    duration = num_frames / 100
    features = Features(
        type="kaldi-fbank", num_frames=num_frames, num_features=80, frame_shift=0.01, sampling_rate=16000, start=0,
        duration=duration, storage_type="shar", storage_path="", storage_key="",
    )  # fmt: skip
    custom = {"domain": "sound", "captions": [{"text": f"{name} {text}", "source": "toy"} for text in captions]}
    custom["labels"] = list(labels)
    supervision = SupervisionSegment(id=name, recording_id=name, start=0, duration=duration, custom=custom)
    return MonoCut(
        id=name, start=0, duration=duration, channel=0, supervisions=[supervision], features=features,
        custom={"corpus": "toy"},
    )  # fmt: skip


@pytest.fixture
def store(tmp_path):
    """Write cuts into shards of four; returns the folder and the features."""

    def write(cuts, folder=tmp_path / "shards"):
        generator = np.random.default_rng(0)
        shards = [cuts[start : start + 4] for start in range(0, len(cuts), 4)]
        start_shards(folder, len(shards))
        clips = []
        for number, shard in enumerate(shards):
            with ShardWriter(folder, number) as writer:
                for cut in shard:
                    clips.append(generator.normal(size=(cut.features.num_frames, 80)).astype(np.float16))
                    writer.add(cut, clips[-1])
                writer.finish("digest", [])
        finish_shards(folder, [])
        return folder, clips

    return write


@pytest.fixture
def cuts():
    """Ten cuts of 20 to 200 frames; ids as corpora have them."""
    lengths = [20, 130, 40, 200, 77, 50, 160, 33, 90, 120]
    return [stored_cut(f"yt:-_{number}bcdéfgh:{number}000", length) for number, length in enumerate(lengths)]
