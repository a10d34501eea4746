# SPDX-License-Identifier: Apache-2.0
"""Facts about machine, commit and training."""

from __future__ import annotations

import subprocess

from icefall_alp.evaluation import facts


def test_machine_is_described():
    machine = facts.machine()
    assert int(machine["cores"]) >= 1
    assert machine["processor"]
    assert machine["torch"]


def test_commit_and_changes(tmp_path):
    assert facts.commit(tmp_path).startswith("unknown")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (tmp_path / "a").write_text("1", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *arguments], cwd=tmp_path, check=True)
    assert len(facts.commit(tmp_path)) == 40
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert facts.commit(tmp_path).endswith("with uncommitted changes")


def test_training_summary_takes_the_last_losses_and_the_mean_rates(exp_dir):
    assert facts.training_summaries(exp_dir) == {"ours": {"steps": "10", "train loss": "4.000", "valid loss": "5.000"}}
    lines = [
        f"INFO step {step} train: loss 4, audio-s/s {rate}, data wait 0.1, seconds per step {seconds}"
        for step, rate, seconds in ((5, 500, 10), (10, 700, "1.4e+01"))
    ]
    (exp_dir / "ours" / "train.log").write_text("\n".join(lines), encoding="utf-8")
    summary = facts.training_summaries(exp_dir)["ours"]
    assert (summary["minutes"], summary["audio-s/s"], summary["hours of audio"]) == ("2.0", "600", "20.0")
