# SPDX-License-Identifier: Apache-2.0
"""The command that collects results: writes, prints, publishes only when asked, and names what is missing."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from icefall_alp.evaluation.encoders import FrozenEncoder, encoder_digest
from icefall_alp.evaluation.published import load_published
from icefall_alp.evaluation.results import Result, write_result

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "egs" / "captionstew" / "ALP" / "conf" / "paper.yaml"


@pytest.fixture
def collect(monkeypatch, capsys):
    """Run the command in this process; gives exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["collect_results.py", *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / "tools" / "collect_results.py"), run_name="__main__")
        except SystemExit as stop:
            status = int(stop.code or 0)
        return (status, *capsys.readouterr())

    return run


def _write(exp_dir: Path, run: str, value: float) -> None:
    column = load_published(PAPER).tables[0].columns[0]
    key = column.key._asdict()
    common = {"seed": 1, "command": "c", "encoder_digest": "e", "task_digest": "t", "num_scored": 5, "chance": 0.1}
    write_result(exp_dir / run, Result(run=run, value=value, **key, **common))


def test_every_run_has_a_row_in_every_table_but_the_partial_one():
    published = load_published(PAPER)
    tables = {table.title.partition(":")[0]: table for table in published.tables}
    assert {name: len(table.rows) for name, table in tables.items()} == {
        "Table 3a": 9, "Table 3b": 6, "Table 9": 6, "Table 7": 1, "Table 10": 2,
        "Question answering without a judge, and the parts that the paper does not name (not in the paper)": 5,
    }  # fmt: skip
    trained_elsewhere = {"BEATs", "wav2vec 2.0", "MERT"}  # of which the paper has mean pooling only
    assert set(published.runs.values()) <= set(tables["Table 3a"].rows)
    for name in ("Table 3b", "Table 9"):
        assert set(published.runs.values()) - trained_elsewhere <= set(tables[name].rows)
    assert published.tables[0].rows["Contrastive-init"][0] == 0.664


def test_numbers_of_an_earlier_encoder_are_left_out(tmp_path, collect):
    for run in ("tagging", "log_mel", "untrained"):
        _write(tmp_path, run, 0.5)
    (tmp_path / "tagging" / "encoder").mkdir()
    (tmp_path / "tagging" / "encoder" / "config.yaml").write_text("{}")
    status, output, error = collect("--exp-dir", tmp_path, "--paper", PAPER)
    assert status == 0 and "left out: tagging has numbers of an earlier encoder" in error
    assert output.count("0.5") == 2 and "untrained" not in error


def test_numbers_that_needed_the_text_tower_are_kept_until_it_changes(tmp_path, collect):
    _write(tmp_path, "contrastive_scratch", 0.5)
    run = tmp_path / "contrastive_scratch"
    for folder in ("encoder", "text_tower"):
        (run / folder).mkdir()
        (run / folder / "config.yaml").write_text("{}")
    (path,) = (run / "results").rglob("*.json")
    tower = run / "text_tower"
    encoder = FrozenEncoder(run.name, None, encoder_digest(run / "encoder"), text_tower=tower)
    path.write_text(json.dumps({**json.loads(path.read_text()), "encoder_digest": encoder.digest_with_text}))
    _, output, error = collect("--exp-dir", tmp_path, "--paper", PAPER)
    assert "0.5" in output and "left out" not in error
    (tower / "config.yaml").write_text("{other: 1}")
    assert "left out: contrastive_scratch" in collect("--exp-dir", tmp_path, "--paper", PAPER)[2]


def test_collect_and_publish(tmp_path, collect):
    exp_dir, tracked = tmp_path / "exp", tmp_path / "RESULTS.md"
    _write(exp_dir, "tagging", 0.321)
    _write(exp_dir, "log_mel", 0.123)
    status, output, _ = collect("--exp-dir", exp_dir, "--paper", PAPER)
    assert status == 0
    assert "0.321 / 0.656" in output
    report = (exp_dir / "RESULTS.md").read_text(encoding="utf-8")
    assert "| Zipformer-AEC | 0.321 / 0.656 | – / 56.46 |" in report
    assert "3.2x" in report
    assert (exp_dir / "figures" / "over_chance.png").is_file()
    assert not tracked.exists()
    assert collect("--exp-dir", exp_dir, "--paper", PAPER, "--publish", tracked)[0] == 0
    assert tracked.read_text(encoding="utf-8") == report


def test_mistakes_are_one_line(tmp_path, collect):
    status, _, errors = collect("--exp-dir", tmp_path, "--paper", PAPER)
    assert status == 1
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert "run the evaluation stages first" in errors
    bad = tmp_path / "r" / "results" / "p" / "t.json"
    bad.parent.mkdir(parents=True)
    content = {**asdict(Result("r", "p", "t", "m", 1.0, 1, 1, "c", "e", "t")), "extra": 1}
    bad.write_text(json.dumps(content), encoding="utf-8")
    status, _, errors = collect("--exp-dir", tmp_path, "--paper", PAPER)
    assert status == 1
    assert "t.json: not a result" in errors
