# SPDX-License-Identifier: Apache-2.0
"""Golden values for the Zipformer tests, and the tiny model that they belong to."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from icefall_alp.config.zipformer import ZipformerConfig
from icefall_alp.models import AudioEncoder
from icefall_alp.models.zipformer.schedule import Schedule

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Content of a golden file by name; half-precision storage widened."""

    def read(name: str) -> Any:
        if name.endswith(".json"):
            return json.loads((GOLDEN / name).read_text())
        return {k: v.float() if v.dtype == torch.float16 else v for k, v in load_file(GOLDEN / name).items()}

    return read


@pytest.fixture(scope="session")
def units(golden) -> Callable[[str], dict[str, Tensor]]:
    """The tensors of one unit fixture, the unit's name cut off."""
    everything = golden("units.safetensors")

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix + "/"): v for k, v in everything.items() if k.startswith(prefix + "/")}

    return part


def from_fixture(config: dict[str, Any]) -> ZipformerConfig:
    """A configuration as the fixtures write it (lists, one-element head widths)."""
    config = dict(config)
    channels = config.pop("embed_kw", {"layer1_channels": 8, "layer2_channels": 32, "layer3_channels": 128})
    fields = {k: v[0] if k.endswith("head_dim") else tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    return ZipformerConfig(**fields, frontend_channels=tuple(channels.values()), mask_padding=False)


@pytest.fixture
def make_config() -> Callable[[dict[str, Any]], ZipformerConfig]:
    return from_fixture


class TaggingModel(nn.Module):
    """The tagging head of the fixtures around an encoder: masked mean of per-frame logits, summed BCE."""

    def __init__(self, encoder: AudioEncoder, num_events: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(encoder.output_dim, num_events))

    def logits(self, out: Tensor, lens: Tensor) -> Tensor:
        valid = (torch.arange(out.shape[1]) < lens[:, None]).unsqueeze(-1)
        return (self.classifier(out) * valid).sum(1) / lens[:, None]

    def loss(self, x: Tensor, lens: Tensor, target: Tensor) -> Tensor:
        logits = self.logits(*self.encoder(x, lens))
        return nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")

    def load_reference(self, state: dict[str, Tensor]) -> None:
        ours = {k if k.startswith("classifier.") else f"encoder.{k}": v for k, v in state.items()}
        self.load_state_dict(ours)

    def gradients(self) -> dict[str, Tensor]:
        """By the names of the fixtures."""
        return {k.removeprefix("encoder."): p.grad for k, p in self.named_parameters() if p.grad is not None}

    def without_noise(self) -> None:
        """Turn off every dropout, skip and mask."""
        self.classifier[0].p = 0.0
        for module in self.modules():
            for name, value in vars(module).items():
                if name.endswith(("skip_rate", "dropout_p", "attention_rate", "layerdrop_rate")):
                    assert isinstance(value, Schedule | float), name
                    setattr(module, name, 0.0)
            if type(module).__name__ == "RelativePositions":
                module.dropout_p = 0.0


@pytest.fixture
def tiny(golden) -> TaggingModel:
    """The tiny tagging model of the fixtures, its weights loaded, in eval mode."""
    config = golden("tiny_config.json")
    model = TaggingModel(AudioEncoder(from_fixture(config["config"])), config["num_events"])
    model.load_reference(golden("tiny_state_fp16exact.safetensors"))
    return model.eval()


@pytest.fixture
def tiny_input(golden) -> tuple[Tensor, Tensor, Tensor]:
    data = golden("tiny_input_fp16exact.safetensors")
    return data["x"], data["x_lens"], data["target"]


@pytest.fixture
def draw(monkeypatch) -> Callable[[float], None]:
    """Fix what Python's random numbers are: 0.0 lets every modifier fire, 0.999 none."""
    return lambda value: monkeypatch.setattr(random, "random", lambda: value)


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    """Compare tensors; by default as strictly as the unit fixtures allow."""

    def check(actual: Tensor, expected: Tensor, rtol: float = 1e-5, atol: float = 1e-6) -> None:
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)

    return check


@pytest.fixture(scope="session")
def check_module(close) -> Callable[..., None]:
    """Compare a module's output and all gradients with a unit fixture.

    `call(module, x)` runs it; `layout` turns the fixture's axes, by default (T, N, C), into ours and `back` returns.
    """

    def swap(x: Tensor) -> Tensor:
        return x.transpose(0, 1)

    def check(module, case, call, layout=swap, back=swap) -> None:
        module.load_state_dict({k.removeprefix("param/"): v for k, v in case.items() if k.startswith("param/")})
        module.eval()
        x = case["x"].clone().requires_grad_(True)
        y = call(module, layout(x))
        y.backward(layout(case["gy"]))
        close(back(y), case["y"])
        close(x.grad, case["dx"], rtol=1e-5, atol=2e-6)
        grads = {k: p.grad for k, p in module.named_parameters()}
        for name, grad in grads.items():
            close(grad, case[f"grad/{name}"], rtol=2e-5, atol=2e-5)
        assert len(grads) == sum(k.startswith("grad/") for k in case)

    return check
