# SPDX-License-Identifier: Apache-2.0
"""Micro-batches give the gradient of the whole batch; embeddings kept and compared give that of one large batch."""

import json
import random
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from faults import forks
from faults.workbench import Workbench
from safetensors.torch import load_file, save_file
from training_toys import CONFIG, ToyObjective, join, make_batch, make_trainer

from icefall_alp.config import TrainingConfig
from icefall_alp.models.kernels import chains, closed
from icefall_alp.models.zipformer.regularizers import Whiten
from icefall_alp.objectives.base import LossOutput
from icefall_alp.training.gradients import Gradients
from icefall_alp.training.scaled_adam import ScaledAdam, parameter_groups
from icefall_alp.utils import distributed
from icefall_alp.utils.seeds import seed_everything


class Separate(ToyObjective):
    """A loss in which clips do not know each other."""

    def forward(self, batch):
        pooled = batch.features.sum(1) / batch.feature_lens[:, None]
        total = (self.audio_encoder(pooled) - self.tied_encoder(batch.targets)).square().sum()
        return LossOutput(total, torch.tensor(len(batch.targets)), {})


def flat_gradient(objective):
    return torch.cat([parameter.grad.flatten() for parameter in objective.parameters() if parameter.grad is not None])


def test_micro_batches_add_up_to_the_whole_batch():
    whole = make_trainer(None, noise=False, kind=Separate)
    expected = whole.gradients.backward([join(join(make_batch(0), make_batch(1)), make_batch(2))])
    parts = make_trainer(None, noise=False, kind=Separate)
    found = parts.gradients.backward([make_batch(index) for index in range(3)], asked_to_stop=True)
    torch.testing.assert_close(found.sums[:2], expected.sums[:2], rtol=1e-6, atol=0)
    assert found.sums[2] == 1
    torch.testing.assert_close(flat_gradient(parts.objective), flat_gradient(whole.objective), rtol=1e-6, atol=1e-7)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Workbench.build(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("kind", ["contrastive", "captioning", "tagging"])
def test_a_step_reads_nothing_from_the_device(bench, monkeypatch, kind):
    """Tensors on the meta device have no content: whatever would wait for one raises an error."""
    trainer = bench.trainer(kind, None, TrainingConfig(num_steps=1))
    batch = next(trainer.train_stream.iterate(0))
    monkeypatch.setattr(chains, "form_for", lambda device_type: closed)
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # unknown to this device
    monkeypatch.setattr(random, "random", lambda: 0.0)  # every regulariser looks
    place = torch.device("meta")
    objective = trainer.objective.to(place).train()
    objective.set_batch_count(100.0)
    gradients = Gradients(objective, "float32", place)
    result = gradients.backward([batch])
    ScaledAdam(parameter_groups(objective, 0.045), lr=0.045).step()
    assert result.sums.is_meta and all(gradient.is_meta for gradient in gradients.present())
    looked = [module.violated for module in objective.modules() if isinstance(module, Whiten)]
    assert looked and all(violated.is_meta for violated in looked)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        objective.settle()


def contrastive(bench, **training):
    """A trainer whose randomness is dropout alone, which embedding twice must repeat."""
    trainer = bench.trainer("contrastive", None, TrainingConfig(num_steps=1, **training))
    trainer.objective.set_batch_count(1e6)
    trainer.objective.train()
    for module in trainer.objective.modules():
        if isinstance(module, Whiten):
            module.prob = 0.0
    return trainer


@contextmanager
def double_precision():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def batches_of(trainer, number, start=0):
    stream = trainer.train_stream.iterate(start)
    return [next(stream) for _ in range(number)]


def test_embeddings_kept_and_compared_give_the_gradient_of_one_large_batch(bench):
    """Against all micro-batches embedded once, with every graph in memory, and one loss of all."""
    direct = contrastive(bench)
    seed_everything(5)
    objective = direct.objective
    embeddings = torch.cat([objective.embed(batch)[0] for batch in batches_of(direct, 4)])
    output = objective.compare(embeddings)
    objective.set_loss_scale(1 / output.count)
    (output.total / output.count).backward()
    cached = contrastive(bench)
    seed_everything(5)
    result = cached.gradients.backward(batches_of(cached, 4))
    assert result.sums[1] == len(embeddings) > 8
    assert float(result.sums[0]) == pytest.approx(output.total.item(), rel=1e-6)
    for (name, one), other in zip(objective.named_parameters(), cached.objective.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert cached.objective.logit_scale.grad != 0
    merged = {name for logs in result.logs for name in logs}
    assert merged == {"captions_cut", "temperature", "R@1_audio_to_text", "R@1_text_to_audio"}


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 2), (4, 1), (2, 1)])
def test_processes_and_micro_batches_divide_the_same_large_batch(bench, tmp_path, world_size, accumulate):
    """R20: 1 process x 4, 2 x 2 and 4 x 1 (and 2 x 1 of half of it) give one loss and one gradient."""

    def deterministic():
        with double_precision():
            trainer = contrastive(bench)
        for name, module in trainer.objective.named_modules():
            if name.endswith("linear_pos"):  # positions are float32 by themselves
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
        trainer.objective.eval()  # what one process draws, another draws for other clips
        return trainer

    def batches(trainer, number):
        return [replace(batch, features=batch.features.double()) for batch in batches_of(trainer, number)]

    def work():
        trainer = deterministic()
        sums = trainer.gradients.backward(batches(trainer, accumulate)).sums
        named = {name: p.grad for name, p in trainer.objective.named_parameters() if p.grad is not None}
        save_file({**named, "sums": sums}, tmp_path / f"{distributed.rank()}.safetensors")

    forks.run(work, tmp_path / "log", world_size)
    whole = deterministic()
    result = whole.gradients.backward(batches(whole, world_size * accumulate))
    norm = flat_gradient(whole.objective).norm()
    for rank in range(world_size):
        found = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(found["sums"], result.sums, rtol=1e-6, atol=0)
        for name, parameter in whole.objective.named_parameters():
            if parameter.grad is not None:
                assert (found[name] - parameter.grad).norm() <= 1e-6 * norm, name


