# SPDX-License-Identifier: Apache-2.0
"""The encoder as a whole: lengths, independence of padding, saving, and strict loading of foreign formats."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pathlib
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.utils.errors import UserError

LOG_EPSILON = -23.0259
SMALL = ZipformerConfig(
    frontend_channels=(2, 4, 8),
    num_encoder_layers=(1, 2, 1, 1, 1, 1),
    encoder_dim=(16, 24, 32, 40, 32, 24),
    feedforward_dim=(32, 48, 64, 80, 64, 48),
    encoder_unmasked_dim=(16, 16, 16, 16, 16, 16),
    cnn_module_kernel=(7, 7, 5, 5, 5, 7),
    value_head_dim=4,
    pos_dim=16,
)


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    return lively(AudioEncoder(SMALL)).eval()


def lively(encoder: AudioEncoder) -> AudioEncoder:
    """Random parameters everywhere, so that nothing hides behind an initial value."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


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


def same(a: AudioEncoder, b: AudioEncoder) -> bool:
    states = a.state_dict(), b.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_save_and_load(encoder, tmp_path):
    encoder.save(tmp_path / "encoder")
    loaded = AudioEncoder.load(tmp_path / "encoder")
    names = ["config.yaml", "model.safetensors", "model.safetensors.sha256"]
    assert sorted(p.name for p in (tmp_path / "encoder").iterdir()) == names
    assert loaded.config == SMALL and same(loaded, encoder)
    assert not AudioEncoder.load(tmp_path / "encoder", mask_padding=False).config.mask_padding
    encoder.save(tmp_path / "encoder")  # a second time over the first
    assert same(AudioEncoder.load(tmp_path / "encoder"), encoder)


def icefall_checkpoint(encoder, path, **changes):
    """A checkpoint as icefall writes it: a head, averages, training options, half of them not tensors."""
    model = {**encoder.state_dict(), "classifier.1.weight": torch.zeros(527, 40), "classifier.1.bias": torch.zeros(527)}
    model = {k: v for k, v in {**model, **changes}.items() if v is not None}
    options = {"batch_idx_train": 7, "average_period": 200, "exp_dir": pathlib.PosixPath("exp"), "best": float("inf")}
    average = {k: v.double() for k, v in model.items()}
    torch.save({"model": model, "model_avg": average, "optimizer": {"state": {}}, **options}, path)
    return path


def test_icefall_checkpoint_of_any_width(encoder, tmp_path):
    loaded = AudioEncoder.load(icefall_checkpoint(encoder, tmp_path / "epoch-1.pt"))
    assert same(loaded, encoder)
    assert loaded.config == dataclasses.replace(SMALL, encoder_unmasked_dim=(16,) * 6)


def test_icefall_checkpoint_with_other_heads(tmp_path):
    config = dataclasses.replace(SMALL, num_heads=(2, 2, 2, 4, 2, 2), query_head_dim=8, pos_head_dim=2)
    path = icefall_checkpoint(AudioEncoder(config), tmp_path / "epoch-1.pt")
    with pytest.raises(UserError, match="say num_heads"):
        AudioEncoder.load(path)
    with pytest.raises(UserError, match="stack 0"):
        AudioEncoder.load(path, query_head_dim=8, pos_head_dim=2, num_heads=(4,) * 6)
    assert AudioEncoder.load(path, query_head_dim=8, pos_head_dim=2).config == config
    assert AudioEncoder.load(path, query_head_dim=8, pos_head_dim=2, num_heads=config.num_heads).config == config


@pytest.fixture
def auden_folder(encoder, tmp_path):
    folder = tmp_path / "auden"
    folder.mkdir()
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(SMALL).items()}
    for ours in ("frontend_channels", "mask_padding"):
        del config[ours]
    for width in ("query_head_dim", "value_head_dim", "pos_head_dim"):
        config[width] = [config[width]]
    config |= {"model_type": "zipformer", "output_downsampling_factor": 2, "warmup_batches": 4000.0, "dropout": None}
    (folder / "config.json").write_text(json.dumps(config))
    state = {**encoder.state_dict(), "model_batch_count": torch.tensor(1e5)}
    save_file(state, folder / "model.safetensors")
    return folder


