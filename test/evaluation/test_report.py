# SPDX-License-Identifier: Apache-2.0
"""The report shows ours beside theirs and leaves empty what was not run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from icefall_alp.evaluation.published import load_published
from icefall_alp.evaluation.report import Numbers, main_table, markdown_table, over_chance, render_report, text_table
from icefall_alp.evaluation.results import Result, read_results, write_result
from icefall_alp.utils.errors import UserError


def test_report(published_yaml, exp_dir, tmp_path):
    provenance = tmp_path / "provenance.json"
    content = {"note": "own", "hours": {"a": 1.5}, "sides": {"bark": {"train": ["x", "y"]}}, "all": list(range(100))}
    provenance.write_text(json.dumps(content), encoding="utf-8")
    report = render_report(load_published(published_yaml), Numbers(read_results(exp_dir)), exp_dir, provenance)
    assert "| Theirs | 0.500 (90 of 100) / 0.400 | – / 7.00 |" in report
    assert "| Theirs-init | – / – | – / 8.00 |" in report
    assert "| linear_probe sounds mean | mAP | ours | 0.500 | 0.100 | 5.0x | 0.250 (90 of 100) | 90/100 |" in report
    assert "- Caption loss, sounds: the floor 3.000; ours 2.000 (better)" in report
    assert "| ours | 10 | 4.000 | 5.000 |" in report
    assert "- note: own\n- hours: a 1.5\n- sides:\n  - bark:\n    - train: x, y\n- all: 100 entries" in report
    assert "evaluate ours\nevaluate floor" in report or "evaluate floor\nevaluate ours" in report
    for fact in ("processor", "cores", "GPU", "torch", "commit"):
        assert f"- {fact}: " in report


def test_a_small_chance_level_is_shown_with_its_digits(published_yaml, exp_dir):
    small = replace(read_results(exp_dir)[0], metric="mAP@10", value=0.0691, chance=0.0029)
    write_result(exp_dir / small.run, small)
    report = render_report(load_published(published_yaml), Numbers(read_results(exp_dir)), exp_dir, None)
    assert "| mAP@10 | " + small.run + " | 0.0691 | 0.0029 | 23.8x |" in report


def test_interval_and_a_columns_own_run(published_yaml, exp_dir):
    text = published_yaml.read_text(encoding="utf-8").replace("title: Never run", "title: Own, run: ours, decimals: 3")
    published_yaml.write_text(text.replace("task: other", "task: sounds"), encoding="utf-8")
    results = [replace(r, half_interval=0.0128) if r.run == "ours" else r for r in read_results(exp_dir)]
    published = load_published(published_yaml)
    report = render_report(published, Numbers(results), exp_dir, None)
    assert "| Theirs | 0.500 ± 0.013 (90 of 100) / 0.400 | 0.500 ± 0.013 (90 of 100) / 7.000 |" in report
    assert "| Theirs-init | – / – | 0.500 ± 0.013 (90 of 100) / 8.000 |" in report
    assert "| ours | 0.500 ± 0.013 | 0.100 |" in report
    assert main_table(published, Numbers(results))[0] == ["ours / paper", "Sounds mAP (mean)"]


def test_where_less_is_better_over_chance_is_turned_round(published_yaml):
    published = load_published(published_yaml)
    common = {"run": "ours", "protocol": "p", "task": "t", "num_scored": 1, "seed": 1, "command": "c"}
    digests = {"encoder_digest": "e", "task_digest": "t", "chance": 8.0}
    assert over_chance(Result(metric="mAP", value=16.0, **common, **digests), published) == 2.0
    assert over_chance(Result(metric="loss", value=2.0, **common, **digests), published) == 4.0


def test_main_table_holds_only_what_was_run(published_yaml, exp_dir):
    header, rows = main_table(load_published(published_yaml), Numbers(read_results(exp_dir)))
    assert header == ["ours / paper", "Sounds mAP (mean)"]
    assert rows == [["Theirs", "0.500 (90 of 100) / 0.400"], ["the floor", "0.250 (90 of 100)"], ["chance", "0.100"]]


def test_the_number_without_audio_stands_beside(published_yaml, exp_dir):
    answered = replace(read_results(exp_dir)[-1], run="ours", protocol="linear_probe", metric="mAP", without_audio=0.25)
    write_result(exp_dir / "ours", answered)
    numbers = Numbers(read_results(exp_dir))
    _, rows = main_table(load_published(published_yaml), numbers)
    assert rows[0][1].startswith(f"{answered.value:.3f} [0.250] ")
    report = render_report(load_published(published_yaml), numbers, exp_dir, None)
    assert f"| mAP | ours | {answered.value:.3f} [0.250] |" in report


def test_tables_are_aligned():
    assert markdown_table(["a", "b"], [["x|y", "1"]]).splitlines() == ["| a | b |", "|---|--:|", "| x\\|y | 1 |"]
    assert text_table(["", "score"], [["run", "10"], ["chance", "1"]]).splitlines() == [
        "       run  chance",
        "score   10       1",
    ]


def test_bad_provenance_is_named(published_yaml, exp_dir, tmp_path):
    with pytest.raises(UserError, match=r"none\.json: not readable JSON"):
        render_report(load_published(published_yaml), Numbers([]), exp_dir, tmp_path / "none.json")
