# SPDX-License-Identifier: Apache-2.0
"""What Lhotse must know about a clip whose features or audio lie in a shard."""

from __future__ import annotations

from lhotse import AudioSource, Features, MonoCut, Recording

from icefall_alp.data.fbank import FRAME_RATE, SAMPLING_RATE


def features_manifest(num_frames: int, num_features: int) -> Features:
    """Of the features (T, F) of a whole clip."""
    return Features(
        type="kaldi-fbank", num_frames=num_frames, num_features=num_features, frame_shift=1 / FRAME_RATE,
        sampling_rate=SAMPLING_RATE, start=0, duration=num_frames / FRAME_RATE, storage_type="shar", storage_path="",
        storage_key="",
    )  # fmt: skip


def recording_manifest(name: str, num_samples: int) -> Recording:
    """Of the audio of a whole clip."""
    source = AudioSource(type="shar", channels=[0], source="")
    return Recording(name, [source], SAMPLING_RATE, num_samples, num_samples / SAMPLING_RATE)


def stored_cut(cut: MonoCut, manifest: Features | Recording) -> MonoCut:
    """The cut with what is stored in place of its recording."""
    return MonoCut(
        id=cut.id, start=0, duration=manifest.duration, channel=0, supervisions=cut.supervisions,
        features=manifest if isinstance(manifest, Features) else None,
        recording=manifest if isinstance(manifest, Recording) else None, custom=cut.custom,
    )  # fmt: skip
