# SPDX-License-Identifier: Apache-2.0
"""The command that collects results: writes, prints, publishes only when asked, and names what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from icefall_alp.evaluation.published import load_published
from icefall_alp.evaluation.results import Result, write_result

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "egs" / "captionstew" / "ALP" / "conf" / "paper.yaml"


def _collect(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "collect_results.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def _write(exp_dir: Path, run: str, value: float) -> None:
    column = load_published(PAPER).tables[0].columns[0]
    key = column.key._asdict()
    common = {"seed": 1, "command": "c", "encoder_digest": "e", "task_digest": "t", "num_scored": 5, "chance": 0.1}
    write_result(exp_dir / run, Result(run=run, value=value, **key, **common))


def test_every_run_has_a_row_in_every_table_but_the_partial_one():
    published = load_published(PAPER)
    assert [len(table.rows) for table in published.tables] == [9, 6, 6, 2]
    for table in published.tables[:3]:
        assert set(published.runs.values()) <= set(table.rows)
    assert published.tables[0].rows["Contrastive-init"][0] == 0.664


def test_collect_and_publish(tmp_path):
    exp_dir, tracked = tmp_path / "exp", tmp_path / "RESULTS.md"
    _write(exp_dir, "tagging", 0.321)
    _write(exp_dir, "log_mel", 0.123)
    done = _collect("--exp-dir", exp_dir, "--paper", PAPER)
    assert done.returncode == 0, done.stderr
    assert "0.321 / 0.656" in done.stdout
    report = (exp_dir / "RESULTS.md").read_text(encoding="utf-8")
    assert "| Zipformer-AEC | 0.321 / 0.656 | – / 56.46 |" in report
    assert "3.2x" in report
    assert (exp_dir / "figures" / "over_chance.png").is_file()
    assert not tracked.exists()
    assert _collect("--exp-dir", exp_dir, "--paper", PAPER, "--publish", tracked).returncode == 0
    assert tracked.read_text(encoding="utf-8") == report


def test_mistakes_are_one_line(tmp_path):
    done = _collect("--exp-dir", tmp_path, "--paper", PAPER)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "run the evaluation stages first" in done.stderr
    bad = tmp_path / "r" / "results" / "p" / "t.json"
    bad.parent.mkdir(parents=True)
    bad.write_text(
        json.dumps({**asdict(Result("r", "p", "t", "m", 1.0, 1, 1, "c", "e", "t")), "extra": 1}), encoding="utf-8"
    )
    done = _collect("--exp-dir", tmp_path, "--paper", PAPER)
    assert done.returncode == 1
    assert "t.json: not a result" in done.stderr
