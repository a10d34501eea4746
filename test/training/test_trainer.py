# SPDX-License-Identifier: Apache-2.0
"""The loop: interrupted equals unbroken to the bit, bad steps are skipped, signals obeyed."""

import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from training_toys import CONFIG, OPTIM, ToyStream, make_batch, make_trainer

from icefall_alp.training.eden import eden_factor
from icefall_alp.utils.errors import UserError
from icefall_alp.utils.signals import STOPPED


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def records(exp_dir: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (exp_dir / "losses.jsonl").read_text().splitlines()]
    return [{"step": line["step"], **line[kind]} for line in lines if kind in line]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    exp_dir = tmp_path_factory.mktemp("unbroken")
    make_trainer(exp_dir).fit()
    return exp_dir


def assert_same_run(exp_dir, unbroken):
    assert content(exp_dir / "checkpoints/step_12") == content(unbroken / "checkpoints/step_12")
    assert (exp_dir / "losses.jsonl").read_bytes() == (unbroken / "losses.jsonl").read_bytes()


def test_a_killed_run_started_again_equals_the_unbroken_one_to_the_bit(tmp_path, unbroken):
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, stream=ToyStream(fail_at=11)).fit()
    assert records(tmp_path, "train")[-1]["step"] == 10, "logged after the checkpoint: must be forgotten"
    torch.manual_seed(99)
    make_trainer(tmp_path).fit()
    assert_same_run(tmp_path, unbroken)
    names = ["manifest.json", "state.json", "average.safetensors", "model.safetensors", "optimizer.safetensors"]
    assert sorted(content(tmp_path / "checkpoints/step_12")) == sorted(names)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_within_a_step_and_leaves_with_75(tmp_path, unbroken, number):
    class Signalling(ToyStream):
        def iterate(self, start_step):
            for step, batch in enumerate(super().iterate(start_step)):
                if step == 3:
                    os.kill(os.getpid(), number)
                yield batch

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as leaving:
        make_trainer(tmp_path, stream=Signalling()).fit()
    assert leaving.value.code == STOPPED == 75
    assert (tmp_path / "checkpoints/last").read_text() == "step_4\n"
    assert signal.getsignal(number) == before
    make_trainer(tmp_path).fit()
    assert_same_run(tmp_path, unbroken)


def test_a_finished_run_says_so_and_changes_nothing(tmp_path, caplog):
    config = replace(CONFIG, num_steps=3)
    make_trainer(tmp_path, config).fit()
    before = content(tmp_path / "checkpoints/step_3"), (tmp_path / "losses.jsonl").read_bytes()
    caplog.set_level(logging.INFO)
    trainer = make_trainer(tmp_path, config, stream=ToyStream(fail_at=3))
    trainer.fit()
    assert "finished: 3 of 3 steps are done" in caplog.text
    assert (content(tmp_path / "checkpoints/step_3"), (tmp_path / "losses.jsonl").read_bytes()) == before
    assert trainer.step == 3


def test_a_longer_run_continues_a_finished_one(tmp_path):
    make_trainer(tmp_path, replace(CONFIG, num_steps=3)).fit()
    make_trainer(tmp_path, replace(CONFIG, num_steps=5, log_every=1, valid_every=0, save_every=5)).fit()
    assert [record["step"] for record in records(tmp_path, "train")] == [3, 4, 5]


def test_another_configuration_is_refused_with_the_keys_that_differ(tmp_path):
    make_trainer(tmp_path, replace(CONFIG, num_steps=3)).fit()
    with pytest.raises(UserError, match=r"optim.base_lr was 0.03 and is 0.01; seed was 3 and is 4"):
        make_trainer(tmp_path, optim=replace(OPTIM, base_lr=0.01), seed=4).fit()


def test_a_declared_change_of_the_configuration_goes_on_and_is_told(tmp_path, caplog):
    make_trainer(tmp_path, replace(CONFIG, num_steps=3)).fit()
    other = make_trainer(tmp_path, optim=replace(OPTIM, base_lr=0.01))
    other.declared = ["optim.base_lr"]
    other.fit()
    assert "as declared: optim.base_lr was 0.03 and is 0.01" in caplog.text and other.step == 12


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_continues(tmp_path, unbroken, caplog):
    make_trainer(tmp_path, replace(CONFIG, num_steps=9, save_every=7)).fit()
    victim = tmp_path / "checkpoints/step_9/optimizer.safetensors"
    data = bytearray(victim.read_bytes())
    data[-5] ^= 1
    victim.write_bytes(data)
    make_trainer(tmp_path).fit()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "step_9 is damaged (optimizer.safetensors" in warnings[0]
    assert_same_run(tmp_path, unbroken)
    assert not victim.exists(), "a damaged checkpoint must not outlive the good ones that follow"


