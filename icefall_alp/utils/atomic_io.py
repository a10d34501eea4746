# SPDX-License-Identifier: Apache-2.0
"""Files and folders that are either complete or absent.

Everything is written beside its target under a temporary name, synced to the disk and renamed. A job killed at any
moment leaves the old content or the new one, and perhaps a leftover that `remove_leftovers` names and deletes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icefall_alp.utils.errors import UserError

_MARK = ".tmp-"
_MANY = 256  # files that are synced together instead of one by one


def _temporary(path: Path, role: str = "new") -> Path:
    return path.with_name(f".{path.name}.{role}{_MARK}{os.getpid()}")


def _sync_all(entries: list[Path]) -> None:
    """Wait until files and folders are on the disk: thousands one by one take minutes, together seconds."""
    if len(entries) > _MANY:
        os.sync()
    else:
        for entry in entries:
            _sync(entry)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of a file in one move.

    Args:
        path: the file; its folder is made when missing.
        data: the new content.

    Raises:
        UserError: the disk refused; the old file is untouched.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; what was there before is unchanged") from error


def atomic_write_text(path: Path, text: str) -> None:
    """Replace the content of a file by UTF-8 text in one move, as `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that appears under its name only when it is complete.

    Args:
        path: the folder to make; one that exists is replaced at the end. Parents are made.

    Yields:
        The temporary folder to write into. If the body fails it is deleted and `path` is untouched.

    Raises:
        UserError: the disk refused.
    """
    path = Path(path)
    temporary, previous = _temporary(path), _temporary(path, "old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync_all([*temporary.rglob("*"), temporary])
        if path.exists():
            path.rename(previous)
        temporary.rename(path)
        _sync(path.parent)
        shutil.rmtree(previous, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot complete folder {path}: {error}; what was there before is unchanged") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder so that a job killed meanwhile leaves it whole or gone, never in part."""
    doomed = _temporary(Path(path), "old")
    Path(path).rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> list[str]:
    """Delete what killed writers left in `folder` (call it only where no one else is writing).

    Returns:
        The names deleted.
    """
    leftovers = sorted(entry for entry in Path(folder).glob(f".*{_MARK}*"))
    for entry in leftovers:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return [entry.name for entry in leftovers]


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock that belongs to `path`; another process of this machine waits here until it is released.

    Args:
        path: what only one may make at a time; the lock is the file `.<name>.lock` beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
