# SPDX-License-Identifier: Apache-2.0
"""Old content or new content, never something between."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from icefall_alp.utils.atomic_io import (
    atomic_folder,
    atomic_write_bytes,
    atomic_write_text,
    one_at_a_time,
    remove_folder,
    remove_leftovers,
)
from icefall_alp.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_file_is_replaced_and_keeps_ordinary_permissions(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    atomic_write_text(path, "één")
    atomic_write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    reference = tmp_path / "reference"
    reference.touch()
    assert path.stat().st_mode == reference.stat().st_mode
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_failing_disk_leaves_the_old_file_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    atomic_write_text(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"file.txt: No space left on device"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_appears_complete_and_replaces_the_one_before(tmp_path):
    target = tmp_path / "deep" / "folder"
    for text in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / text).write_text(text)
            assert not (target / "inner" / text).exists()
    assert [path.name for path in target.rglob("*")] == ["inner", "second"]
    assert [entry.name for entry in target.parent.iterdir()] == ["folder"]


def test_everything_is_on_the_disk_before_a_folder_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sync", lambda: calls.append(("sync", (tmp_path / "many").exists())))
    with atomic_folder(tmp_path / "many") as temporary:
        for number in range(1000):
            (temporary / str(number)).touch()
    assert calls == [("sync", False)], "one by one takes minutes"
    fsync = os.fsync
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").readlink().name), fsync(fd)))
    with atomic_folder(tmp_path / "few") as temporary:
        (temporary / "one").touch()
    assert synced == ["one", temporary.name, tmp_path.name]


@pytest.mark.parametrize("error, seen", [(RuntimeError("stop"), RuntimeError), (OSError(28, "full"), UserError)])
def test_a_failing_body_leaves_the_old_folder(tmp_path, error, seen):
    target = tmp_path / "folder"
    with atomic_folder(target) as temporary:
        (temporary / "old").touch()
    with pytest.raises(seen), atomic_folder(target) as temporary:
        (temporary / "new").touch()
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]


def test_leftovers_of_killed_writers_are_named_and_deleted(tmp_path):
    (tmp_path / ".step_3.new.tmp-77").mkdir()
    (tmp_path / ".step_3.new.tmp-77" / "part").touch()
    (tmp_path / ".file.new.tmp-78").touch()
    (tmp_path / ".hidden").touch()
    assert remove_leftovers(tmp_path) == [".file.new.tmp-78", ".step_3.new.tmp-77"]
    assert [entry.name for entry in tmp_path.iterdir()] == [".hidden"]
    assert remove_leftovers(tmp_path / "absent") == []


def test_a_folder_is_removed_whole(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    remove_folder(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


WAITER = (
    "import sys; from pathlib import Path; from icefall_alp.utils.atomic_io import one_at_a_time\n"
    "print('asks', flush=True)\nwith one_at_a_time(Path(sys.argv[1])): print('enters', flush=True)"
)


def test_another_process_waits_its_turn(tmp_path):
    command = [sys.executable, "-c", WAITER, str(tmp_path / "made")]
    with one_at_a_time(tmp_path / "made"):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert other.stdout.readline() == "asks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)
    assert other.communicate(timeout=60)[0] == "enters\n" and other.returncode == 0