def test_the_whole_configuration_stands_in_the_folder(unbroken):
    config = yaml.safe_load((unbroken / "config.yaml").read_text())
    assert config["training"]["num_steps"] == 12 and config["optim"]["clipping_scale"] == 2.0


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_checkpoint_that_cannot_be_written_stops_the_run_at_the_next_step(tmp_path, monkeypatch):
    config = replace(CONFIG, num_steps=40, save_every=10)
    make_trainer(tmp_path, replace(config, num_steps=10)).fit()
    monkeypatch.setattr("icefall_alp.training.checkpoint.save_file", full_disk)
    trainer = make_trainer(tmp_path, config, stream=Waiting())
    Waiting.writer = trainer.writer
    with pytest.raises(UserError, match="No space left on device"):
        trainer.fit()
    assert 20 <= trainer.step <= 22
    assert [path.name for path in (tmp_path / "checkpoints").glob("step_*")] == ["step_10"]


class Waiting(ToyStream):
    """Steps so slow that a checkpoint is written, or fails, in the meantime."""

    def iterate(self, position):
        for batch in super().iterate(position):
            if self.writer._thread is not None:
                self.writer._thread.join()
            yield batch


def test_a_full_disk_under_the_loss_log_is_told_in_one_line_and_the_checkpoint_stays(tmp_path, monkeypatch):
    make_trainer(tmp_path, replace(CONFIG, num_steps=3)).fit()
    monkeypatch.setattr("icefall_alp.training.metrics._forget_after", lambda *_: None)  # that file has no end
    (tmp_path / "losses.jsonl").unlink()
    (tmp_path / "losses.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        make_trainer(tmp_path).fit()
    assert (tmp_path / "checkpoints/last").read_text() == "step_3\n"


@pytest.mark.parametrize("name", ["", "train.log", "checkpoints", "tensorboard", "losses.jsonl"])
def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path, name):
    """A file in place of a folder, or a folder in place of a file: what even root is refused."""
    exp_dir = tmp_path / "exp"
    if name.endswith((".log", ".jsonl")):
        (exp_dir / name).mkdir(parents=True)
    else:
        (exp_dir if name else tmp_path).mkdir(exist_ok=True)
        (exp_dir / name).write_text("")
    with pytest.raises(UserError, match=rf"cannot (write|complete folder) .*exp.*{name}"):
        make_trainer(exp_dir, replace(CONFIG, num_steps=3)).fit()


def test_never_silently_from_scratch(tmp_path):
    make_trainer(tmp_path, replace(CONFIG, num_steps=3)).fit()
    (tmp_path / "checkpoints/step_3/model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint is intact"):
        make_trainer(tmp_path).fit()


def test_validation_and_logging_leave_no_trace_in_the_weights(tmp_path, unbroken):
    make_trainer(tmp_path, replace(CONFIG, valid_every=1, log_every=1, save_every=12)).fit()
    for name in ("model.safetensors", "average.safetensors", "optimizer.safetensors"):
        ours, theirs = (folder / "checkpoints/step_12" / name for folder in (tmp_path, unbroken))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path):
    config = replace(CONFIG, num_steps=4, log_every=1)
    trainer = make_trainer(tmp_path, config, stream=ToyStream(damage=range(2, 3)), noise=False)
    trainer.fit()
    assert [record["skipped"] for record in records(tmp_path, "train")] == [0, 0, 1, 1]
    assert all(torch.isfinite(parameter).all() for parameter in trainer.objective.parameters())
    other = make_trainer(None, replace(config, num_steps=2), noise=False)
    other.fit()
    stopped = make_trainer(None, replace(config, num_steps=3), stream=ToyStream(damage=range(2, 3)), noise=False)
    stopped.fit()
    assert torch.equal(stopped.objective.audio_encoder.weight, other.objective.audio_encoder.weight)


