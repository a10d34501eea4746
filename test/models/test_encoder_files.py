# SPDX-License-Identifier: Apache-2.0
"""Saving, and strict loading of foreign formats."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from icefall_alp.models import AudioEncoder
from icefall_alp.utils.errors import UserError
from test.models.small_encoder import SMALL, lively


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    return lively(AudioEncoder(SMALL)).eval()


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
