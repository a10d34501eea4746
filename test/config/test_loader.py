# SPDX-License-Identifier: Apache-2.0
"""YAML, overlays and --set become a strict dataclass, or one line that names the key."""

import pytest
import yaml

from icefall_alp.config import CaptioningConfig, ContrastiveConfig, TrainConfig
from icefall_alp.config.loader import config_from_dict, config_to_dict, load_config, overridden_keys, save_config
from icefall_alp.utils.errors import UserError


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_overlays_and_overrides_win_from_left_to_right(tmp_path):
    base = write(tmp_path, "a.yaml", "seed: 1\noptim: {base_lr: 0.02, lr_steps: 10}\n")
    overlay = write(tmp_path, "b.yaml", "optim: {base_lr: 0.03}\n")
    config = load_config(TrainConfig, [base, overlay], ["seed=7", "training.num_steps=5"])
    assert (config.seed, config.optim.base_lr, config.optim.lr_steps, config.training.num_steps) == (7, 0.03, 10.0, 5)


def test_overrides_tell_which_keys_they_name():
    assert overridden_keys(["seed=7", "optim.base_lr = 0.03", "data.mixture=[a=2]"]) == [
        "seed", "optim.base_lr", "data.mixture",
    ]  # fmt: skip


def test_preset_is_a_start_that_other_keys_change(tmp_path):
    path = write(tmp_path, "a.yaml", "audio_encoder: {preset: zipformer_l, mask_padding: false}\n")
    encoder = load_config(TrainConfig, [path]).audio_encoder
    assert encoder.output_dim == 768 and encoder.mask_padding is False


def test_saved_config_loads_to_the_same_config(tmp_path):
    config = config_from_dict(ContrastiveConfig, {"embedding_dim": 8, "audio_encoder": {"preset": "zipformer_s"}})
    save_config(config, tmp_path / "config.yaml", header="commit abc\nline two")
    assert load_config(ContrastiveConfig, [tmp_path / "config.yaml"]) == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config_to_dict(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {base_lrr: 0.1}", r"optim\.base_lrr: unknown key \(did you mean base_lr\?\); known keys are base_lr,"),
        ("optim: {base_lr: 1e-3}", r"optim\.base_lr: expected float, found '1e-3' \(str\); .* write 1\.0e-03"),
        ("seed: true", r"seed: expected int, found True"),
        ("optim: 3", r"optim: expected a mapping of OptimConfig, found 3"),
        ("audio_encoder: {encoder_dim: 3}", r"audio_encoder\.encoder_dim: expected a list"),
        ("audio_encoder: {encoder_dim: [3, x]}", r"audio_encoder\.encoder_dim\[1\]: expected int"),
        ("audio_encoder: {encoder_dim: [3]}", r"audio_encoder\.num_encoder_layers: 6 values for 1 stacks"),
        (
            "audio_encoder: {preset: zipformer_xl}",
            r"audio_encoder\.preset: no preset 'zipformer_xl'; presets are zipformer_s",
        ),
        ("- a\n- b", r"expected `key: value` lines, found list"),
        ("a: [", r"not valid YAML"),
        ("seed: 1\nseed: 2", r"not valid YAML: seed is there twice .* line 2"),
    ],
)
def test_bad_yaml_is_one_line_that_names_the_key(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(TrainConfig, [write(tmp_path, "bad.yaml", text)])
    assert "\n" not in str(caught.value)


def test_missing_file_lists_its_neighbours(tmp_path):
    write(tmp_path, "train_captioning.yaml", "")
    with pytest.raises(
        UserError, match=r"train_capton\.yaml: cannot be read .* files there are train_captioning\.yaml"
    ):
        load_config(CaptioningConfig, [tmp_path / "train_capton.yaml"])


@pytest.mark.parametrize("override", ["seed", "=3", "seed=[", "nothing=1"])
def test_bad_override_is_refused(override):
    with pytest.raises(UserError):
        load_config(TrainConfig, [], [override])


def test_empty_file_gives_the_defaults(tmp_path):
    assert load_config(TrainConfig, [write(tmp_path, "e.yaml", "# nothing\n")]) == TrainConfig()
