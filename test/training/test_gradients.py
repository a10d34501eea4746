# SPDX-License-Identifier: Apache-2.0
"""Micro-batches give the gradient of the whole batch; embeddings kept and compared give that of one large batch."""

import json
import random
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from faults import forks
from faults.workbench import OBJECTIVES
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_toys import CONFIG, ToyObjective, join, make_batch, make_trainer

from icefall_alp.config import SpecAugmentConfig, TrainingConfig
from icefall_alp.data.device_features import Waveforms, tabulate
from icefall_alp.data.spec_augment import draw_augmentation
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


@pytest.fixture
def pinned(monkeypatch):
    """Memory that can be pinned, as where there is an accelerator; what was pinned is known by its place."""
    kept = {}

    def pin(x):
        copy = x.clone()
        kept[copy.untyped_storage().data_ptr()] = copy
        return copy

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(Tensor, "is_pinned", lambda x: x.untyped_storage().data_ptr() in kept)
    monkeypatch.setattr(Tensor, "pin_memory", pin)


class CopiesDoNotWait(TorchDispatchMode):
    """Refuses tensors of the CPU on their way to a device, but from pinned memory and asynchronously."""

    COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if any(place != "cpu" for place in places(result)):
            copies = function in self.COPIES
            free = copies and (kwargs.get("non_blocking") or args[2:] == (True,))
            for x in tree_leaves((args, kwargs)):
                # a single number takes part in arithmetic without being copied
                if places(x) == ["cpu"] and (copies or x.dim()):
                    assert free and x.is_pinned(), f"{function} waits for a copy of {tuple(x.shape)}"
        return result


class NumbersAreFilledIn(TorchFunctionMode):
    """Refuses numbers of Python that become a tensor on a device by a copy; the mode above does not see them."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            assert places(result) == ["cpu"], f"{function.__name__} waits for a copy"
        return result


def places(tree):
    return [x.device.type for x in tree_leaves(tree) if isinstance(x, Tensor)]


def as_waveforms(batch):
    """The batch as it would come from stored audio, to be augmented."""
    lens, generator = batch.feature_lens.tolist(), np.random.default_rng(0)
    drawn = [draw_augmentation(length, 80, SpecAugmentConfig(probability=1.0), generator) for length in lens]
    samples = torch.randint(-9999, 9999, (len(lens), 160 * max(lens)), dtype=torch.int16)
    return replace(batch, features=Waveforms(samples, 160 * batch.feature_lens, tabulate(lens, drawn, 80)))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_step_neither_reads_from_the_device_nor_waits_to_write(bench, monkeypatch, pinned, kind):
    """Tensors on the meta device have no content: whatever would wait for one raises an error."""
    trainer = bench.trainer(kind, None, TrainingConfig(num_steps=1))
    batch = as_waveforms(next(trainer.train_stream.iterate(0))).pin_memory()
    monkeypatch.setattr(chains, "form_for", lambda device_type: closed)
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # unknown to this device
    monkeypatch.setattr(random, "random", lambda: 0.0)  # every regulariser looks
    place = torch.device("meta")
    objective = trainer.objective.to(place).train()
    objective.set_batch_count(100.0)
    gradients = Gradients(objective, "float32", place)
    optimizer = ScaledAdam(parameter_groups(objective, 0.045), lr=0.045)
    gradients.backward([batch])  # makes tables, which stay
    optimizer.step()
    with NumbersAreFilledIn(), CopiesDoNotWait():
        result = gradients.backward([batch], asked_to_stop=True)
        optimizer.step()
    assert result.sums.is_meta and all(gradient.is_meta for gradient in gradients.present())
    looked = [module.violated for module in objective.modules() if isinstance(module, Whiten)]
    assert looked and all(violated.is_meta for violated in looked)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        objective.settle()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_gpu_is_not_waited_for(bench, monkeypatch, kind):
    trainer = bench.trainer(kind, None, TrainingConfig(num_steps=1, precision="bfloat16"))
    monkeypatch.setattr(random, "random", lambda: 0.0)  # every regulariser looks
    batch = as_waveforms(next(trainer.train_stream.iterate(0))).pin_memory()
    trainer.objective.train().set_batch_count(100.0)
    trainer.gradients.backward([batch])  # makes tables and compiles kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = trainer.gradients.backward([batch], asked_to_stop=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result.sums.isfinite().all() and result.sums[2] == 1


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


def test_of_a_batch_embedded_in_parts_one_graph_is_there_at_a_time(bench, monkeypatch):
    trainer, made, kept = contrastive(bench), [], []
    embed = trainer.objective.embed

    def watched(batch):
        kept.append(sum(embedding() is not None for embedding in made))
        embedding, logs = embed(batch)
        made.append(weakref.ref(embedding))
        return embedding, logs

    monkeypatch.setattr(trainer.objective, "embed", watched)
    trainer.gradients.backward(batches_of(trainer, 3))
    assert kept == [0] * 6


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
