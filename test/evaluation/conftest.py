# SPDX-License-Identifier: Apache-2.0
"""Results of two runs and two baselines on two numbers, beside a small published table."""

from __future__ import annotations

from pathlib import Path

import pytest

from icefall_alp.evaluation.results import Result, write_result

PUBLISHED = """
runs: {ours: Theirs, second: Theirs-init}
baselines: {floor: the floor}
lower_is_better: [loss]
versus: [{title: Caption loss, protocol: captioning, metric: loss, baseline: floor}]
tables:
  - title: Table 1
    columns:
      - {title: Sounds mAP, protocol: linear_probe, task: sounds, pooling: mean, metric: mAP, decimals: 3}
      - {title: Never run, protocol: linear_probe, task: other, pooling: mean, metric: mAP}
    rows:
      Theirs: [0.400, 7]
      Theirs-init: [~, 8]
"""


def _result(run: str, protocol: str, metric: str, value: float, chance: float | None, pooling: str = "") -> Result:
    return Result(
        run=run,
        protocol=protocol,
        task="sounds",
        metric=metric,
        value=value,
        num_scored=90,
        num_expected=100,
        seed=1,
        command=f"evaluate {run}",
        encoder_digest="e",
        task_digest="t",
        pooling=pooling,
        chance=chance,
    )


@pytest.fixture
def published_yaml(tmp_path: Path) -> Path:
    path = tmp_path / "published.yaml"
    path.write_text(PUBLISHED, encoding="utf-8")
    return path


@pytest.fixture
def exp_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "exp"
    for run, score, loss in (("ours", 0.5, 2.0), ("floor", 0.25, 3.0)):
        write_result(folder / run, _result(run, "linear_probe", "mAP", score, 0.1, "mean"))
        write_result(folder / run, _result(run, "captioning", "loss", loss, None))
    log = '{"step": 5, "train": {"loss": 9}}\n{"step": 10, "train": {"loss": 4}}\n{"step": 10, "valid": {"loss": 5}}\n'
    (folder / "ours" / "losses.jsonl").write_text(log, encoding="utf-8")
    return folder
