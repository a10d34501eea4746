# SPDX-License-Identifier: Apache-2.0
"""What a step leaves out: in how few operations, and that each layer obeys its own masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from icefall_alp.models.zipformer import encoder
from icefall_alp.models.zipformer.draws import NOTHING, LayerDraws
from icefall_alp.models.zipformer.feedforward import FeedForward
from icefall_alp.models.zipformer.step_draws import (
    draw,
    draw_layers,
    dropout_rates,
    feature_mask,
    skip_rates,
)

BRANCHES = {  # field of the draws: what its sequences leave out
    "attention": ("nonlin_attention", "self_attn1", "self_attn2"),
    "conv1": ("conv_module1",),
    "conv2": ("conv_module2",),
    "ff2": ("feed_forward2",),
    "ff3": ("feed_forward3",),
}


class Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names[operation.overloadpacket.__name__] += 1
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def layers(tiny):
    """All layers of the tiny encoder at the beginning of training, where they are left out most."""
    tiny.train()
    tiny.encoder.set_batch_count(0)
    return tiny.encoder.layers()


def test_as_many_random_numbers_are_drawn_at_every_time(layers):
    """Also where rates have become 0: a mask then depends on the seed and its place alone."""
    drawn = []
    for batch_count in (0.0, 1500.0, 16000.0, 100000.0):
        layers[0].clock.batch_count = batch_count
        torch.manual_seed(0)
        draw_layers(layers, torch.ones(3, 4))
        drawn.append(torch.rand(1).item())
    assert len(set(drawn)) == 1 and skip_rates(layers[0])[0] == 0.0


def test_all_layers_are_drawn_in_one_go(layers):
    x = torch.ones(3, 4)
    with Operations() as operations:
        drawn = draw_layers(layers, x)
    assert len(drawn) == len(layers) > 3
    places = ("split_with_sizes", "view", "expand", "unbind", "lift_fresh", "detach")  # of what is there
    computed = {name: count for name, count in operations.names.items() if name not in places}
    assert computed == {"rsub": 2, "cat": 2, "rand": 2, "lt": 2, "_to_copy": 2, "div_": 1}


@pytest.mark.parametrize(
    ("rate", "names"),
    [
        ("attention_skip_rate", ["attention"]),
        ("conv_skip_rate", ["conv1", "conv2"]),
        ("ff2_skip_rate", ["ff2"]),
        ("ff3_skip_rate", ["ff3"]),
        ("skip_rate", ["layer"]),
    ],
)
def test_every_rate_reaches_its_own_masks(layers, rate, names):
    for other in ("attention_skip_rate", "conv_skip_rate", "ff2_skip_rate", "ff3_skip_rate", "skip_rate"):
        setattr(layers[1], other, 1.0 if other == rate else 0.0)
    drawn = draw_layers(layers, torch.ones(3, 4))
    left_out = [field.name for field in fields(LayerDraws)[:6] if getattr(drawn[1], field.name) is not None]
    assert left_out == names
    assert all(getattr(drawn[1], name).tolist() == [[[0.0]]] * 3 for name in names)
    assert drawn[0].conv1 is not None


def test_a_training_encoder_hands_every_layer_its_own_draws(tiny, tiny_input, layers, monkeypatch):
    drawn, given, masked = [], [], []
    monkeypatch.setattr(encoder, "draw", lambda *arguments: drawn.extend(draw(*arguments)) or drawn)
    for layer in layers:
        layer.register_forward_pre_hook(lambda _layer, arguments: given.append(arguments[3]))
    stacks = [getattr(stack, "encoder", stack) for stack in tiny.encoder.encoder.encoders]
    for stack in stacks:
        stack.register_forward_pre_hook(lambda _stack, arguments: masked.append(arguments[2].features))
    tiny.encoder(*tiny_input[:2])
    wanted = [of_layer for of_stack in drawn for of_layer in of_stack.layers]
    assert len(wanted) == len(layers) and all(a is b for a, b in zip(given, wanted, strict=True))
    assert all(a is b.features and a.shape[1] == 1 for a, b in zip(masked, drawn, strict=True))
    given.clear()
    tiny.eval()
    tiny.encoder(*tiny_input[:2])
    assert given == [NOTHING] * len(layers)


def test_a_frozen_layer_of_a_training_encoder_leaves_out_nothing(layers):
    layers[1].eval().skip_rate = 0.9
    assert draw_layers(layers, torch.ones(3, 4))[1] == NOTHING


@pytest.mark.parametrize("hooked", [True, False])
def test_dropout_of_all_channels_leaves_the_bias(hooked):
    module, x = FeedForward(6, 10).train(), torch.randn(2, 5, 6)
    if hooked:
        module.out_proj.register_forward_hook(lambda _module, _arguments, out: out)
    assert torch.equal(module(x, torch.zeros(2, 1, 10)), module.out_proj.bias.expand(2, 5, 6))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_layer_gives_every_feed_forward_module_its_mask(tiny, tiny_input, place):
    layer, seen, given = tiny.encoder.layers()[0], [], []
    layer.register_forward_pre_hook(lambda _layer, arguments: seen.append(arguments[:3]))
    masks = [None, None, None]
    masks[place] = torch.zeros(3, 1, layer.hidden_dims[place])
    with torch.no_grad():
        tiny.encoder(*tiny_input[:2])
        for module in (layer.feed_forward1, layer.feed_forward2, layer.feed_forward3):
            module.register_forward_pre_hook(lambda _module, arguments: given.append(arguments[1]))
        layer(*seen[0], LayerDraws(dropout=tuple(masks)))
    assert [mask is None for mask in given] == [mask is None for mask in masks]


@pytest.mark.parametrize("name", BRANCHES)
def test_a_sequence_leaves_out_its_branch(tiny, tiny_input, name):
    layer, seen = tiny.encoder.layers()[0], []
    layer.register_forward_pre_hook(lambda _layer, arguments: seen.append(arguments[:3]))
    with torch.no_grad():
        tiny.encoder(*tiny_input[:2])
        keep = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1)
        x, pos_emb, context = seen[0]
        before = layer(x, pos_emb, context, LayerDraws(**{name: keep}))
        for module in BRANCHES[name]:
            getattr(layer, module).register_forward_hook(lambda _module, _arguments, out: out + 1.0)
        after = layer(x, pos_emb, context, LayerDraws(**{name: keep}))
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


def test_a_sequence_leaves_out_the_whole_layer(tiny, tiny_input):
    layer, seen = tiny.encoder.layers()[0], []
    layer.register_forward_pre_hook(lambda _layer, arguments: seen.append(arguments[:3]))
    with torch.no_grad():
        tiny.encoder(*tiny_input[:2])
        out = layer(*seen[0], LayerDraws(layer=torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)))
    assert torch.equal(out[1], seen[0][0][1]) and not torch.equal(out[0], seen[0][0][0])


def test_the_dropout_rate_falls(layers):
    layer = layers[0]
    assert dropout_rates(layer) == [0.3] * 3
    layer.clock.batch_count = 20000.0
    assert dropout_rates(layer) == [pytest.approx(0.1)] * 3


def test_a_frozen_module_of_a_training_layer_drops_no_channels(layers):
    layers[0].feed_forward2.eval()
    assert dropout_rates(layers[0]) == [0.3, 0.0, 0.3]


def test_feature_mask(units, golden):
    case, settings = units("featmask"), golden("units_meta.json")["featmask"]
    kept = [(case[k] > settings["drop_prob"]).float().view(-1, 1, 1) for k in ("u1", "u2")]
    for stack, (dim, unmasked) in enumerate(zip(settings["encoder_dim"], settings["unmasked"], strict=True)):
        mask = feature_mask(dim, unmasked, kept[0], kept[0] * kept[1])
        assert torch.equal(mask.transpose(0, 1), case[f"mask_stack{stack}"])
