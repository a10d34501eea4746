# SPDX-License-Identifier: Apache-2.0
"""The encoder as a whole: lengths, independence of padding, and what training keeps."""

from __future__ import annotations

import copy
import dataclasses
import json
import random

import pytest
import torch

from icefall_alp.models import AudioEncoder
from icefall_alp.utils.errors import UserError
from test.models.small_encoder import SMALL, lively

LOG_EPSILON = -23.0259


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    return lively(AudioEncoder(SMALL)).eval()


def batch(lengths, width=None, fill=LOG_EPSILON):
    """Clips that depend on their length alone, padded to `width` frames."""
    features = torch.full((len(lengths), width or max(lengths), 80), fill)
    for item, length in enumerate(lengths):
        features[item, :length] = torch.randn(length, 80, generator=torch.Generator().manual_seed(length)) * 3 - 8
    return features, torch.tensor(lengths)


def encode(encoder, *arguments, **keywords):
    with torch.no_grad():
        return encoder(*batch(*arguments, **keywords))


def test_lengths_at_25_hz(encoder):
    for start in range(9, 201, 24):
        lengths = list(range(start, min(start + 24, 201)))
        out, lens = encode(encoder, lengths)
        assert lens.tolist() == [((length - 7) // 2 + 1) // 2 for length in lengths]
        assert out.shape == (len(lengths), int(lens.max()), 40) and out.isfinite().all()
    assert encoder.output_dim == 40
    assert encode(encoder, [1000])[0].shape[1] == 248


@pytest.mark.parametrize("length", [9, 10, 16, 37, 77, 100, 101, 150, 203])
def test_a_clip_does_not_depend_on_batch_mates_or_padding(encoder, length):
    alone, lens = encode(encoder, [length])
    batches = [
        ([length, 203], None, LOG_EPSILON),
        ([9, length, 64, 31, 180], 300, LOG_EPSILON),
        ([length], length + 57, 0.0),
        ([length, 250], 251, 1000.0),
    ]
    if length == 100:
        batches.append(([length, 31], 6000, LOG_EPSILON))  # 60 s
    for lengths, width, fill in batches:
        out, out_lens = encode(encoder, lengths, width, fill)
        item = lengths.index(length)
        assert out_lens[item] == lens[0]
        torch.testing.assert_close(out[item, : lens[0]], alone[0], rtol=0, atol=1e-5)


def test_without_masking_padding_leaks_but_a_clip_alone_is_the_same(encoder):
    leaky = AudioEncoder(dataclasses.replace(SMALL, mask_padding=False)).eval()
    leaky.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encode(leaky, [77])[0], encode(encoder, [77])[0], rtol=0, atol=0)
    assert (encode(leaky, [77, 203])[0][0, :18] - encode(leaky, [77])[0][0]).abs().max() > 1e-3


def test_gradients_do_not_depend_on_padding(encoder):
    """Without noise the summed loss over a batch has the gradients of its clips one by one."""
    lengths = [203, 64, 31]

    def gradients(groups):
        encoder.zero_grad()
        for group in groups:
            out, lens = encoder(*batch(group))
            valid = torch.arange(out.shape[1]) < lens[:, None]
            (out * valid[..., None]).square().sum().backward()
        return {k: p.grad.clone() for k, p in encoder.named_parameters() if p.grad is not None}

    together, one_by_one = gradients([lengths]), gradients([[n] for n in lengths])
    difference = sum((together[k] - one_by_one[k]).square().sum() for k in together).sqrt()
    assert difference <= 1e-5 * sum(g.square().sum() for g in one_by_one.values()).sqrt()


@pytest.mark.parametrize(
    ("features", "lens", "message"),
    [
        (torch.zeros(2, 50, 80), [50, 8], "item 1 of the batch has 8 frames"),
        (torch.zeros(2, 50, 80), [51, 50], "item 0 of the batch has 51 frames"),
        (torch.zeros(2, 50, 64), [50, 50], "expected \\(N, T, 80\\)"),
        (torch.zeros(2, 50, 80), [50], "expected"),
        (torch.zeros(0, 50, 80), [], "expected"),
    ],
)
def test_bad_batches_are_named(encoder, features, lens, message):
    with pytest.raises(UserError, match=message):
        encoder(features, torch.tensor(lens, dtype=torch.int64))


def test_training_step_gives_every_trained_parameter_a_gradient():
    torch.manual_seed(0)
    random.seed(0)
    model = AudioEncoder(SMALL).train()
    model.set_batch_count(2000)
    names: set[str] = set()
    for _ in range(6):
        out, _ = model(*batch([90, 60, 120]))
        out.square().mean().backward()
        names |= {k for k, p in model.named_parameters() if p.grad is not None}
    assert names == {k for k, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_training_under_autocast_follows_full_precision(encoder):
    features, lens = batch([90, 60])
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = encoder(features, lens)
    full, _ = encoder(features, lens)
    assert torch.nn.functional.cosine_similarity(half.float().flatten(), full.flatten(), dim=0) > 0.999
    half.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)
    encoder.zero_grad()


def test_the_front_end_sees_all_frames_of_the_longest_clip(encoder):
    """The last of an even number makes no frame of its own, but the front end's regularisers look at it."""
    model, seen = copy.deepcopy(encoder), []
    model.encoder_embed.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].shape[1]))
    features, lens = batch([203, 204])
    model(torch.nn.functional.pad(features, (0, 0, 0, 5)), lens)
    assert seen == [204]


