# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of files and strings, in hexadecimal: how a changed input or a damaged file is noticed. And a quick sum."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np


def sha256_file(path: Path) -> str:
    """Digest of a file's content (64 hexadecimal digits)."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def library_digest() -> str:
    """Digest of this library's source: what was computed by other code is not taken for the same."""
    root = Path(__file__).parents[1]
    return sha256_text("".join(sha256_file(path) for path in sorted(root.rglob("*.py"))))


def sha256_text(text: str) -> str:
    """Digest of a string's UTF-8 bytes (64 hexadecimal digits)."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def word_sum(data: bytes | np.ndarray) -> int:
    """Sum of the 64-bit words of some bytes (or uint8), modulo 2**64, at the speed of the memory.

    A digest would take longer than all the rest of reading a clip. This notices flipped bits, holes and other content,
    not words in another order.
    """
    whole = len(data) - len(data) % 8
    words = np.frombuffer(data, dtype="<u8", count=whole // 8)
    return (int(words.sum(dtype=np.uint64)) + int.from_bytes(data[whole:], "little")) % 2**64


def sha256_file_once(path: Path) -> str:
    """As `sha256_file`, for large files that are asked for again: read anew only when size or time have changed."""
    status = Path(path).stat()
    return _digest_of_state(Path(path).resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _digest_of_state(path: Path, size: int, time_ns: int) -> str:
    return sha256_file(path)


def folder_digest(folder: Path) -> str:
    """Digest of a folder: names and contents of all files directly in it (64 hexadecimal digits)."""
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    return sha256_text("\n".join(f"{path.name} {sha256_file_once(path)}" for path in files))
