# SPDX-License-Identifier: Apache-2.0
"""Any audio file becomes mono windows at 16 kHz; what cannot be used says why."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from icefall_alp.data.recordings import UnusableError, clock, list_files, read_windows, shown


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
        (np.append(np.ones(16000) / 2, -1e21), r"samples up to 1.0e\+21 instead of 1"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path, content, cause):
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content.astype(np.float32), 16000, subtype="FLOAT")
    with pytest.raises(UnusableError, match=cause):
        list(read_windows(path, 30.0))


def test_channels_that_cancel_are_not_called_silence(tmp_path):
    left = tone(1.0, 16000)
    soundfile.write(tmp_path / "a.wav", np.concatenate([left, -left], axis=1), 16000)
    with pytest.raises(UnusableError, match="silent as mono: its channels cancel each other"):
        list(read_windows(tmp_path / "a.wav", 30.0))


def test_a_file_that_turns_bad_says_from_when_on_silence_counted(tmp_path):
    samples = tone(8.0, 8000)[:, 0]
    samples[16000:32000] = 0.0  # seconds 2 to 4
    samples[50000] = np.nan  # after second 6
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    windows = read_windows(tmp_path / "a.wav", 2.0)
    assert [next(windows).start, next(windows).start] == [0.0, 4.0]
    with pytest.raises(UnusableError, match="NaN or infinite") as error:
        next(windows)
    assert error.value.start == 6.0


def test_a_link_to_nothing_and_one_to_itself_say_so(tmp_path):
    (tmp_path / "gone.wav").symlink_to(tmp_path / "absent.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name in ("gone.wav", "loop.wav"):
        with pytest.raises(UnusableError, match="a link to a file that is not there"):
            list(read_windows(tmp_path / name, 30.0))


def test_a_name_in_any_encoding_is_read_and_shown_in_one_line(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\nfond\tu \xc3\xa9.wav"))
    path.write_bytes(b"")
    with pytest.raises(UnusableError, match="empty file"):
        list(read_windows(path, 30.0))
    soundfile.write(os.fsencode(path), tone(1.0, 16000), 16000)
    assert len(list(read_windows(path, 30.0))) == 1
    assert shown(path.name) == r"caf\xe9\nfond\tu é.wav"


def test_folders_are_searched_and_hidden_files_are_not(tmp_path):
    for name in ("b.wav", "a/c.flac", ".hidden/d.wav", ".e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in list_files([tmp_path, tmp_path / "absent.wav"])]
    assert found == ["a/c.flac", "b.wav", "absent.wav"]


def test_a_file_that_is_named_twice_is_listed_once(tmp_path, monkeypatch):
    (tmp_path / "a.wav").touch()
    monkeypatch.chdir(tmp_path)
    assert list_files([tmp_path, tmp_path / "a.wav", Path("a.wav"), tmp_path]) == [tmp_path / "a.wav"]


def test_times_are_written_as_people_read_them():
    assert [clock(seconds) for seconds in (0, 59.96, 123.5, 7325)] == ["0:00.0", "1:00.0", "2:03.5", "2:02:05.0"]
