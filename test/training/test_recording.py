# SPDX-License-Identifier: Apache-2.0
"""A replayed step against the same step run, decision by decision; a tape stands in for CUDA's graphs on a CPU."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from unittest.mock import Mock

import pytest
import torch
from tape import record
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_toys import ToyEncoder

from icefall_alp.config import TrainingConfig
from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.models.kernels import chains, closed, closed_modifiers, plain
from icefall_alp.models.zipformer import attention
from icefall_alp.models.zipformer.panel import Panel
from icefall_alp.training import recording
from icefall_alp.training.flop_counter import FlopCounter
from icefall_alp.training.recording import record_steps
from icefall_alp.utils.errors import UserError

SMALL = replace(
    ZipformerConfig(), frontend_channels=(2, 4, 6), num_encoder_layers=(1, 1), downsampling_factor=(1, 2),
    num_heads=(2, 2), cnn_module_kernel=(5, 5), query_head_dim=4, value_head_dim=4, pos_dim=8,
    encoder_dim=(8, 12), feedforward_dim=(16, 24), encoder_unmasked_dim=(8, 8),
)  # fmt: skip
EARLY, LATE = 1500.0, 50000.0  # late most branches are left out by nobody any more


@pytest.fixture(params=["plain", "closed", "Triton's"])
def form(request, monkeypatch):
    """How chains are computed, in operations that a tape can keep."""
    if request.param == "Triton's" and not find_spec("triton"):
        pytest.skip("no Triton")
    if request.param == "Triton's":
        from icefall_alp.models.kernels import triton_forms as chosen
    else:
        chosen = {"plain": plain, "closed": closed}[request.param]
    monkeypatch.setattr(chains, "form_for", lambda device_type: chosen)
    monkeypatch.setattr(closed_modifiers, "FREE_TO_LOOK", ())
    return request.param


@pytest.fixture
def on_tape(monkeypatch):
    monkeypatch.setattr(chains, "form_for", lambda device_type: closed)
    monkeypatch.setattr(closed_modifiers, "FREE_TO_LOOK", ())


def build(recorded, device="cpu"):
    torch.manual_seed(0)
    encoder = AudioEncoder(SMALL).to(device).train()
    if recorded:
        record_steps(encoder, record if device == "cpu" else None)
    return encoder


def train(encoder, step, half=False, frames=57, begin=EARLY):
    """One step without an update; everything that it leaves behind."""
    random.seed(step)
    torch.manual_seed(step)
    device = next(encoder.parameters()).device
    encoder.zero_grad()
    encoder.set_batch_count(begin + 10 * step)
    encoder.set_loss_scale(torch.tensor(0.5 + step, device=device))
    features, lens = torch.randn(3, frames, 80).to(device), torch.tensor([frames, 40, 31 + step])
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        encoder_out, encoder_out_lens = encoder(features, lens)
    encoder_out[:, :6].float().square().sum().backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in encoder.parameters()]
    looked = [name for name, module in encoder._whitens.items() if module.violated is not None]
    encoder.settle()
    probs = [module.prob for module in encoder._whitens.values()]
    drawn = random.random(), torch.rand(1).item(), torch.rand(1, device=device).item()
    return encoder_out.detach().clone(), encoder_out_lens, torch.cat([g.flatten() for g in grads]), looked, probs, drawn


def replays(encoder):
    return len(encoder.encode._recordings)


@pytest.mark.parametrize("begin", [EARLY, LATE])
def test_a_replayed_step_is_the_step_with_the_decisions_of_its_own_turn(form, begin):
    run, replayed = build(False), build(True)
    seen = set()
    for step in range(3 if form == "Triton's" else 8):
        wanted, ours = (train(encoder, step, begin=begin) for encoder in (run, replayed))
        torch.testing.assert_close(ours[0], wanted[0], rtol=1e-5, atol=1e-5)
        assert torch.equal(ours[1], wanted[1])
        assert (ours[2] - wanted[2]).norm() < 1e-5 * wanted[2].norm()
        assert ours[3:] == wanted[3:]
        seen.add(tuple(ours[3]))
    assert replays(replayed) == 1 and len(seen) > 2


@pytest.mark.parametrize("asleep", [False, True])
def test_every_regulariser_matters_in_a_replay(on_tape, monkeypatch, asleep):
    """All look in the step that is compared, none before: a replay that does not ask would differ."""
    monkeypatch.setattr(attention, "SCORE_LIMIT", 1e-3)
    monkeypatch.setattr(attention, "SCORE_PENALTY", 10.0)
    run, replayed = build(False), build(True)
    found = []
    for step, draw in enumerate((1.0, 1.0, 0.0)):
        monkeypatch.setattr(random, "random", lambda draw=draw: draw)
        if asleep and draw == 0.0:
            monkeypatch.setattr(Panel, "refresh", lambda panel: None)
        found = [train(encoder, step)[2] for encoder in (run, replayed)]
    difference = (found[0] - found[1]).norm() / found[0].norm()
    assert (difference > 1e-2) if asleep else (difference < 1e-5)


def test_in_bfloat16_a_replay_is_the_step(on_tape):
    run, replayed = build(False), build(True)
    for step in range(3):
        wanted, ours = (train(encoder, step, half=True) for encoder in (run, replayed))
        torch.testing.assert_close(ours[0], wanted[0], rtol=1e-2, atol=1e-2)
        assert (ours[2] - wanted[2]).norm() < 1e-2 * wanted[2].norm()


def test_a_replay_sees_new_parameters(on_tape):
    run, replayed = build(False), build(True)
    for step in range(3):
        for encoder in (run, replayed):
            with torch.no_grad():
                for parameter in encoder.parameters():
                    parameter.mul_(1.1)
        wanted, ours = (train(encoder, step) for encoder in (run, replayed))
        torch.testing.assert_close(ours[0], wanted[0], rtol=1e-5, atol=1e-5)
        assert (ours[2] - wanted[2]).norm() < 1e-5 * wanted[2].norm()


def test_shapes_are_recorded_each_on_its_own_and_share_memory(on_tape):
    run, replayed = build(False), build(True)
    for step, frames in enumerate([57, 90, 57, 90, 73, 57, 90, 73, 73, 57]):
        wanted, ours = (train(encoder, step, frames=frames) for encoder in (run, replayed))
        torch.testing.assert_close(ours[0], wanted[0], rtol=1e-5, atol=1e-5)
        assert (ours[2] - wanted[2]).norm() < 1e-5 * wanted[2].norm()
    assert replays(replayed) == 3


def test_a_recording_takes_nothing_from_the_host(on_tape, monkeypatch):
    """Tensors on the meta device have no content: reading one is an error, and so, in a recording, is a copy to it."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # unknown to this device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.bfloat16)
    recorded = []

    def inspect(function):
        with OnOneDevice() as device:
            function()
        recorded.append(device.num_operations)
        return function

    encoder = build(False).to("meta")
    record_steps(encoder, inspect)
    for step in range(2):
        encoder.clock.batch_count = step
        encoder(torch.empty(3, 57, 80, device="meta"), torch.tensor([57, 40, 31]))[0].sum().backward()
    assert len(recorded) == 2 and min(recorded) > 200