def test_losses_do_not_depend_on_how_an_update_is_divided(tmp_path):
    """R2: an update of four micro-batches, by 1, 2 or 4 processes, which change twice on the way."""

    def phase(folder, num_steps, accumulate):
        config = replace(CONFIG, num_steps=num_steps, accumulate=accumulate, log_every=1, valid_every=0)
        return lambda: make_trainer(tmp_path / folder, config, noise=False, kind=Separate).fit()

    forks.run(phase("alone", 9, 4), tmp_path / "log")
    for world_size, num_steps in ((1, 2), (2, 4), (4, 7), (2, 9)):
        forks.run(phase("changing", num_steps, 4 // world_size), tmp_path / "log", world_size)
    alone, changing = (
        [line["train"]["loss"] for line in map(json.loads, path.open()) if "train" in line]
        for path in (tmp_path / "alone/losses.jsonl", tmp_path / "changing/losses.jsonl")
    )
    assert len(alone) == 9 and changing == pytest.approx(alone, rel=1e-5)


def test_float16_survives_overflow_and_ends_near_float32(tmp_path):
    losses = []
    for precision in ("float32", "float16"):
        trainer = make_trainer(None, replace(CONFIG, precision=precision), noise=False)
        losses.append(float(trainer.gradients.backward([make_batch(0)]).own_total))
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.01)
    trainer.gradients.loss_scale.value = 2.0**24 * 2.0**100
    before = [parameter.clone() for parameter in trainer.objective.parameters()]
    trainer.train_step([make_batch(0)])
    assert trainer.num_skipped == 1 and trainer.gradients.loss_scale.value == 2.0**123
    assert all(torch.equal(*pair) for pair in zip(before, trainer.objective.parameters(), strict=True))
    trainer.gradients.loss_scale.value = 2.0**10
    trainer.train_step([make_batch(0)])
    assert trainer.num_skipped == 1
    expected = make_trainer(None, CONFIG, noise=False)
    expected.gradients.backward([make_batch(0)])
    found = make_trainer(None, replace(CONFIG, precision="float16"), noise=False)
    found.gradients.backward([make_batch(0)])
    torch.testing.assert_close(flat_gradient(found.objective), flat_gradient(expected.objective), rtol=0.05, atol=5e-3)
