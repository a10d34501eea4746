# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what is read is what was written, damage of every kind is noticed, runs do not share a folder."""

import logging
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from faults import forks

from icefall_alp.training.checkpoint import (
    Checkpoint,
    check_same_config,
    exclusive_run,
    export_state,
    find_checkpoint,
    load_average,
    load_checkpoint,
    remove_unfinished,
    save_checkpoint,
)
from icefall_alp.utils.errors import UserError

CONFIG = {"training": {"average_every": 2, "average_last": 0.5, "num_steps": 100}, "sizes": (1, 2)}


def weights_at(step: int) -> torch.Tensor:
    return torch.tensor([float(step), step**2])


def make_checkpoint(step: int) -> Checkpoint:
    """Weights that are known at every step, so that any average of them is known too."""
    updates = range(2, step + 1, 2)
    average = sum(weights_at(s).double() for s in updates) / len(updates) if updates else weights_at(0).double()
    tied = weights_at(step)
    moments = {"0": {"step": step, "delta": torch.randn(3, 2), "empty": torch.zeros(0), "scalar": torch.tensor(2)}}
    return Checkpoint(
        step=step,
        model={"weight": tied, "tied": tied, "table": torch.arange(3)},
        average={"weight": average, "tied": average, "table": torch.arange(3)},
        optimizer={"state": moments, "param_groups": [{"lr": 0.1, "betas": [0.9, 0.98], "params": [6]}]},
        state={"ranks": [{"rng": 1}]},
        config=CONFIG,
    ).copied()


def save(exp_dir, *steps, keep=10):
    for previous, step in zip((0, *steps), steps, strict=False):
        save_checkpoint(exp_dir, make_checkpoint(step), keep, previous)


def test_copies_take_the_memory_of_those_before_and_none_of_the_model():
    space = {}
    content = make_checkpoint(4)
    first = content.copied(space)
    addresses = {name: value.data_ptr() for name, value in first.model.items()}
    for value in content.model.values():
        value.add_(1)
    assert not any(torch.equal(value, content.model[name]) for name, value in first.model.items())
    second = content.copied(space)
    assert {name: value.data_ptr() for name, value in second.model.items()} == addresses
    for group in ("model", "average"):
        for name, value in getattr(content, group).items():
            assert torch.equal(getattr(second, group)[name], value)


def test_what_is_read_is_what_was_written(tmp_path):
    written = make_checkpoint(4)
    save_checkpoint(tmp_path, written, keep=1, previous=0)
    read = load_checkpoint(find_checkpoint(tmp_path))
    assert read.step == 4 and read.state == written.state
    assert read.optimizer["param_groups"] == written.optimizer["param_groups"]
    for name, value in written.optimizer["state"]["0"].items():
        assert torch.equal(torch.as_tensor(read.optimizer["state"]["0"][name]), torch.as_tensor(value))
    for group in ("model", "average"):
        for name, value in getattr(written, group).items():
            assert torch.equal(getattr(read, group)[name], value) and getattr(read, group)[name].dtype == value.dtype


def test_the_newest_are_kept_and_last_names_the_newest(tmp_path):
    save(tmp_path, 2, 4, 6, 8, 10, keep=2)
    assert sorted(entry.name for entry in (tmp_path / "checkpoints").iterdir()) == ["last", "step_10", "step_8"]
    assert (tmp_path / "checkpoints/last").read_text() == "step_10\n"


def test_what_was_passed_over_as_damaged_does_not_push_out_good_ones(tmp_path):
    save(tmp_path, 2, 4, 6, 8)
    save_checkpoint(tmp_path, make_checkpoint(7), keep=2, previous=4)
    assert sorted(entry.name for entry in (tmp_path / "checkpoints").glob("step*")) == ["step_4", "step_7"]


def truncate(folder):
    victim = folder / "model.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1])


def flip(name):
    def apply(folder):
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 4
        (folder / name).write_bytes(data)

    return apply


