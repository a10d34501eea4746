# SPDX-License-Identifier: Apache-2.0
"""One JSON file per number: `exp/<run>/results/<protocol>/<task>[.<pooling>].<metric>.json`.

A number is kept with everything that tells what it is: the chance level, how many items were scored of how many
expected, seed, command and the digests of the encoder and the task. Evaluation started again leaves alone what has
the same two digests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.errors import UserError


@dataclass(frozen=True)
class Result:
    """One number of one run on one task; mAP is 0 to 1, accuracy, R@k and ROUGE-L are percentages."""

    run: str
    protocol: str  # linear_probe | retrieval | captioning | ...
    task: str
    metric: str
    value: float
    num_scored: int  # test items (clips)
    seed: int
    command: str
    encoder_digest: str
    task_digest: str
    pooling: str = ""  # linear_probe only
    chance: float | None = None  # None where chance has no meaning (a loss)
    without_audio: float | None = None  # question answering: the same number of the language model without audio
    num_expected: int | None = None  # items of the official split; None where there is none
    encoder_step: int | None = None  # training steps behind the encoder
    commit: str = ""  # of the code that scored it
    seconds: float = 0.0  # wall time of the evaluation this number came from
    half_interval: float | None = None  # half the 95 % interval of `value`, the mean over seeds; None for one seed
    seed_values: list[float] = field(default_factory=list)  # what each seed scored
    details: dict[str, Any] = field(default_factory=dict)  # how the head was chosen, what was left out


def result_path(exp_dir: Path, protocol: str, task: str, metric: str, pooling: str = "") -> Path:
    """Where the number is kept."""
    stem = ".".join(part for part in (task, pooling, _slug(metric)) if part)
    return exp_dir / "results" / protocol / f"{stem}.json"


def write_result(exp_dir: Path, result: Result) -> Path:
    """Write one number; a killed run leaves the old file or the new one, never a part.

    Raises:
        UserError: The value is not a finite number.
    """
    if not float("-inf") < result.value < float("inf"):
        raise UserError(f"{result.run}: {result.task} {result.metric} is {result.value}; training the head diverged")
    path = result_path(exp_dir, result.protocol, result.task, result.metric, result.pooling)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(asdict(result), indent=1) + "\n")
    return path


def read_result(path: Path) -> Result:
    """Read one number.

    Raises:
        UserError: The file is not a result.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Result(**content)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        known = ", ".join(f.name for f in fields(Result))
        raise UserError(f"{path}: not a result ({error}); delete it and evaluate again. Fields are {known}") from error


def read_results(exp_root: Path) -> list[Result]:
    """Every number of every run below `exp_root`, ordered by file name, R@5 before R@10."""

    def place(path: Path) -> list[str | int]:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]

    return [read_result(path) for path in sorted(exp_root.glob("*/results/*/*.json"), key=place)]


def is_done(
    exp_dir: Path,
    protocol: str,
    task: str,
    metrics: Sequence[str],
    encoder_digest: str,
    task_digest: str,
    pooling: str = "",
) -> bool:
    """Whether all these numbers exist and came from this encoder and this task."""
    for metric in metrics:
        path = result_path(exp_dir, protocol, task, metric, pooling)
        if not path.is_file():
            return False
        result = read_result(path)
        if (result.encoder_digest, result.task_digest) != (encoder_digest, task_digest):
            return False
    return True


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