def test_auden_folder(encoder, auden_folder):
    loaded = AudioEncoder.load(auden_folder)
    assert loaded.config == SMALL and same(loaded, encoder)
    assert not AudioEncoder.load(auden_folder, mask_padding=False).config.mask_padding


def test_auden_tagging_folder_with_a_pytorch_file(encoder, auden_folder):
    (auden_folder / "model.safetensors").unlink()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    torch.save({**state, "classifier.1.weight": torch.zeros(5, 40)}, auden_folder / "pretrained.pt")
    assert same(AudioEncoder.load(auden_folder), encoder)


def test_auden_config_must_fit_its_weights(auden_folder):
    config = json.loads((auden_folder / "config.json").read_text())
    (auden_folder / "config.json").write_text(json.dumps({**config, "encoder_dim": [16, 24, 32, 48, 32, 24]}))
    with pytest.raises(UserError, match=r"encoder_dim is .*40.* by the shapes but .*48"):
        AudioEncoder.load(auden_folder)
    (auden_folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json"):
        AudioEncoder.load(auden_folder)
    save_file({"x": torch.zeros(1)}, auden_folder / "other.safetensors")
    (auden_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="expected one"):
        AudioEncoder.load(auden_folder)


MISSING = "encoder.encoders.1.encoder.layers.1.norm.bias"


def test_missing_extra_and_misshapen_parameters_are_listed(encoder, tmp_path):
    path = icefall_checkpoint(encoder, tmp_path / "a.pt", **{MISSING: None, "encoder.surprise": torch.zeros(1)})
    with pytest.raises(UserError, match=f"1 missing: {MISSING}; 1 unexpected: encoder.surprise"):
        AudioEncoder.load(path)
    path = icefall_checkpoint(encoder, tmp_path / "b.pt", **{MISSING: torch.zeros(3)})
    with pytest.raises(UserError, match=r"norm.bias \(3,\) instead of \(24,\)"):
        AudioEncoder.load(path)
    path = icefall_checkpoint(encoder, tmp_path / "c.pt", **{"encoder_embed.conv.0.weight": None})
    with pytest.raises(UserError, match=r"encoder_embed.conv.0.weight is missing"):
        AudioEncoder.load(path)
    encoder.save(tmp_path / "ours")
    state = load_file(tmp_path / "ours" / "model.safetensors")
    del state[MISSING]
    save_file(state, tmp_path / "ours" / "model.safetensors")
    (tmp_path / "ours" / "model.safetensors.sha256").unlink()
    with pytest.raises(UserError, match=f"1 missing: {MISSING}"):
        AudioEncoder.load(tmp_path / "ours")


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_damaged_and_hostile_files_are_one_clear_line(encoder, tmp_path):
    good = icefall_checkpoint(encoder, tmp_path / "good.pt").read_bytes()
    cases = {
        "truncated.pt": good[: len(good) // 2],
        "empty.pt": b"",
        "text.pt": b"not a checkpoint",
        "text.safetensors": b"not a checkpoint",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"model": Bomb(str(tmp_path / "exploded"))}, tmp_path / "bomb.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pt")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other.pt")
    (tmp_path / "folder").mkdir()
    for name in [*cases, "bomb.pt", "list.pt", "numbers.pt", "other.pt", "absent.pt", "folder"]:
        with pytest.raises(UserError) as caught:
            AudioEncoder.load(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value), name
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("place", [40, -5])
def test_a_flipped_bit_in_header_or_weights_is_an_error(encoder, tmp_path, place):
    encoder.save(tmp_path / "encoder")
    path = tmp_path / "encoder" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 0x80
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"encoder: model\.safetensors does not match its digest"):
        AudioEncoder.load(tmp_path / "encoder")


def test_unknown_settings_are_refused(encoder, tmp_path):
    encoder.save(tmp_path / "encoder")
    for path in (tmp_path / "encoder", icefall_checkpoint(encoder, tmp_path / "a.pt")):
        with pytest.raises(UserError, match="unknown setting heads"):
            AudioEncoder.load(path, heads=4)


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
