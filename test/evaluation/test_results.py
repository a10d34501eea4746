# SPDX-License-Identifier: Apache-2.0
"""Results: one file per number, skipped only when nothing behind them changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from icefall_alp.evaluation import results
from icefall_alp.utils.errors import UserError

RESULT = results.Result(
    run="r",
    protocol="retrieval",
    task="t",
    metric="T2A R@1",
    value=12.5,
    num_scored=3,
    seed=1,
    command="c",
    encoder_digest="e",
    task_digest="d",
)


def test_written_and_read_back(tmp_path):
    path = results.write_result(tmp_path / "r", RESULT)
    assert path == tmp_path / "r" / "results" / "retrieval" / "t.t2a_r_1.json"
    assert results.read_results(tmp_path) == [RESULT]
    pooled = replace(RESULT, protocol="linear_probe", pooling="mean", metric="mAP")
    assert results.write_result(tmp_path / "r", pooled).name == "t.mean.map.json"
    for k in (10, 5):
        results.write_result(tmp_path / "r", replace(RESULT, metric=f"T2A R@{k}"))
    assert [r.metric for r in results.read_results(tmp_path)] == ["mAP", "T2A R@1", "T2A R@5", "T2A R@10"]


def test_done_only_with_every_metric_and_both_digests(tmp_path):
    results.write_result(tmp_path, RESULT)
    assert results.is_done(tmp_path, "retrieval", "t", ["T2A R@1"], "e", "d")
    assert not results.is_done(tmp_path, "retrieval", "t", ["T2A R@1", "T2A R@5"], "e", "d")
    assert not results.is_done(tmp_path, "retrieval", "t", ["T2A R@1"], "other encoder", "d")
    assert not results.is_done(tmp_path, "retrieval", "t", ["T2A R@1"], "e", "other task")


def test_what_is_no_number_is_refused(tmp_path):
    with pytest.raises(UserError, match="diverged"):
        results.write_result(tmp_path, replace(RESULT, value=float("nan")))
    assert not list(tmp_path.rglob("*.json"))


def test_damaged_file_is_named(tmp_path):
    path = results.write_result(tmp_path / "r", RESULT)
    path.write_text('{"run": "r"', encoding="utf-8")
    with pytest.raises(UserError, match=r"t\.t2a_r_1\.json: not a result"):
        results.read_results(tmp_path)