class OnOneDevice(TorchDispatchMode):
    """Refuses tensors of the CPU, but for numbers that are told with a launch."""

    def __init__(self):
        super().__init__()
        self.num_operations = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        copies = operation.overloadpacket.__name__ in ("_to_copy", "copy_")
        places = {x.device.type for x in tensors if x.dim() or copies}
        assert places <= {"meta"}, f"{operation} in a recording works on {places}"
        self.num_operations += 1
        return result


def test_micro_batches_add_their_gradients(on_tape):
    run, replayed = build(False), build(True)
    found = []
    for encoder in (run, replayed):
        for step in range(6):
            if step == 2:  # the first of the recording
                encoder.zero_grad()
            encoder.set_batch_count(EARLY + step // 2)
            random.seed(step)
            torch.manual_seed(step)
            encoder(torch.randn(2, 40, 80), torch.tensor([40, 31]))[0].sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-3)


def test_what_is_not_training_is_run(on_tape):
    encoder = build(True)
    features, lens = torch.randn(2, 40, 80), torch.tensor([40, 31])
    for step in range(3):
        encoder.set_batch_count(step)
        with torch.no_grad():
            encoder(features, lens)
        encoder.eval()(features, lens)
        encoder.train()
    assert replays(encoder) == 0 and not encoder.encode._seen


def test_a_step_whose_operations_are_counted_is_run(on_tape):
    encoder = build(True)
    for step in range(3):
        with FlopCounter() as counter:
            train(encoder, step)
    assert replays(encoder) == 0 and counter.total > 0
    for step in range(2):
        train(encoder, step)
    assert replays(encoder) == 1


def test_beyond_so_many_shapes_steps_are_run(on_tape, monkeypatch):
    monkeypatch.setattr(recording, "MOST", 1)
    encoder = build(True)
    for step, frames in enumerate((57, 57, 90, 90, 57)):
        train(encoder, step, frames=frames)
    assert [key[1] for key in encoder.encode._recordings] == [57]


def test_a_shape_is_recorded_when_it_is_seen_again_also_within_an_update(on_tape):
    """A batch larger than memory is embedded twice, with the same random numbers."""
    encoder, found = build(True), []
    features, lens = torch.randn(2, 40, 80), torch.tensor([40, 31])
    encoder.set_batch_count(LATE)
    for recorded in (0, 1):
        random.seed(0)
        torch.manual_seed(0)
        found.append(encoder(features, lens)[0].detach().clone())
        assert replays(encoder) == recorded
    torch.testing.assert_close(*found)


def test_a_backward_is_possible_once_and_before_the_next_forward(on_tape):
    encoder = build(True)
    features, lens = torch.randn(2, 40, 80), torch.tensor([40, 31])
    for step in range(2):
        encoder.set_batch_count(step)
        encoder(features, lens)
    first, second = (encoder(features, lens)[0].sum() for _ in range(2))
    with pytest.raises(RuntimeError, match="another batch was encoded"):
        first.backward()
    second.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="or it was called before"):
        second.backward()


