# SPDX-License-Identifier: Apache-2.0
"""Unpacking archives that corpora publish: looked through as a whole before the first byte is written."""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from icefall_alp.utils.errors import UserError

_BLOCK = 1 << 20


def unpack(archive: Path, target: Path, md5: str = "") -> int:
    """Unpack a zip or tar archive (also .tar.gz, .tar.bz2, .tar.xz) below a folder.

    Args:
        archive: the file; parts such as `mp3.zip.001` have to be joined first.
        target: the folder, made if need be.
        md5: hexadecimal check sum that the publishers name; empty for none.

    Returns:
        How many files were unpacked.

    Raises:
        UserError: no such file, another check sum, a damaged archive, or a member that is a link, a device, or would
            lie outside the target; then nothing has been written.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive")
    if md5 and (found := _md5(archive)) != md5.lower():
        raise UserError(f"{archive}: its MD5 sum is {found}, not {md5}; download it again")
    try:
        if zipfile.is_zipfile(archive):
            return _unpack_zip(archive, target)
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                if not member.isreg() and not member.isdir():
                    raise UserError(f"{archive}: {member.name!r} is a link or a device; nothing was unpacked")
            _check_names(archive, (member.name for member in members))
            files = [member for member in members if member.isreg()]
            for member in files:  # `extractall` is safe from Python 3.11.4 on only
                _write(tar.extractfile(member), target / member.name)
            return len(files)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise UserError(f"{archive}: cannot be unpacked ({error}); download it again") from error


def _unpack_zip(archive: Path, target: Path) -> int:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive}: {member.filename!r} is a link or a device; nothing was unpacked")
        _check_names(archive, (member.filename for member in members))
        files = [member for member in members if not member.is_dir()]
        for member in files:
            _write(file.open(member), target / member.filename)
        return len(files)


def _write(source: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with source, path.open("wb") as sink:
        shutil.copyfileobj(source, sink, _BLOCK)


def _check_names(archive: Path, names: Iterable[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in name or path.parts[:1] == ("~",) or ":" in name[:2]:
            raise UserError(f"{archive}: {name!r} would lie outside the folder; nothing was unpacked")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
