# SPDX-License-Identifier: Apache-2.0
"""Any audio file becomes mono windows at 16 kHz; what cannot be used says why."""

import numpy as np
import pytest
import soundfile
import torch

from icefall_alp.data.recordings import clock, list_files, read_windows


def tone(seconds, rate, channels=1, hertz=440.0):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize(("name", "rate", "channels"), [("a.wav", 16000, 1), ("a.flac", 44100, 2), ("a.ogg", 22050, 1)])
def test_any_format_rate_and_number_of_channels_gives_the_same_sound(tmp_path, name, rate, channels):
    soundfile.write(tmp_path / name, tone(2.0, rate, channels), rate)
    (window,) = read_windows(tmp_path / name, 30.0)
    assert (window.start, window.end) == (0.0, pytest.approx(2.0, abs=0.01))
    expected = torch.from_numpy(tone(2.0, 16000)[:, 0])
    middle = slice(2000, 30000)  # resampling and compression change the edges
    torch.testing.assert_close(window.waveform[middle], expected[middle], atol=0.05, rtol=0)


def test_a_long_file_comes_in_windows_that_lie_end_to_end(tmp_path):
    samples = tone(7.3, 8000)[:, 0]
    samples[16000:32000] = 0.0  # seconds 2 to 4
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    windows = list(read_windows(tmp_path / "a.wav", 2.0))
    assert [(w.start, round(w.end, 2)) for w in windows] == [(0.0, 2.0), (4.0, 6.0), (6.0, 7.3)]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "no such file"),
        (b"", "empty file"),
        (b"this is a text, not a sound\n" * 9, "not readable as audio"),
        (np.zeros(16000), "silent"),
        (np.full(16000, 1e-6), "silent"),
        (np.zeros(0), "no samples in it"),
        (np.ones(900) / 2, "too short: 0.056 s"),
        (np.append(np.ones(16000) / 2, np.nan), "NaN or infinite"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path, content, cause):
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content.astype(np.float32), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=cause):
        list(read_windows(path, 30.0))


def test_folders_are_searched_and_hidden_files_are_not(tmp_path):
    for name in ("b.wav", "a/c.flac", ".hidden/d.wav", ".e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in list_files([tmp_path, tmp_path / "absent.wav"])]
    assert found == ["a/c.flac", "b.wav", "absent.wav"]


def test_times_are_written_as_people_read_them():
    assert [clock(seconds) for seconds in (0, 59.96, 123.5, 7325)] == ["0:00.0", "1:00.0", "2:03.5", "2:02:05.0"]