def test_too_many_bad_steps_in_a_row_stop_with_the_cut_ids(tmp_path):
    with pytest.raises(UserError, match=r"20 steps in a row, up to step 21.*cut_20_0, cut_20_1, cut_20_2, cut_20_3"):
        make_trainer(tmp_path, replace(CONFIG, num_steps=30), stream=ToyStream(damage=range(1, 40))).fit()


def test_logged_losses_are_sums_divided_once(tmp_path):
    config = replace(CONFIG, num_steps=3, log_every=3, valid_every=0)
    trainer = make_trainer(tmp_path, config, optim=replace(OPTIM, base_lr=1e-12), noise=False)
    outputs = [trainer.objective(make_batch(index)) for index in (0, 1, 2)]
    held_out = [trainer.objective(make_batch(index)) for index in (100, 101, 102)]
    trainer.fit()
    expected = sum(float(o.total.detach()) for o in outputs) / sum(int(o.count) for o in outputs)
    assert records(tmp_path, "train")[0]["loss"] == pytest.approx(expected, rel=1e-5)
    expected = sum(float(o.total.detach()) for o in held_out) / sum(int(o.count) for o in held_out)
    assert records(tmp_path, "valid")[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_encoder_knows_what_the_summed_loss_is_multiplied_by(tmp_path):
    trainer = make_trainer(tmp_path, replace(CONFIG, num_steps=3, valid_every=0))
    trainer.fit()
    counts = [len(make_batch(index).features) for index in (0, 1, 2)]
    assert trainer.objective.audio_encoder.loss_scales == pytest.approx([1 / count for count in counts])


def test_schedules_follow_steps_epochs_and_seconds(tmp_path):
    trainer = make_trainer(tmp_path, replace(CONFIG, log_every=1))
    trainer.fit()
    assert trainer.objective.audio_encoder.batch_counts == [step * 10.0 / 20.0 for step in range(12)]
    for step, record in enumerate(records(tmp_path, "train")):
        assert record["epoch"] == step // 5
        assert record["lr"] == pytest.approx(0.03 * eden_factor(step, step // 5, 10.0, 3.5, 5, 0.5))


def test_steps_per_epoch_replaces_passes_over_the_data(tmp_path):
    make_trainer(tmp_path, replace(CONFIG, log_every=1), optim=replace(OPTIM, steps_per_epoch=2)).fit()
    assert [record["epoch"] for record in records(tmp_path, "train")] == [step // 2 for step in range(12)]


def test_it_learns_and_without_a_folder_it_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steady = replace(OPTIM, lr_steps=1e6, lr_epochs=1e6)
    trainer = make_trainer(None, replace(CONFIG, num_steps=150), steady, noise=False)
    before = trainer.validate()["loss"]
    trainer.fit()
    assert trainer.validate()["loss"] < 0.8 * before
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_stays_close_to_float32():
    losses = []
    for precision in ("float32", "bfloat16"):
        trainer = make_trainer(None, replace(CONFIG, precision=precision), noise=False)
        losses.append(float(trainer.gradients.backward([make_batch(0)]).own_total))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_unknown_precision_is_refused():
    with pytest.raises(UserError, match="float8"):
        make_trainer(None, replace(CONFIG, precision="float8"))


def test_the_text_log_tells_speed_waiting_and_padding(unbroken):
    text = (unbroken / "train.log").read_text()
    line = next(line for line in text.splitlines() if "step 5 train:" in line)
    for word in (
        "loss",
        "accuracy",
        "grad_norm",
        "clip_factor",
        "lr",
        "audio-s/s",
        "MFU",
        "TFLOP/s",
        "data wait",
        "padding",
        "hours left",
    ):
        assert f" {word} " in line
    assert list((unbroken / "tensorboard").iterdir())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_a_killed_run_started_again_equals_the_unbroken_one(tmp_path, monkeypatch, precision):
    monkeypatch.delenv("ALP_DEVICE")
    config = replace(CONFIG, precision=precision)
    trainer = make_trainer(tmp_path / "unbroken", config)
    assert next(trainer.objective.parameters()).is_cuda
    trainer.fit()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "broken", config, stream=ToyStream(fail_at=11)).fit()
    torch.manual_seed(99)
    make_trainer(tmp_path / "broken", config).fit()
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken")