@pytest.mark.parametrize("full", [torch.OutOfMemoryError(), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")])
def test_a_recording_without_memory_is_one_line(on_tape, full):
    encoder = build(False)
    record_steps(encoder, Mock(side_effect=[full, torch.AcceleratorError("CUDA error: illegal address")]))
    train(encoder, 1)
    with pytest.raises(UserError, match="no memory for a recording, which takes as much as a step besides"):
        train(encoder, 2)
    with pytest.raises(torch.AcceleratorError, match="illegal address"):  # any other fault is as it was
        train(encoder, 3)


def test_longer_clips_leave_the_tables_of_a_recording(on_tape):
    encoder = build(True)
    for step in range(2):
        train(encoder, step)
    tables = next(iter(encoder.encode._recordings.values()))._tables
    before = [table.clone() for table in tables]
    train(encoder, 2, frames=200)
    stack = encoder.encoder.encoders[0]
    assert stack.encoder_pos.table is not tables[0] and all(map(torch.equal, tables, before))


def test_what_cannot_be_recorded_is_one_line():
    with pytest.raises(UserError, match="cpu records no graphs; use run"):
        record_steps(AudioEncoder(SMALL))
    with pytest.raises(UserError, match="causal encoder draws chunks anew"):
        record_steps(
            AudioEncoder(replace(SMALL, causal=True, chunk_size=(16, -1), left_context_frames=(64, -1))), record
        )
    for other in (ToyEncoder(remembers=False), AudioEncoder(SMALL).requires_grad_(False)):
        with pytest.raises(UserError, match="there is no audio encoder to train"):
            record_steps(other, record)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_of_contrastive_steps_is_the_same(bench, on_tape, monkeypatch, accumulate):
    """Also where a batch larger than memory is embedded twice, with the same random numbers."""
    monkeypatch.setattr(recording, "graphs_on", lambda device: record)
    losses = []
    for recorded in (False, True):
        config = TrainingConfig(num_steps=1, accumulate=accumulate, encoder_steps="record" if recorded else "run")
        trainer = bench.trainer("contrastive", None, config)
        trainer.objective.train()
        batches = [next(trainer.train_stream.iterate(0))] * accumulate
        random.seed(0)
        torch.manual_seed(0)
        for step in range(3):
            trainer.objective.set_batch_count(EARLY + step)
            trainer.optimizer.zero_grad(set_to_none=True)
            sums = trainer.gradients.backward(batches).sums
            trainer.objective.settle()
            trainer.optimizer.step()
            losses.append((sums[0] / sums[1]).item())
        if recorded:
            assert replays(trainer.objective.audio_encoder) == 1
    assert losses[3:] == pytest.approx(losses[:3], rel=1e-4)


def test_whitens_that_do_not_judge_do_not_count(on_tape):
    """Of a part that is not trained."""
    run, replayed = build(False), build(False)
    for encoder in (run, replayed):
        encoder.encoder_embed.requires_grad_(False)
    record_steps(replayed, record)
    for step in range(3):
        wanted, ours = (train(encoder, step) for encoder in (run, replayed))
        assert ours[3:] == wanted[3:]
        assert (ours[2] - wanted[2]).norm() < 1e-5 * wanted[2].norm()


def test_a_verdict_of_before_outlives_a_recording(on_tape, monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 1.0)  # none looks
    encoder = build(False)
    encoder.encoder_embed.requires_grad_(False)
    record_steps(encoder, record)
    train(encoder, 0)
    encoder.set_batch_count(EARLY + 10)
    verdict = encoder.encoder_embed.out_whiten.violated = torch.tensor(True)
    encoder(torch.randn(3, 57, 80), torch.tensor([57, 40, 31]))[0].sum().backward()
    assert replays(encoder) == 1
    assert [module.violated for module in encoder._whitens.values() if module.violated is not None] == [verdict]
    (recorded,) = encoder.encode._recordings.values()
    assert all(violated is not verdict for violated in recorded._verdicts)


def test_an_interrupted_run_continues_with_the_masks_of_an_unbroken_one(on_tape):
    unbroken, continued = build(True), build(True)
    for step in range(2):
        train(unbroken, step, begin=LATE)
    continued.set_training_state(unbroken.training_state())
    for step in range(2, 4):  # of which `continued` runs the first
        wanted, ours = (train(encoder, step, begin=LATE) for encoder in (unbroken, continued))
        torch.testing.assert_close(ours[0], wanted[0], rtol=1e-5, atol=1e-5)
        assert ours[3:] == wanted[3:]


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
def test_on_a_gpu_a_graph_is_the_step(half):
    run, replayed = build(False, device="cuda"), build(True, device="cuda")
    for step in range(4):
        wanted, ours = (train(encoder, step, half) for encoder in (run, replayed))
        for found, expected in zip(ours[0:3:2], wanted[0:3:2], strict=True):
            assert (found.float() - expected.float()).norm() < (2e-2 if half else 1e-3) * expected.float().norm()
        assert ours[5] == wanted[5]
    assert replays(replayed) == 1