DAMAGES = {
    "truncated": truncate,
    "zero-filled": lambda folder: (folder / "average.safetensors").write_bytes(bytes(300)),
    **{f"bit in {n}": flip(n) for n in ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")},
    "file missing": lambda folder: (folder / "optimizer.safetensors").unlink(),
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "folder empty": lambda folder: [path.unlink() for path in folder.iterdir()],
    "folder missing": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named_in_one_line_and_the_one_before_is_used(tmp_path, caplog, damage):
    save(tmp_path, 2, 4)
    damage(tmp_path / "checkpoints/step_4")
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints/step_2"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "step_4" in record.getMessage()
    damage(tmp_path / "checkpoints/step_2")
    with pytest.raises(UserError, match="no checkpoint is intact"):
        find_checkpoint(tmp_path)


def test_an_unfinished_folder_is_named_deleted_and_never_believed(tmp_path, caplog):
    save(tmp_path, 2)
    stale = tmp_path / "checkpoints/.step_4.new.tmp-123"
    shutil.copytree(tmp_path / "checkpoints/step_2", stale)
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints/step_2"
    remove_unfinished(tmp_path)
    assert not stale.exists() and stale.name in caplog.text


def test_a_folder_without_checkpoints_starts_from_scratch(tmp_path):
    assert find_checkpoint(tmp_path / "new") is None


def test_a_failed_write_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 2)

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("icefall_alp.training.checkpoint.save_file", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(tmp_path, make_checkpoint(4), keep=1, previous=2)
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints/step_2"
    assert sorted(entry.name for entry in (tmp_path / "checkpoints").iterdir()) == ["last", "step_2"]


def test_a_real_refusal_of_the_system_leaves_the_earlier_checkpoint(tmp_path):
    """The kernel ends the write in the middle of a file, as on a full disk."""
    save(tmp_path, 2)

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        content = make_checkpoint(4)
        content.model["large"] = torch.zeros(5000)
        with pytest.raises(UserError, match="step_4"):
            save_checkpoint(tmp_path, content, keep=1, previous=2)

    forks.run(work, tmp_path / "log")
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints/step_2"
    assert sorted(entry.name for entry in (tmp_path / "checkpoints").iterdir()) == ["last", "step_2"]


def test_only_keys_that_decide_an_update_must_agree(tmp_path):
    free = {"num_steps": 200, "average_last": 0.1, "peak_tflops": 99.0}
    longer = {"training": {**CONFIG["training"], **free}, "sizes": [1, 2]}
    check_same_config(CONFIG, longer, tmp_path)
    with pytest.raises(UserError, match=r"sizes was \[1, 2\] and is \[1, 3\]; width was \(absent\) and is 5"):
        check_same_config(CONFIG, {**longer, "sizes": (1, 3), "width": 5}, tmp_path)


def test_a_declared_key_covers_what_is_below_it_and_nothing_else(tmp_path):
    before, now = ({"optim": {"rate": n, "steps": n}, "optimal": n} for n in (1, 2))
    with pytest.raises(UserError, match=r"configuration: optimal was 1 and is 2; put"):
        check_same_config(before, now, tmp_path, ["optim"])
    check_same_config(before, now, tmp_path, ["optim", "optimal"])


def test_the_export_averages_exactly_the_last_share_of_the_steps(tmp_path):
    save(tmp_path, 2, 4, 6, 7, 8)
    state, step = export_state(tmp_path)
    assert step == 8
    expected = (weights_at(6) + weights_at(8)) / 2
    torch.testing.assert_close(state["weight"], expected)
    assert state["weight"].dtype == torch.float32 and torch.equal(state["table"], torch.arange(3))
    quarter = load_average(tmp_path, average_last=0.25)
    torch.testing.assert_close(quarter["weight"], weights_at(8))


def test_a_single_checkpoint_exports_its_running_average_or_before_any_the_weights(tmp_path):
    save(tmp_path, 4)
    torch.testing.assert_close(load_average(tmp_path, 0.25)["weight"], (weights_at(2) + weights_at(4)) / 2)
    save(tmp_path / "short", 1)
    torch.testing.assert_close(load_average(tmp_path / "short", 0.25)["weight"], weights_at(1))


def test_export_without_a_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="train it first"):
        export_state(tmp_path)


def test_a_second_run_on_the_folder_is_refused_by_name(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from icefall_alp.training.checkpoint import exclusive_run\n"
        "with exclusive_run(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on "), exclusive_run(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with exclusive_run(tmp_path):
        pass
