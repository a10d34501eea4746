# SPDX-License-Identifier: Apache-2.0
"""The whole encoder against golden values: activations of all stacks, gradients, the causal option."""

from __future__ import annotations

import dataclasses
import statistics

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from icefall_alp.models.zipformer import step_draws
from icefall_alp.models.zipformer.encoder import Zipformer
from icefall_alp.models.zipformer.masks import padding_mask
from icefall_alp.models.zipformer.resampling import widest

ACTIVATION = {"rtol": 1e-5, "atol": 2e-5}


def test_eval_activations(tiny, tiny_input, golden, close):
    expected = golden("tiny_eval.safetensors")
    x, lens, target = tiny_input
    with torch.no_grad():
        embed = tiny.encoder.encoder_embed(x)
        embed_lens = (lens - 7) // 2
        stacks = tiny.encoder.encoder.stack_outputs(embed, padding_mask(embed_lens, embed.shape[1]), None)
        out, out_lens = tiny.encoder(x, lens)
        logits, loss = tiny.logits(out, out_lens), tiny.loss(x, lens, target)
    close(embed, expected["eval/embed"], **ACTIVATION)
    assert torch.equal(embed_lens, expected["eval/embed_lens"])
    for index, stack in enumerate(stacks):
        close(stack.transpose(0, 1), expected[f"eval/stack{index}"], **ACTIVATION)
    close(torch.cat(widest(stacks), dim=-1).transpose(0, 1), expected["eval/full_dim_before_downsample"], **ACTIVATION)
    close(out, expected["eval/encoder_out"], **ACTIVATION)
    assert torch.equal(out_lens, expected["eval/encoder_out_lens"])
    close(logits, expected["eval/logits"], **ACTIVATION)
    close(loss, expected["eval/loss_eval"], rtol=1e-6, atol=0)


def train(model, tiny_input, batch_count, monkeypatch):
    model.train()
    model.without_noise()
    monkeypatch.setattr(step_draws, "FEATURE_DROP_PROB", -1.0)
    model.encoder.set_batch_count(batch_count)
    x, lens, target = tiny_input
    x = x.clone().requires_grad_(True)
    loss = model.loss(x, lens, target)
    loss.backward()
    return loss.detach(), model.gradients(), x.grad


def distance(ours, reference, names):
    difference = sum((ours[n] - reference[f"grad/{n}"]).square().sum() for n in names).sqrt()
    return float(difference / sum(reference[f"grad/{n}"].square().sum() for n in names).sqrt())


def golden_names(expected, kind):
    return [k.removeprefix(f"{kind}/") for k in expected if k.startswith(f"{kind}/")]


def test_gradients_without_modifiers(tiny, tiny_input, golden, close, draw, monkeypatch):
    draw(0.999)
    expected = golden("tiny_train_plain.safetensors")
    loss, grads, x_grad = train(tiny, tiny_input, 1e6, monkeypatch)
    close(loss, expected["loss"], rtol=1e-6, atol=0)
    names = golden_names(expected, "grad")
    assert set(grads) == set(names)  # the unused layer-level bypass_scale has no gradient on either side
    for name in names:
        reference = expected[f"grad/{name}"]
        assert (grads[name] - reference).norm() <= 2e-4 * reference.norm() + 2e-6, name
    assert distance(grads, expected, names) < 2e-5
    close(x_grad.sum(0), expected["x_grad_sum_over_batch"], rtol=2e-4, atol=2e-6)


def test_gradients_with_all_modifiers(tiny, tiny_input, golden, close, draw, monkeypatch):
    draw(0.0)
    expected = golden("tiny_train_allmods.safetensors")
    loss, grads, _ = train(tiny, tiny_input, 1000, monkeypatch)
    close(loss, expected["loss"], rtol=1e-6, atol=0)
    assert distance(grads, expected, golden_names(expected, "grad")) < 2e-5
    names = golden_names(expected, "grad_norm")
    assert set(names) == set(grads)
    errors = {}
    for name in names:
        reference = float(expected[f"grad_norm/{name}"])
        difference = abs(float(grads[name].norm()) - reference)
        # The absolute part is float32 rounding in the reference: its output down-sampling gradient, of norm 6e-5,
        # must sum to zero and misses that by 2.5e-7.
        assert difference <= 3e-3 * reference + 2e-6, name
        errors[name] = difference / reference
    assert statistics.median(errors.values()) < 1e-6


@pytest.mark.parametrize(("chunk_size", "key"), [(8, "y_chunk8_left16"), (-1, "y_fullcontext")])
def test_causal_option(golden, make_config, close, chunk_size, key):
    expected = golden("tiny_causal.safetensors")
    config = make_config(golden("tiny_causal_config.json"))
    encoder = Zipformer(dataclasses.replace(config, chunk_size=(chunk_size,))).eval()
    encoder.load_state_dict({k.removeprefix("state/"): v for k, v in expected.items() if k.startswith("state/")})
    with torch.no_grad():
        out, lens = encoder(expected["x"].transpose(0, 1), expected["x_lens"], padded=True)
    close(out.transpose(0, 1), expected[key], **ACTIVATION)
    assert torch.equal(lens, expected["y_lens"])


def test_causal_frames_do_not_see_later_chunks(golden, make_config):
    torch.manual_seed(0)
    config = make_config(golden("tiny_causal_config.json"))
    encoder = Zipformer(config).eval()
    x = torch.randn(1, 32, 16)
    changed = x.clone()
    changed[:, 16:] += 1.0
    lens = torch.tensor([32])
    with torch.no_grad():
        a, b = encoder(x, lens, padded=False)[0], encoder(changed, lens, padded=False)[0]
    assert torch.equal(a[:, :8], b[:, :8])
    assert not torch.allclose(a[:, 8:], b[:, 8:])


@pytest.mark.parametrize("index", [0, 1])
def test_a_stack_may_be_wrapped(tiny, tiny_input, index):
    """Here to compute its activations again in backward; like `torch.compile` that hands attributes through."""
    x, lens, _ = tiny_input
    with torch.no_grad():
        expected, _ = tiny.encoder(x, lens)
        stacks = tiny.encoder.encoder.encoders
        stacks[index] = checkpoint_wrapper(stacks[index])
        found, _ = tiny.encoder(x, lens)
    torch.testing.assert_close(found, expected)