@pytest.mark.parametrize("mask_padding", [True, False])
def test_frames_that_a_gpu_adds_for_alignment_change_nothing(encoder, monkeypatch, mask_padding):
    """They are added where padding is masked only: icefall's encoder sees its padding."""
    model = copy.deepcopy(encoder)
    model.config = model.encoder.config = dataclasses.replace(SMALL, mask_padding=mask_padding)
    features, lens = batch([203, 64, 31])
    expected, expected_lens = model(features, lens)
    aligned, seen = model._aligned, []
    monkeypatch.setattr(model, "_aligned", lambda count, device: aligned(count, torch.device("meta")))
    model.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].shape[1]))
    out, out_lens = model(features, lens)
    assert seen == [112 if mask_padding else 98] and torch.equal(out_lens, expected_lens)
    assert out.shape == expected.shape
    for ours, theirs, length in zip(out, expected, out_lens, strict=True):
        torch.testing.assert_close(ours[:length], theirs[:length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "there"), [(9, 40), (968, 968), (969, 1000), (975, 1000), (999, 1000), (1000, 1000), (1001, 1032)]
)
def test_lengths_that_give_as_many_frames_on_a_gpu_are_one_length_there(encoder, frames, there):
    """What a GPU prepares for a length, such as a recording, then serves all of them."""
    assert encoder._aligned(frames, torch.device("meta")) == there
    assert encoder._aligned(frames, torch.device("cpu")) == frames


@pytest.mark.gpu
def test_a_gpu_gives_the_same_outputs_and_gradients(encoder):
    results = []
    for device in ("cpu", "cuda"):
        model = copy.deepcopy(encoder).to(device)
        features, lens = batch([203, 64, 31])
        out, out_lens = model(features.to(device), lens.to(device))
        valid = torch.arange(out.shape[1], device=device) < out_lens[:, None]
        (out * valid[..., None]).square().sum().backward()
        grads = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        results.append((out[valid].detach().cpu(), grads))
    for ours, theirs in zip(*results, strict=True):
        assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_training_state_travels_through_json():
    model = AudioEncoder(SMALL)
    model.set_batch_count(77.5)
    model.encoder.encoders[0].layers[0].whiten.prob = 0.025
    state = json.loads(json.dumps(model.training_state()))
    other = AudioEncoder(SMALL)
    other.set_training_state(state)
    assert other.training_state() == model.training_state()
    assert other.clock.batch_count == 77.5 and other.encoder.encoders[0].layers[0].whiten.prob == 0.025
    assert copy.deepcopy(other).clock is not other.clock


def test_a_frozen_encoder_is_one_graph_for_each_length_behind_the_look_at_lengths(encoder):
    """As a compiler needs it for CUDA graphs: after the first look nothing reads the device, nothing decides."""
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(encoder, dynamic=False, backend=backend)
    encode(encoder, [90, 40])  # the table of positions is now as long as it needs to be
    for frames in (90, 60, 90, 60):
        ours, _ = encode(compiled, [frames, 40])
        torch.testing.assert_close(ours, encode(encoder, [frames, 40])[0], rtol=1e-3, atol=1e-4)
    torch.compiler.reset()
    assert len(graphs) == 4  # the look and the encoder, for two lengths
