# SPDX-License-Identifier: Apache-2.0
"""Files of an audio encoder: this library's folders, icefall's checkpoints and Auden's folders.

All three use the same parameter names. Nothing in a file is executed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from icefall_alp.config.loader import config_from_dict, read_yaml, save_config
from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models.zipformer.infer_config import SETTINGS, differences, infer_config, plain_setting
from icefall_alp.utils.atomic_io import atomic_folder
from icefall_alp.utils.digests import sha256_file
from icefall_alp.utils.errors import UserError

CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "model.safetensors"
DIGEST_FILE = "model.safetensors.sha256"  # as `sha256sum` writes it: safetensors itself notices no flipped bit
NAMES_SHOWN = 10


def write_encoder(folder: Path, config: ZipformerConfig, state: dict[str, Tensor]) -> None:
    """Write `config.yaml`, `model.safetensors` and its digest; the folder appears complete or not at all."""
    with atomic_folder(folder) as temporary:
        save_config(config, temporary / CONFIG_FILE)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        save_file(state, temporary / WEIGHTS_FILE)
        digest = sha256_file(temporary / WEIGHTS_FILE)
        (temporary / DIGEST_FILE).write_text(f"{digest}  {WEIGHTS_FILE}\n", encoding="utf-8")


def read_encoder(path: Path, settings: dict[str, Any]) -> tuple[ZipformerConfig, dict[str, Tensor]]:
    """Configuration and parameters from any of the three kinds of files; see `AudioEncoder.load`.

    Args:
        path: a folder or a file.
        settings: fields of the configuration that outrank those in the files.

    Raises:
        UserError: unreadable or damaged files, or an unknown setting.
        ValueError: settings that do not fit each other.
    """
    if (path / CONFIG_FILE).is_file():
        return _read_own_folder(path, settings)
    if path.is_dir():
        return _read_auden_folder(path, settings)
    state = _encoder_part(read_tensors(path))
    return infer_config(state, **settings), state


def read_tensors(path: Path) -> dict[str, Any]:
    """Content of a .safetensors or PyTorch file; nothing in it is executed."""
    if not path.is_file():
        raise UserError(f"no file {path.name}" if path.parent.is_dir() else f"no folder {path.parent}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([pathlib.PosixPath]):  # icefall's checkpoints hold its options
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the readers fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path.name} is damaged, or holds more than tensors and plain values: {reason}") from error


def check_names(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Refuse parameters of other names or shapes than are wanted.

    Raises:
        UserError: lists the first of each kind.
    """
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": shapes,
    }
    lines = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
    if lines:
        raise UserError(f"parameters do not fit the encoder: {'; '.join(lines)}")


def _read_own_folder(path: Path, settings: dict[str, Any]) -> tuple[ZipformerConfig, dict[str, Tensor]]:
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise UserError(f"unknown setting {', '.join(unknown)}; known are {', '.join(SETTINGS)}")
    config = config_from_dict(ZipformerConfig, read_yaml(path / CONFIG_FILE))
    config = dataclasses.replace(config, **settings)
    _check_digest(path)
    return config, read_tensors(path / WEIGHTS_FILE)


def _check_digest(folder: Path) -> None:
    """Refuse weights that are not those `write_encoder` wrote."""
    if (folder / DIGEST_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
        wanted = (folder / DIGEST_FILE).read_text(encoding="utf-8", errors="replace").split()[:1]
        if wanted != [sha256_file(folder / WEIGHTS_FILE)]:
            raise UserError(f"{WEIGHTS_FILE} does not match its digest: it is damaged; export the encoder again")


def _read_auden_folder(path: Path, settings: dict[str, Any]) -> tuple[ZipformerConfig, dict[str, Tensor]]:
    try:
        declared = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"no readable {CONFIG_FILE} or config.json ({error})") from error
    if not isinstance(declared, dict):
        raise UserError("config.json is not a mapping")
    weights = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.pt"))
    if len(weights) != 1:
        raise UserError(f"expected one .safetensors or .pt file, found {[file.name for file in weights]}")
    state = _encoder_part(read_tensors(weights[0]))
    declared = {name: plain_setting(name, value) for name, value in declared.items()} | settings
    config = infer_config(state, **{name: declared[name] for name in SETTINGS if name in declared})
    wrong = differences(config, declared)
    if wrong:
        raise UserError(f"config.json does not fit {weights[0].name}: {'; '.join(wrong)}")
    return config, state


def _encoder_part(content: Any) -> dict[str, Tensor]:
    """Parameters of the encoder under this library's names."""
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError('expected a state dict, or {"model": state dict}')
    content = {name: tensor for name, tensor in content.items() if not name.startswith("classifier.")}
    if any(name.startswith("encoder.encoder_embed.") for name in content):  # a tagging model of Auden
        content = {name.removeprefix("encoder."): tensor for name, tensor in content.items()}
    content.pop("model_batch_count", None)  # Auden's own clock
    return content


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
