# SPDX-License-Identifier: Apache-2.0
"""Facts about machine and training."""

from __future__ import annotations

from icefall_alp.evaluation import facts


def test_machine_is_described():
    machine = facts.machine()
    assert int(machine["cores"]) >= 1
    assert machine["processor"]
    assert machine["torch"]


def test_training_summary_takes_the_last_losses_and_each_rate_over_its_own_seconds(exp_dir):
    assert facts.training_summaries(exp_dir) == {"ours": {"steps": "10", "train loss": "4.000", "valid loss": "5.000"}}
    lines = [
        f"INFO step {step} train: loss 4, audio-s/s {rate}, data wait 0.1, seconds per step {seconds}"
        for step, rate, seconds in ((5, 500, 10), (10, 700, "1.4e+01"))
    ]
    (exp_dir / "ours" / "train.log").write_text("\n".join(lines), encoding="utf-8")
    summary = facts.training_summaries(exp_dir)["ours"]
    # 5 steps of 5,000 s of audio, 5 of 9,800
    assert (summary["minutes"], summary["audio-s/s"], summary["hours of audio"]) == ("2.0", "617", "20.6")
