# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are believed only when whole: safetensors and JSON, never pickle, with a SHA-256 per file.

Layout: `exp_dir/checkpoints/step_<s>/` with model, average (float64) and optimizer as safetensors, `state.json` with
everything that is not a tensor, `manifest.json` with the digests; the file `checkpoints/last` names the newest. A
folder is written under a temporary name, synced and renamed, then `last` is replaced, then the oldest are deleted.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from icefall_alp.training.model_average import average_between
from icefall_alp.utils.atomic_io import atomic_folder, atomic_write_text, remove_folder, remove_leftovers
from icefall_alp.utils.commit import git_commit
from icefall_alp.utils.digests import sha256_file, sha256_text
from icefall_alp.utils.errors import UserError, disk_faults

LOGGER = logging.getLogger(__name__)

_TENSOR_FILES = ("model", "average", "optimizer")
_STATE, _MANIFEST, _LAST = "state.json", "manifest.json", "last"
# What may differ when a run is continued: none of these changes what an update does, but for what is drawn and rounded.
_FREE_KEYS = {
    "data.num_workers",
    "training.num_steps",
    "training.accumulate",
    "training.encoder_steps",
    "training.hang_seconds",
    "training.peak_tflops",
    "training.log_every",
    "training.valid_every",
    "training.save_every",
    "training.keep_checkpoints",
    "training.average_last",
}


@dataclass
class Checkpoint:
    """Everything a run needs to go on.

    Attributes:
        step: updates done.
        model: state dict of the objective.
        average: its running average, float64.
        optimizer: the optimizer's state dict: tensors, numbers and lists under text keys.
        state: JSON values: schedule, position in the data, random states of each rank, ...
        config: the run's whole configuration.
    """

    step: int
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]
    config: dict[str, Any]

    def copied(self, space: dict[str, Tensor] | None = None) -> Checkpoint:
        """The same with copies of all tensors on the CPU: training may go on while they are written.

        Args:
            space: where the copies lie, made by an earlier call and overwritten: new memory takes twice the time.
        """
        space = {} if space is None else space
        optimizer: dict[str, Tensor] = {}
        tree = _take_tensors(self.optimizer, "", optimizer)
        groups = {"model": self.model, "average": self.average, "optimizer": optimizer}
        model, average, optimizer = (_copies(name, group, space) for name, group in groups.items())
        return replace(self, model=model, average=average, optimizer=_give_tensors(tree, optimizer))


