# SPDX-License-Identifier: Apache-2.0
"""Waveforms come from the files that the manifest names."""

from __future__ import annotations

import pytest

from icefall_alp.evaluation.waveforms import WaveformClips
from icefall_alp.utils.errors import UserError


def test_missing_manifest_and_audio_are_named(stored, tmp_path):
    clips = WaveformClips(stored)
    (tmp_path / "toy/1.wav").unlink()
    with pytest.raises(UserError, match=r"1\.wav: no such file"):
        clips.features(1)
    (tmp_path / "data/manifests/toy_test_cuts.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"no toy_test_cuts\.jsonl\.gz below it"):
        WaveformClips(stored)
