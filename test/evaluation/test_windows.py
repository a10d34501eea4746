# SPDX-License-Identifier: Apache-2.0
"""Windows of usable files, in batches of bounded length."""

from __future__ import annotations

import numpy as np
import soundfile
import torch

from icefall_alp.data.recordings import list_files
from icefall_alp.evaluation import windows


def loudness(batch):
    return torch.stack([window.waveform.square().mean()[None] for window in batch])


def test_batches_hold_every_window_and_no_more_audio_than_allowed(recordings):
    own = list(windows.usable_windows(list_files([recordings]), 2.0))
    found = list(windows.batches(own, 5.0))
    assert [w for batch in found for w in batch] == [w for listed in own for w in listed]
    assert all(max(len(w.waveform) for w in batch) * len(batch) <= 5.0 * 16000 for batch in found)
    assert len(found) < len([w for listed in own for w in listed])


def test_what_is_not_finite_ends_a_file_and_leaves_the_others_alone(recordings, capfd):
    soundfile.write(recordings / "later.wav", np.random.default_rng(2).normal(size=4 * 16000) * 0.1, 16000)
    files = [recordings / name for name in ("a.wav", "later.wav", "e.wav")]

    def encode(batch):
        bad = torch.tensor([w.path.name == "later.wav" and w.start == 2 for w in batch])
        return (loudness(batch).masked_fill(bad[:, None], torch.inf),)

    ((kept, (vectors,)),) = windows.encoded_windows(files, 1.0, encode)
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith(f"skipped from 0:02.0 on: {recordings / 'later.wav'}: what is")
    found = [(w.path.name, w.start) for w in kept]
    assert found == [("a.wav", 0), ("later.wav", 0), ("later.wav", 1), ("e.wav", 0), ("e.wav", 1), ("e.wav", 2)]
    torch.testing.assert_close(vectors, loudness(kept))


def test_a_file_of_hours_gets_one_line_and_bounded_batches(recordings, monkeypatch, capfd):
    monkeypatch.setattr(windows, "BATCH_SECONDS", 4.0)
    own = list(windows.usable_windows([recordings / "d d.wav"], 1.0))
    assert [len(listed) for listed in own] == [4, 3]
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1 and "long, 7 windows of 1 s" in errors[0]
