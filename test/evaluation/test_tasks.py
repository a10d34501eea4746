# SPDX-License-Identifier: Apache-2.0
"""From a task file to result files; what is done is left alone until the encoder or the task changes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from icefall_alp.config import LinearProbeConfig
from icefall_alp.evaluation import linear_probe, tasks
from icefall_alp.evaluation.results import read_results
from icefall_alp.utils.errors import UserError

ROOT = str(Path(__file__).resolve().parents[2])
COMMAND = f"{ROOT}/egs/captionstew/ALP/zipformer/evaluate_linear_probe.py"


@pytest.fixture
def config(toy_task):
    paths = {key: toy_task[key] for key in ("train_cuts", "test_cuts", "class_list")}
    return LinearProbeConfig(
        **paths, learning_rates=(0.01,), num_seeds=2, valid_share=0.2, batch_size=40, num_steps=3, max_duration=10.0
    )


def _evaluate(config, encoder, tmp_path):
    return tasks.evaluate(linear_probe.PROTOCOL, "toy", config, encoder, tmp_path / "log_mel", "the command")


def test_written_once_and_again_when_something_changes(config, log_mel, tmp_path):
    first = _evaluate(config, log_mel, tmp_path)
    assert [(r.pooling, r.metric) for r in first] == [("mean", "mAP"), ("attention", "mAP")]
    assert sorted(read_results(tmp_path), key=lambda r: r.pooling) == sorted(first, key=lambda r: r.pooling)
    assert (first[0].num_scored, first[0].num_expected, first[0].command) == (20, 21, "the command")
    assert _evaluate(config, log_mel, tmp_path) == []
    assert len(_evaluate(replace(config, seed=1), log_mel, tmp_path)) == 2
    assert len(_evaluate(replace(config, seed=1), replace(log_mel, digest="other"), tmp_path)) == 2


def test_interval_and_baseline_are_printed_beside_the_value_and_kept(config, log_mel, tmp_path, capsys):
    config = replace(config, poolings=("mean",))
    (baseline,) = _evaluate(config, log_mel, tmp_path)
    assert "chance 0.25) -> " in capsys.readouterr().out
    (ours,) = tasks.evaluate(linear_probe.PROTOCOL, "toy", config, replace(log_mel, run="ours"), tmp_path / "ours", "c")
    printed = capsys.readouterr().out
    assert f"± {ours.half_interval:.2g} (chance 0.25, log_mel {baseline.value:.4g}) -> " in printed
    (kept,) = [result for result in read_results(tmp_path) if result.run == "ours"]
    assert list(kept.seed_values) == list(ours.seed_values) and len(kept.seed_values) == 2
    assert kept.details["learning_rate"] == 0.01


def test_only_the_missing_pooling_is_done(config, log_mel, tmp_path):
    _evaluate(replace(config, poolings=("mean",)), log_mel, tmp_path)
    with_both = _evaluate(config, log_mel, tmp_path)  # another configuration, so both
    assert len(with_both) == 2
    next((tmp_path / "log_mel").rglob("*attention*")).unlink()
    assert [r.pooling for r in _evaluate(config, log_mel, tmp_path)] == ["attention"]


def test_digest_follows_clips_class_list_and_configuration(config, tmp_path):
    digest = tasks.task_digest("linear_probe", config)
    assert tasks.task_digest("linear_probe", config) == digest
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\nrain\nbell\nengine\nother\n", encoding="utf-8")
    assert tasks.task_digest("linear_probe", replace(config, num_steps=4)) != digest
    assert tasks.task_digest("linear_probe", replace(config, class_list=str(classes))) != digest
    assert tasks.task_digest("linear_probe", replace(config, test_cuts=config.train_cuts)) != digest
    with pytest.raises(UserError, match="no features there"):
        tasks.task_digest("linear_probe", replace(config, test_cuts=str(tmp_path / "absent")))


def test_command_line(config, tmp_path, monkeypatch, capsys):
    task = tmp_path / "toy.yaml"
    plain = {"train_cuts": config.train_cuts, "test_cuts": config.test_cuts, "class_list": config.class_list}
    task.write_text(yaml.safe_dump({**plain, "batch_size": 40, "num_seeds": 2, "valid_share": 0.2}), encoding="utf-8")
    arguments = ["--exp-dir", str(tmp_path / "exp" / "log_mel"), "--task", str(task), "--set", "num_steps=2"]
    monkeypatch.setattr(sys, "argv", ["a/evaluate_linear_probe.py", *arguments])
    tasks.main(linear_probe.PROTOCOL, "doc")
    (result, _) = read_results(tmp_path / "exp")
    assert result.task == "toy"
    assert result.command.startswith("evaluate_linear_probe.py --exp-dir ")
    tasks.main(linear_probe.PROTOCOL, "doc")
    assert "skip: log_mel linear_probe toy is done" in capsys.readouterr().out
    absent = tmp_path / "absent.yaml"
    absent.write_text(yaml.safe_dump({**plain, "valid_cuts": "nowhere"}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["e.py", *arguments[:2], "--task", str(absent), str(task), "--set", "num_steps=3"])
    tasks.main(linear_probe.PROTOCOL, "doc")
    captured = capsys.readouterr()
    assert "left out: absent: no features in nowhere" in captured.err and "log_mel toy mean mAP" in captured.out
    monkeypatch.setattr(sys, "argv", ["e.py", *arguments[:2], "--task", str(absent)])
    with pytest.raises(SystemExit):
        tasks.main(linear_probe.PROTOCOL, "doc")
    assert "error: none of the tasks absent has its features" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["evaluate_linear_probe.py", *arguments[:-1], "num_stepz=2"])
    with pytest.raises(SystemExit) as exit_status:
        tasks.main(linear_probe.PROTOCOL, "doc")
    assert exit_status.value.code == 1
    assert "num_stepz: unknown key" in capsys.readouterr().err
    assert Path(tmp_path / "exp" / "log_mel" / "results").is_dir()


def test_a_run_without_a_text_tower_is_passed_over_and_says_why(config, log_mel, tmp_path, capsys):
    needs_text = replace(linear_probe.PROTOCOL, name="by_name", needs_text_tower=True)
    assert tasks.evaluate(needs_text, "toy", config, log_mel, tmp_path / "log_mel", "the command") == []
    reason = (tmp_path / "log_mel" / "results" / "by_name" / "passed_over.txt").read_text()
    assert reason == "log_mel was not pretrained with a text tower, which by_name needs\n"
    assert reason in capsys.readouterr().out
    assert read_results(tmp_path) == []


def test_tasks_without_features_are_left_out_and_several_runs_share_the_work(config, tmp_path):
    task, absent = tmp_path / "toy.yaml", tmp_path / "absent.yaml"
    plain = {"train_cuts": config.train_cuts, "test_cuts": config.test_cuts, "class_list": config.class_list}
    task.write_text(yaml.safe_dump({**plain, "batch_size": 40, "num_steps": 2}), encoding="utf-8")
    absent.write_text(yaml.safe_dump({**plain, "test_cuts": "data/fbank/nowhere"}), encoding="utf-8")
    runs = [str(tmp_path / name / "log_mel") for name in ("one", "two")]
    arguments = ["--exp-dir", *runs, "--task", str(task), str(absent)]
    # not in this process: it has threads, which its forks would wait for
    command = [sys.executable, COMMAND, *arguments, "--num-jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ROOT})
    first, second = (read_results(tmp_path / name) for name in ("one", "two"))
    assert [r.value for r in first] == [r.value for r in second] and {r.task for r in first} == {"toy"}
    assert done.stderr.count("left out: absent: no features in data/fbank/nowhere") == 1


def test_the_workers_hear_of_what_fills_a_gpu(config, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(tasks, "for_each", lambda *arguments: told.append(arguments[1:]))
    task = tmp_path / "toy.yaml"
    task.write_text(yaml.safe_dump({key: getattr(config, key) for key in ("train_cuts", "test_cuts", "class_list")}))
    monkeypatch.setattr(sys, "argv", ["e.py", "--exp-dir", "one", "two", "--task", str(task), "--num-jobs", "2"])
    tasks.main(replace(linear_probe.PROTOCOL, fills_gpu=True), "doc")
    ((jobs, num_jobs, fills_gpu),) = told
    assert [exp_dir.name for exp_dir, *_ in jobs] == ["one", "two"] and num_jobs == 2 and fills_gpu
