# SPDX-License-Identifier: Apache-2.0
"""Tensors on disk that are never mistaken for others: `<folder>/<name>_<first digits of the key>/tensors.safetensors`.

The key is a digest of everything the tensors were made from. The file holds the whole key and a digest of its content,
so that a renamed, truncated or flipped one is refused; what other keys have left under the same name is deleted.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from icefall_alp.utils.atomic_io import atomic_folder, remove_folder

FILE = "tensors.safetensors"
_DIGITS = 16


def cache_path(folder: Path, name: str, key: str) -> Path:
    """Where the tensors of that name and key are kept."""
    return folder / f"{name}_{key[:_DIGITS]}" / FILE


def read_cache(folder: Path, name: str, key: str) -> dict[str, Tensor] | None:
    """The tensors kept under name and key, or None where there are none that can be trusted.

    Args:
        folder: Of the caches.
        name: Of what was computed, without its digest.
        key: Digest of weights, features, clips and code.

    Returns:
        The tensors. A file that is not what its name says is named in a line on standard output and not used.
    """
    _delete_other_keys(folder, name, key)
    path = cache_path(folder, name, key)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {entry: file.get_tensor(entry) for entry in file.keys()}  # noqa: SIM118 (no dictionary)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = f"damaged ({error})"
    else:
        if metadata.get("key") != key:
            reason = "made from another encoder, set or code"
        elif metadata.get("content") != _content_digest(tensors):
            reason = "damaged (its content does not match its digest)"
        else:
            return tensors
    print(f"not used: {path}: {reason}; it is computed again", flush=True)
    return None


def write_cache(folder: Path, name: str, key: str, tensors: dict[str, Tensor]) -> None:
    """Keep tensors under name and key; they appear complete or not at all."""
    path = cache_path(folder, name, key)
    metadata = {"key": key, "content": _content_digest(tensors)}
    with atomic_folder(path.parent) as temporary:
        save_file({entry: tensor.contiguous() for entry, tensor in tensors.items()}, temporary / FILE, metadata)


def _delete_other_keys(folder: Path, name: str, key: str) -> None:
    """A run has one encoder: what was made under another key can never be asked for again."""
    for entry in folder.glob(f"{name}_*"):
        digits = entry.name.removeprefix(f"{name}_")
        if entry.is_dir() and re.fullmatch(f"[0-9a-f]{{{_DIGITS}}}", digits) and digits != key[:_DIGITS]:
            print(f"deleted: {entry}: made from another encoder, set or code", flush=True)
            with suppress(FileNotFoundError):  # another process of this run was quicker
                remove_folder(entry)


def _content_digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for entry in sorted(tensors):
        tensor = tensors[entry].contiguous()
        digest.update(f"{entry} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.view(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
