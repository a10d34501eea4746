# SPDX-License-Identifier: Apache-2.0
"""What a step leaves out: how often, for whom, in how few operations, and that each layer obeys its own masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from icefall_alp.models.zipformer.draws import LayerDraws, draw_layers, dropout_masks, feature_mask, sequence_masks

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


def test_sequence_masks_leave_out_so_many_sequences_each_on_its_own():
    torch.manual_seed(0)
    x = torch.randn(2000, 2, 3, dtype=torch.float64)
    first, nothing, second, other = sequence_masks([0.2, 0.0, 0.2, 0.6], x)
    assert nothing is None
    for mask, rate in ((first, 0.2), (second, 0.2), (other, 0.6)):
        assert mask.shape == (2000, 1, 1) and mask.dtype == x.dtype and set(mask.unique().tolist()) == {0.0, 1.0}
        assert mask.mean().item() == pytest.approx(1 - rate, abs=0.05)
    assert (first * second).mean().item() == pytest.approx(0.64, abs=0.05)


def test_dropout_masks_rescale_what_they_keep():
    torch.manual_seed(0)
    nothing, wide, narrow = dropout_masks([0.0, 0.25, 0.25], [7, 300, 5], torch.randn(40, 9))
    assert nothing is None and narrow.shape == (40, 1, 5) and narrow.is_contiguous()
    assert wide.shape == (40, 1, 300) and wide.is_contiguous()
    torch.testing.assert_close(wide.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert wide.mean().item() == pytest.approx(1.0, abs=0.03)


def test_rates_of_0_and_1_and_no_sequences():
    assert sequence_masks([1.0], torch.ones(50, 1))[0].sum() == 0
    assert sequence_masks([], torch.ones(50, 1)) == []
    assert sequence_masks([0.3], torch.ones(0, 4))[0].shape == (0, 1, 1)


def test_all_layers_are_drawn_in_one_go(layers):
    for layer in layers:  # as late in training, where layers differ by the frame rate of their stack only
        layer.bypass.skip_rate = 0.05
    x = torch.ones(3, 4)
    with Operations() as operations:
        drawn = draw_layers(layers, x)
    rates = {rate for layer in layers for rate in layer.skip_rates()}
    assert len(drawn) == len(layers) > 3 and operations.names["rand"] == len(rates) + 1
    computed = sum(count for name, count in operations.names.items() if "split" not in name and "view" not in name)
    assert computed == 3 * (len(rates) + 1) + 1  # numbers, comparison, type; dropout is rescaled


@pytest.mark.parametrize("name", [field.name for field in fields(LayerDraws) if field.name != "dropout"])
def test_every_rate_reaches_its_own_mask(layers, name):
    rates = [0.0] * 6
    rates[[field.name for field in fields(LayerDraws)].index(name)] = 1.0
    layers[1].skip_rates = lambda: rates
    drawn = draw_layers(layers, torch.ones(3, 4))
    left_out = [field.name for field in fields(LayerDraws)[:6] if getattr(drawn[1], field.name) is not None]
    assert left_out == [name] and getattr(drawn[1], name).tolist() == [[[0.0]]] * 3
    assert drawn[0].conv1 is not None


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
    module = layers[0].feed_forward2
    assert module.dropout_rate() == 0.3
    module.clock.batch_count = 20000.0
    assert module.dropout_rate() == pytest.approx(0.1)


def test_feature_mask(units, golden):
    case, settings = units("featmask"), golden("units_meta.json")["featmask"]
    kept = [(case[k] > settings["drop_prob"]).float().view(-1, 1, 1) for k in ("u1", "u2")]
    for stack, (dim, unmasked) in enumerate(zip(settings["encoder_dim"], settings["unmasked"], strict=True)):
        mask = feature_mask(dim, unmasked, kept[0], kept[0] * kept[1])
        assert torch.equal(mask.transpose(0, 1), case[f"mask_stack{stack}"])
