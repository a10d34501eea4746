# SPDX-License-Identifier: Apache-2.0
"""From an experiment folder and task files to result files: what the evaluation commands share.

A protocol says which numbers a task has and how to score them; this file loads the encoder, leaves alone what is
done, and writes one file per number.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icefall_alp.config import EvaluationConfig
from icefall_alp.config.loader import config_to_dict, load_config
from icefall_alp.evaluation.encode import num_listed, set_digest
from icefall_alp.evaluation.encoders import LOG_MEL_RUN, FrozenEncoder, load_frozen_encoder
from icefall_alp.evaluation.results import Result, is_done, read_result, result_path, write_result
from icefall_alp.evaluation.workers import for_each
from icefall_alp.utils import distributed
from icefall_alp.utils.atomic_io import atomic_write_text
from icefall_alp.utils.commit import git_commit
from icefall_alp.utils.digests import library_digest, sha256_file_once, sha256_text
from icefall_alp.utils.errors import UserError, clean_exit
from icefall_alp.utils.seeds import seed_everything


@dataclass(frozen=True)
class Score:
    """One number of a protocol; see `Result`."""

    metric: str
    value: float
    chance: float | None
    num_scored: int
    pooling: str = ""
    half_interval: float | None = None
    seed_values: list[float] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    without_audio: float | None = None
    num_expected: int | None = None  # where it is not the task's


@dataclass(frozen=True)
class Protocol:
    """How one kind of task is scored.

    Attributes:
        name: As in the results' folder; its module in this package has the same name.
        config_class: Of the task files.
        numbers: config -> the (pooling, metric) pairs it has.
        score: (encoder, config, the run's folder, poolings still to do) -> scores.
        needs_text_tower: only runs pretrained with a text tower have it; for others it is passed over.
        shares_work: what one task of a run computes, the next one reads; one process then does all of them.
        fills_gpu: two at a time would not fit into a GPU's memory; there run at most as many as there are GPUs.
    """

    name: str
    config_class: type[EvaluationConfig]
    numbers: Callable[[Any], Sequence[tuple[str, str]]]
    score: Callable[[FrozenEncoder, Any, Path, Sequence[str]], Iterable[Score]]
    needs_text_tower: bool = False
    shares_work: bool = False
    fills_gpu: bool = False


@clean_exit
def main(protocol: Protocol, description: str | None, *others: Protocol) -> None:
    """Entry point of the evaluation commands: parse, evaluate every task, write.

    Args:
        protocol: what is evaluated.
        description: of the command.
        others: protocols that score the same tasks in another way.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--exp-dir", type=Path, nargs="+", required=True, help="folders of the runs: exp/<run>")
    parser.add_argument("--task", type=Path, nargs="+", required=True, help="task files (YAML)")
    shared = "processes, sharing the tasks of all runs" + ("; at most one for each GPU" if protocol.fills_gpu else "")
    parser.add_argument("--num-jobs", type=int, default=1, help=shared)
    parser.add_argument("--set", nargs="*", default=[], help="key=value, winning over the files")
    options = parser.parse_args()
    distributed.setup()
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    configs = {
        path.stem: load_config(protocol.config_class, [*shared_by(path), path], options.set) for path in options.task
    }
    present = {task: config for task, config in configs.items() if is_prepared(task, config)}
    if not present:
        raise UserError(f"none of the tasks {', '.join(configs)} has its features; run stages 0 and 2")
    shares = [present] if protocol.shares_work else [{task: config} for task, config in present.items()]
    jobs = [(exp_dir, (protocol, *others), share, command) for exp_dir in options.exp_dir for share in shares]
    for_each(_evaluate_run, jobs, options.num_jobs, protocol.fills_gpu)


def _evaluate_run(
    exp_dir: Path, protocols: Sequence[Protocol], configs: dict[str, EvaluationConfig], command: str
) -> None:
    encoder = load_frozen_encoder(exp_dir)
    for task, config in configs.items():
        for protocol in protocols:
            evaluate(protocol, task, config, encoder, exp_dir, command)


def shared_by(task: Path) -> list[Path]:
    """What all tasks of a folder share, `<folder>.yaml` beside it, where there is such a file."""
    shared = task.parent.with_suffix(".yaml")
    return [shared] if shared.is_file() else []


def is_prepared(task: str, config: EvaluationConfig) -> bool:
    """Whether the folders of the task's clips are there; a task without them is named on standard error."""
    missing = [folder for folder in _folders(config) if not folder.is_dir()]
    if missing:
        print(f"left out: {task}: no features in {missing[0]}; its corpus was not prepared", file=sys.stderr)
    return not missing


def _folders(config: EvaluationConfig) -> list[Path]:
    names = (*getattr(config, "train_sets", ()), config.train_cuts, getattr(config, "valid_cuts", ""), config.test_cuts)
    return [Path(name) for name in names if name]


def evaluate(
    protocol: Protocol, task: str, config: EvaluationConfig, encoder: FrozenEncoder, exp_dir: Path, command: str
) -> list[Result]:
    """Score one task with one encoder and write the results that are not there yet.

    Returns:
        What was written; empty when all was done before.
    """
    if protocol.needs_text_tower and encoder.text_tower is None:
        return _pass_over(
            f"{encoder.run} was not pretrained with a text tower, which {protocol.name} needs", exp_dir, protocol
        )
    digest = task_digest(protocol.name, config)
    encoder_digest = encoder.digest_with_text if protocol.needs_text_tower else encoder.digest
    poolings = []
    for pooling, metric in protocol.numbers(config):
        done = is_done(exp_dir, protocol.name, task, [metric], encoder_digest, digest, pooling)
        if not done and pooling not in poolings:
            poolings.append(pooling)
    if not poolings:
        print(f"skip: {encoder.run} {protocol.name} {task} is done and neither encoder nor task has changed")
        return []
    seed_everything(config.seed)
    started = time.monotonic()
    expected = config.num_expected or num_listed(Path(config.test_cuts))
    written = []
    for score in protocol.score(encoder, config, exp_dir, poolings):
        result = Result(
            run=encoder.run,
            protocol=protocol.name,
            task=task,
            seed=config.seed,
            command=command,
            encoder_digest=encoder_digest,
            encoder_step=encoder.step,
            task_digest=digest,
            commit=git_commit(),
            seconds=round(time.monotonic() - started, 1),
            **{"num_expected": expected, **{name: value for name, value in vars(score).items() if value is not None}},
        )
        path = write_result(exp_dir, result)
        print(
            f"{encoder.run} {task} {score.pooling} {score.metric} {_beside(result, exp_dir.parent)} -> {path}",
            flush=True,
        )
        written.append(result)
    return written


def _beside(result: Result, exp_root: Path) -> str:
    """The value with its interval; chance, the number without audio and the log-mel baseline where there are such."""
    spread = "" if result.half_interval is None else f" ± {result.half_interval:.2g}"
    notes = [] if result.chance is None else [f"chance {result.chance:.4g}"]
    notes += [] if result.without_audio is None else [f"without audio {result.without_audio:.4g}"]
    path = result_path(exp_root / LOG_MEL_RUN, result.protocol, result.task, result.metric, result.pooling)
    if result.run != LOG_MEL_RUN and path.is_file():
        notes.append(f"{LOG_MEL_RUN} {read_result(path).value:.4g}")
    return f"{result.value:.4g}{spread}" + (f" ({', '.join(notes)})" if notes else "")


def _pass_over(reason: str, exp_dir: Path, protocol: Protocol) -> list[Result]:
    print(f"passed over: {reason}", flush=True)
    atomic_write_text(exp_dir / "results" / protocol.name / "passed_over.txt", f"{reason}\n")
    return []


def task_digest(protocol: str, config: EvaluationConfig) -> str:
    """Digest of all that decides a task's numbers but the encoder: configuration, clips, features, text files, code."""
    settings = config_to_dict(config)
    parts = [json.dumps(settings, sort_keys=True)]
    parts += [set_digest(folder) for folder in _folders(config)]
    parts += [sha256_file_once(path) for path in _named_files(settings)]
    parts += [protocol, library_digest()]
    return sha256_text("\n".join(parts))


def _named_files(settings: dict[str, Any]) -> list[Path]:
    """Class list, tokenizer, pretrained weights: the files that a task's configuration names besides the cuts."""
    towers = [value for value in settings.values() if isinstance(value, dict)]
    names = [settings.get("class_list"), *(tower.get(key) for tower in towers for key in ("tokenizer", "pretrained"))]
    found = []
    for path in (Path(name) for name in names if name):
        found += [path] if path.is_file() else sorted(p for p in path.glob("*") if p.is_file())
    return found
