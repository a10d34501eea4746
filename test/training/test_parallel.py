# SPDX-License-Identifier: Apache-2.0
"""Two processes with uneven parts of a batch equal one process with the whole, through the trainer's own step."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_toys import CONFIG, join, make_batch, make_trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "utils"))
from processes import run_processes

WORKER = Path(__file__).with_name("parallel_worker.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    outcomes = run_processes(WORKER, 2, str(folder), "gradients", "interrupted", "skipping", "exploding", "poisoned")
    (folder / "outcomes.json").write_text(json.dumps(outcomes))
    return folder


def test_loss_and_gradients_equal_one_process_with_the_whole_batch(folder):
    whole = make_trainer(None, noise=False)
    sums = whole.gradients.backward([join(make_batch(0), make_batch(1))]).sums
    for rank in range(2):
        parts = load_file(folder / f"gradients_{rank}.safetensors")
        torch.testing.assert_close(parts.pop("mean"), sums[:1] / sums[1], rtol=1e-6, atol=0)
        expected = torch.cat([parameter.grad.flatten() for parameter in whole.objective.parameters()])
        found = torch.cat([parts[name].flatten() for name, _ in whole.objective.named_parameters()])
        assert torch.linalg.vector_norm(found - expected) <= 1e-6 * torch.linalg.vector_norm(expected)


def test_an_interrupted_run_equals_the_unbroken_one_to_the_bit(folder):
    for name in ("losses.jsonl", *(f"checkpoints/step_12/{n}" for n in ("manifest.json", "model.safetensors"))):
        assert (folder / "broken" / name).read_bytes() == (folder / "unbroken" / name).read_bytes()


def test_a_step_may_leave_a_parameter_out(folder):
    first, second = (load_file(folder / f"skipping_{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["sometimes"] != 1


@pytest.mark.parametrize("scenario", ["poisoned", "exploding"])
def test_a_loss_or_gradient_that_is_not_finite_on_one_process_is_skipped_by_all(folder, scenario):
    state = json.loads((folder / f"{scenario}/checkpoints/step_3/state.json").read_text())["state"]
    assert state["num_skipped"] == 1
    first, second = (load_file(folder / f"{scenario}_{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) and torch.isfinite(first[name]).all() for name in first)


def test_too_many_in_a_row_end_all_with_one_line_naming_the_bad_clips_only(folder):
    (first, message), (second, quiet) = json.loads((folder / "outcomes.json").read_text())
    assert (first, second) == (1, 1)
    (line,) = (line for line in message.splitlines() if line.startswith("error: "))
    assert "20 steps in a row, up to step 21" in line and "cut_41_0" in line and "cut_40_0" not in line
    assert "error: " not in quiet and "Traceback" not in quiet + message


def test_validation_does_not_depend_on_the_number_of_processes(folder):
    alone = make_trainer(None, noise=False).validate()
    for rank in range(2):
        assert json.loads((folder / f"valid_{rank}.json").read_text()) == pytest.approx(alone, rel=1e-6)


def test_one_process_continues_what_two_have_begun(folder, caplog):
    config = replace(CONFIG, num_steps=14)
    trainer = make_trainer(folder / "unbroken", config)
    trainer.fit()
    assert trainer.step == 14
    assert trainer.position == 12 * 2 + 2, "24 micro-batches were read by two processes, two more by one"
    assert "saved by 2 processes, continued by 1" in caplog.text
