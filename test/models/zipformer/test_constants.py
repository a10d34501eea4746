# SPDX-License-Identifier: Apache-2.0
"""Names, shapes, schedules and constants of the full models against the published ones."""

from __future__ import annotations

import re

import pytest
import torch

from icefall_alp.config.zipformer import PRESETS
from icefall_alp.models import AudioEncoder
from icefall_alp.models.zipformer.activations import ActDropLinear, SwooshL, SwooshR
from icefall_alp.models.zipformer.attention import AttentionWeights
from icefall_alp.models.zipformer.bypass import Bypass
from icefall_alp.models.zipformer.layer import ZipformerLayer
from icefall_alp.models.zipformer.normalization import BiasNorm
from icefall_alp.models.zipformer.positions import RelativePositions
from icefall_alp.models.zipformer.regularizers import Balancer, ScaleGrad, Whiten
from icefall_alp.models.zipformer.schedule import Schedule, ScheduledModule

FILES = {"zipformer_m": "icefall_at_M", "auden_base": "auden_base", "auden_large": "auden_large"}
# The fixture writes any stack and layer as S and L; a down-sampling's dropout is stored there but never used.
UNUSED = {"encoder.encoders.S.downsample.dropout", "encoder.downsample_output.dropout"}


@pytest.fixture(scope="module")
def medium() -> AudioEncoder:
    with torch.device("meta"):
        return AudioEncoder(PRESETS["zipformer_m"])


@pytest.mark.parametrize("preset", FILES)
def test_names_shapes_and_parameter_count(golden, preset):
    expected = golden(f"names_shapes_{FILES[preset]}.json")
    with torch.device("meta"):
        encoder = AudioEncoder(PRESETS[preset])
    head = {k for k in expected["shapes"] if k.startswith("classifier.")}
    shapes = {k: v for k, v in expected["shapes"].items() if k not in head | set(expected["buffers"])}
    assert {k: list(v.shape) for k, v in encoder.state_dict().items()} == shapes
    assert not list(encoder.buffers())
    head_size = sum(torch.Size(expected["shapes"][k]).numel() for k in head)
    assert sum(p.numel() for p in encoder.parameters()) + head_size == expected["n_params"]


def test_only_the_unused_scales_are_not_trained(medium):
    frozen = {k for k, p in medium.named_parameters() if not p.requires_grad}
    assert frozen and all(re.search(r"layers\.\d+\.bypass_scale$", k) for k in frozen)


def pattern(name: str) -> str:
    name = re.sub(r"encoders\.\d+\.(encoder\.)?layers\.\d+", "encoders.S.layers.L", name)
    name = re.sub(r"encoders\.\d+", "encoders.S", name)
    return name.replace("encoder_embed.dropout_p", "encoder_embed.dropout.p")


def plain(value: Schedule | float) -> dict | float:
    if not isinstance(value, Schedule):
        return value
    return {"pairs": [list(map(float, pair)) for pair in value.points], "default": float(value.default)}


def published_names(name: str) -> list[str]:
    """Where the fixture has a schedule that a whole layer has here."""
    if re.search(r"layers\.\d+\.dropout_p$", name):
        return [name.replace("dropout_p", f"feed_forward{i}.out_proj.dropout_p") for i in (1, 2, 3)]
    return [re.sub(r"(layers\.\d+)\.skip_rate$", r"\1.bypass.skip_rate", name)]


def test_schedules(golden, medium):
    found: dict[str, dict[str, dict]] = {}
    for name, module in medium.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Schedule):
                for full in published_names(f"{name}.{attribute}"):
                    found.setdefault(pattern(full), {})[full] = plain(value)
    published = golden("scheduled_floats_M.json")
    assert set(found) == set(published) - UNUSED
    for name, values in found.items():
        expected = published[name]
        if "varies" in expected:
            assert set(values) == set(expected["varies"])
            for full, value in values.items():
                for ours, theirs in zip(value["pairs"], expected["varies"][full]["pairs"], strict=True):
                    assert ours == pytest.approx(theirs, rel=1e-12)
                assert value["default"] == expected["varies"][full]["default"]
        else:
            assert len(values) == expected["count"], name
            wanted = {"pairs": expected["pairs"], "default": expected["default"]}
            assert all(value == wanted for value in values.values()), name


def describe(module: torch.nn.Module) -> dict | None:
    """A module's constants in the words of the fixture."""
    match module:
        case Balancer():
            names = ("min_positive", "max_positive", "min_abs", "max_abs", "grad_scale", "prob")
            return {"kind": "Balancer", **{n: plain(getattr(module, n)) for n in names}}
        case Whiten():
            names = ("num_groups", "whitening_limit", "min_prob", "max_prob", "grad_scale")
            return {"kind": "Whiten", **{n: plain(getattr(module, n)) for n in names}}
        case BiasNorm():
            return {
                "kind": "BiasNorm",
                **dict(zip(("log_scale_min", "log_scale_max"), module.log_scale_limits, strict=True)),
            }
        case Bypass():
            scales = {"scale_min": plain(module.scale_min), "scale_max": module.scale_max}
            return {"kind": "BypassModule", **scales, "skip_rate": 0.0}  # of a whole layer: below
        case ActDropLinear():
            activation = {SwooshL.shift: "SwooshL", SwooshR.shift: "SwooshR"}[module.shift]
            return {"kind": "ActivationDropoutAndLinear", "activation": activation, "p": 0.0}  # feed-forward: below
        case ScaleGrad():
            return {"kind": "ScaleGrad", "alpha": module.alpha}
        case RelativePositions():
            return {"kind": "Dropout2", "p": module.dropout_p}
    return None


def test_regularizer_constants(golden, medium):
    found: dict[str, dict] = {}
    for name, module in medium.named_modules():
        description = describe(module)
        if description is not None:
            suffix = ".dropout" if isinstance(module, RelativePositions) else ""
            if name.endswith("whiten_keys"):
                description["num_groups"] = "num_heads"
            earlier = found.setdefault(pattern(name) + suffix, description)
            assert earlier == description, name
    for name, module in medium.named_modules():
        if isinstance(module, ZipformerLayer):
            found[pattern(f"{name}.bypass")]["skip_rate"] = "see scheduled_floats_M.json"
            for i in (1, 2, 3):
                found[pattern(f"{name}.feed_forward{i}.out_proj")]["p"] = plain(module.dropout_p)
    found["encoder_embed.dropout"] = {"kind": "Dropout3", "p": plain(medium.encoder_embed.dropout_p)}
    layout = {"channel_dim", "shared_dim", "straight_through_rate"}  # ours are fixed; the last is 0 everywhere
    published = golden("regularizers_M.json")
    assert all(v.get("straight_through_rate", 0) == 0 for v in published.values())
    assert found == {k: {n: c for n, c in v.items() if n not in layout} for k, v in published.items()}


def test_keys_are_whitened_by_head(medium):
    weights = [m for m in medium.modules() if isinstance(m, AttentionWeights)]
    assert len(weights) == 16 and all(m.whiten_keys.num_groups == m.num_heads for m in weights)


def test_counts(medium):
    kinds = [type(m) for m in medium.modules()]
    counts = {Balancer: 229, Whiten: 178, BiasNorm: 17, Bypass: 37, ActDropLinear: 80}
    assert {kind: kinds.count(kind) for kind in counts} == counts


def test_one_clock(medium):
    medium.set_batch_count(123)
    clocks = {id(m.clock) for m in medium.modules() if isinstance(m, ScheduledModule)}
    assert clocks == {id(medium.clock)} and medium.clock.batch_count == 123.0
