# SPDX-License-Identifier: Apache-2.0
"""YAML files and `--set key=value`, merged from left to right into a frozen dataclass. Unknown is an error.

A mapping whose dataclass offers `presets()` may start from one by name: `audio_encoder: {preset: zipformer_m}`.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError

Config = TypeVar("Config")
Mapping = dict[str, Any]


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, which by itself would let the last of two equal keys win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Mapping:
        keys = [key.value for key, _ in node.value]
        twice = [key for key, _ in node.value if keys.count(key.value) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[-1].value} is there twice", twice[-1].start_mark
            )
        return super().construct_mapping(node, deep)


def load_config(cls: type[Config], paths: typing.Sequence[str | Path], overrides: typing.Sequence[str] = ()) -> Config:
    """Build `cls` from YAML files and overrides such as `optim.base_lr=0.03`, later ones winning.

    Raises:
        UserError: a missing file, bad YAML, an unknown key or a wrong type; the message names the path of the key.
    """
    merged: Mapping = {}
    for path in paths:
        _merge(merged, read_yaml(path))
    for override in overrides:
        _merge(merged, _parse_override(override))
    return config_from_dict(cls, merged)


def overridden_keys(overrides: typing.Sequence[str]) -> list[str]:
    """The dotted keys that overrides such as `optim.base_lr=0.03` name."""
    return [override.partition("=")[0].strip() for override in overrides]


def read_yaml(path: str | Path) -> Mapping:
    """Read one YAML mapping. Raises UserError with the file and line when it is not one."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as configuration ({_reason(error)}){_siblings(path)}") from error
    try:
        content = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def config_from_dict(cls: type[Config], mapping: Mapping, path: str = "") -> Config:
    """Build the dataclass `cls` (and those nested in it) from a mapping, strictly."""
    types = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    mapping = dict(mapping)
    base: Mapping = {}
    if hasattr(cls, "presets") and "preset" in mapping:
        base = _shallow_dict(_preset(cls, mapping.pop("preset"), path))
    values = {}
    for key, value in mapping.items():
        here = f"{path}.{key}" if path else str(key)
        if key not in names:
            raise UserError(f"{here}: unknown key{_did_you_mean(str(key), names)}; known keys are {', '.join(names)}")
        values[key] = _convert(types[key], value, here)
    try:
        return cls(**{**base, **values})
    except ValueError as error:
        raise UserError(f"{path}.{error}" if path else str(error)) from error


def config_to_dict(config: Any) -> Mapping:
    """The whole configuration, defaults included, as plain YAML types."""
    plain = dataclasses.asdict(config)
    return typing.cast(Mapping, _plain(plain))


def save_config(config: Any, path: str | Path, header: str = "") -> None:
    """Write the whole configuration; `header` goes above it as comment lines."""
    comments = "".join(f"# {line}\n" for line in header.splitlines())
    atomic_write_text(Path(path), comments + yaml.safe_dump(config_to_dict(config), sort_keys=False, width=120))


def _merge(into: Mapping, update: Mapping) -> None:
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _parse_override(override: str) -> Mapping:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override}: write it as key=value, for example optim.base_lr=0.03")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML") from error
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return typing.cast(Mapping, value)


def _convert(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{path}: expected a mapping of {kind.__name__}, found {value!r}")
        return config_from_dict(kind, value, path)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{path}: expected a list, found {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, v, f"{path}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise UserError(
            f"{path}: expected {kind.__name__}, found {value!r} ({type(value).__name__}){_number_hint(value)}"
        )
    return value


def _number_hint(value: Any) -> str:
    if isinstance(value, str):
        try:
            return f"; YAML reads this as text, write {float(value):.1e}"
        except ValueError:
            pass
    return ""


def _preset(cls: Any, name: Any, path: str) -> Any:
    presets = cls.presets()
    if name not in presets:
        raise UserError(f"{path}.preset: no preset {name!r}; presets are {', '.join(presets)}")
    return presets[name]


def _shallow_dict(config: Any) -> Mapping:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def _did_you_mean(key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _siblings(path: Path) -> str:
    others = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"; files there are {', '.join(others)}" if others else ""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