def save_checkpoint(exp_dir: Path, checkpoint: Checkpoint, keep: int, previous: int) -> None:
    """Write a checkpoint, point `last` to it, then delete all but the newest `keep`.

    Args:
        exp_dir: the experiment's folder.
        checkpoint: what to write, as `Checkpoint.copied` returns it.
        keep: how many stay, at least 1.
        previous: step of the intact checkpoint before this one, 0 for none; what `find_checkpoint` passed over as
            damaged is later than that, and goes now that there is a better one.

    Raises:
        UserError: the disk refused; the earlier checkpoints are untouched.
    """
    folder = _folder(exp_dir, checkpoint.step)
    optimizer_tensors: dict[str, Tensor] = {}
    optimizer_tree = _take_tensors(checkpoint.optimizer, "", optimizer_tensors)
    tensors = {"model": checkpoint.model, "average": checkpoint.average, "optimizer": optimizer_tensors}
    content = {
        "step": checkpoint.step,
        "state": checkpoint.state,
        "optimizer": optimizer_tree,
        "config": checkpoint.config,
        "config_digest": config_digest(checkpoint.config),
    }
    try:
        with atomic_folder(folder) as temporary:
            for name, group in tensors.items():
                save_file(group, temporary / f"{name}.safetensors")
            (temporary / _STATE).write_text(json.dumps(content), encoding="utf-8")
            digests = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
            (temporary / _MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    except SafetensorError as error:
        raise UserError(f"cannot write {folder}: {error}; earlier checkpoints are unchanged") from error
    atomic_write_text(folder.parent / _LAST, f"{folder.name}\n")
    steps = _steps(exp_dir)
    kept = [step for step in steps if step <= previous or step == checkpoint.step][-max(keep, 1) :]
    with disk_faults(folder.parent):
        for step in set(steps) - set(kept):
            remove_folder(_folder(exp_dir, step))


def remove_unfinished(exp_dir: Path) -> None:
    """Name and delete what killed writers left; call it while holding `exclusive_run`."""
    with disk_faults(exp_dir / "checkpoints"):
        names = remove_leftovers(exp_dir / "checkpoints")
    for name in names:
        LOGGER.warning("%s was left unfinished; deleted", exp_dir / "checkpoints" / name)


def find_checkpoint(exp_dir: Path) -> Path | None:
    """The newest checkpoint whose digests all agree; damaged ones are named in a warning and passed over.

    Returns:
        Its folder, or None where no checkpoint was ever completed.

    Raises:
        UserError: there were checkpoints, and none is good.
    """
    parent = exp_dir / "checkpoints"
    steps = _steps(exp_dir)
    pointer = parent / _LAST
    named = pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.exists() else ""
    if named and named not in {_folder(exp_dir, step).name for step in steps}:
        LOGGER.warning("%s names %r, which is not there; looking for an earlier checkpoint", pointer, named)
    for step in reversed(steps):
        folder = _folder(exp_dir, step)
        fault = _fault(folder)
        if fault is None:
            return folder
        LOGGER.warning("checkpoint %s is damaged (%s); trying the one before", folder, fault)
    if steps or named:
        raise UserError(
            f"{parent}: no checkpoint is intact; restore one from a backup, or delete the folder to start from scratch"
        )
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint that `find_checkpoint` has verified; tensors on the CPU."""
    model, average, tensors = (load_file(folder / f"{name}.safetensors") for name in _TENSOR_FILES)
    content = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    optimizer = _give_tensors(content["optimizer"], tensors)
    return Checkpoint(content["step"], model, average, optimizer, content["state"], content["config"])


def load_config(folder: Path) -> dict[str, Any]:
    """The configuration that a checkpoint was trained with."""
    return json.loads((folder / _STATE).read_text(encoding="utf-8"))["config"]


def write_config(exp_dir: Path, config: dict[str, Any]) -> None:
    """Write `exp_dir/config.yaml`, for people: the whole configuration, defaults included, and the code's commit."""
    text = yaml.safe_dump(config, sort_keys=False, width=120)
    atomic_write_text(exp_dir / "config.yaml", f"# commit: {git_commit()}\n{text}")


def config_digest(config: dict[str, Any]) -> str:
    """Digest of everything in a configuration that decides what an update does."""
    return sha256_text(json.dumps(_decisive(config), sort_keys=True))


def check_same_config(
    saved: dict[str, Any], current: dict[str, Any], exp_dir: Path, declared: Sequence[str] = ()
) -> None:
    """Refuse to go on under another configuration; keys `declared` to be different, or below such, only warn.

    Raises:
        UserError: naming the keys that differ, with both values.
    """
    before, now = _decisive(saved), _decisive(current)
    absent, differing = "(absent)", []
    for key in sorted(before.keys() | now.keys()):
        if before.get(key, absent) == now.get(key, absent):
            continue
        difference = f"{key} was {before.get(key, absent)} and is {now.get(key, absent)}"
        if any(f"{key}.".startswith(f"{name}.") for name in declared):
            LOGGER.warning("%s goes on under another configuration, as declared: %s", exp_dir, difference)
        else:
            differing.append(difference)
    if differing:
        raise UserError(
            f"{exp_dir} was trained with another configuration: {'; '.join(differing)}; "
            f"put the values back, declare them by --set key=value, or move {exp_dir} away to start anew"
        )


def load_average(exp_dir: Path, average_last: float) -> dict[str, Tensor]:
    """Average of the model over the last share of the steps.

    It is the range average between the kept checkpoint nearest to `(1 - average_last)` of the last step and the last
    one; with a single checkpoint, the running average since the start.

    Args:
        exp_dir: the experiment's folder.
        average_last: share of the steps, 0 < share <= 1.

    Returns:
        State dict in the model's own types; values that are not floating point come from the last checkpoint.

    Raises:
        UserError: no checkpoint is there, or none is intact.
    """
    last = load_checkpoint(_require_checkpoint(exp_dir))
    period = last.config["training"]["average_every"]
    average = last.average if last.step >= period else last.model
    wanted = (1 - average_last) * last.step
    starts = [step for step in _steps(exp_dir) if step // period < last.step // period]
    for start in sorted(starts, key=lambda step: abs(step - wanted)):
        fault = _fault(_folder(exp_dir, start))
        if fault is None:
            earlier = load_file(_folder(exp_dir, start) / "average.safetensors")
            average = average_between(earlier, last.average, start, last.step, period)
            break
        LOGGER.warning("checkpoint %s is damaged (%s); not used for the average", _folder(exp_dir, start), fault)
    return {name: average[name].to(value.dtype) for name, value in last.model.items()}


def export_state(exp_dir: Path) -> tuple[dict[str, Tensor], int]:
    """The averaged model of an experiment, over its own `training.average_last`, and the step it stands for."""
    last = load_checkpoint(_require_checkpoint(exp_dir))
    return load_average(exp_dir, last.config["training"]["average_last"]), last.step


@contextmanager
def exclusive_run(exp_dir: Path) -> Iterator[None]:
    """Hold the experiment's folder while the body runs; freed by the system when the process dies.

    Raises:
        UserError: another run holds it, and the message names that process; or it cannot be made or written.
    """
    with disk_faults(exp_dir):
        exp_dir.mkdir(parents=True, exist_ok=True)
        file = (exp_dir / ".lock").open("a+", encoding="utf-8")
    with file:
        try:
            # lockf, not flock: loader workers must not inherit the lock and outlive this process with it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{exp_dir} is in use by {holder}; wait for it, or choose another exp_dir") from error
        file.truncate(0)
        with suppress(OSError):  # the name is for people; where even this does not fit, the first checkpoint says so
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


def _folder(exp_dir: Path, step: int) -> Path:
    return exp_dir / "checkpoints" / f"step_{step}"


def _steps(exp_dir: Path) -> list[int]:
    """Steps of the folders that bear a checkpoint's name, ascending."""
    names = [entry.name for entry in (exp_dir / "checkpoints").glob("step_*") if entry.is_dir()]
    return sorted(int(name[5:]) for name in names if name[5:].isdecimal())


def _require_checkpoint(exp_dir: Path) -> Path:
    folder = find_checkpoint(exp_dir)
    if folder is None:
        raise UserError(f"{exp_dir}: no checkpoint; train it first")
    return folder


def _fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file is there and matches its digest."""
    try:
        digests = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        return f"{_MANIFEST} cannot be read: {error.strerror}"
    except ValueError:
        return f"{_MANIFEST} is not JSON"
    if not isinstance(digests, dict) or set(digests) != {_STATE, *(f"{name}.safetensors" for name in _TENSOR_FILES)}:
        return f"{_MANIFEST} is not a list of the files"
    for name, digest in digests.items():
        try:
            if sha256_file(folder / name) != digest:
                return f"{name} does not match its digest"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of what must not change; JSON types, so that a tuple equals the list it is saved as."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                visit(f"{prefix}.{key}" if prefix else key, item)
        elif prefix not in _FREE_KEYS:
            flat[prefix] = value

    visit("", json.loads(json.dumps(config)))
    return flat


def _copies(group: str, tensors: dict[str, Tensor], space: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each by itself: tied weights share memory, and safetensors wants every name to own its values."""
    copies = {}
    for name, value in tensors.items():
        place = space.get(f"{group} {name}")
        if place is None or (place.shape, place.dtype) != (value.shape, value.dtype):
            place = space[f"{group} {name}"] = torch.empty(value.shape, dtype=value.dtype)
        copies[name] = place.copy_(value.detach())
    return copies


def _take_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a nested state dict into `tensors`, leaving their names; the rest is JSON."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        return {key: _take_tensors(item, f"{path}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(item, f"{path}.{index}", tensors) for index, item in enumerate(value)]
    return value


def _give_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `_take_tensors`."""
    if isinstance(value, dict):
        if set(value) == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _give_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_give_tensors(item, tensors) for item in value]
    return value
