# SPDX-License-Identifier: Apache-2.0
"""BiasNorm, bypass, resampling, masks and schedules against golden values."""

from __future__ import annotations

import copy

import pytest
import torch

from icefall_alp.models.zipformer.bypass import Bypass, add_branch, sequence_mask
from icefall_alp.models.zipformer.masks import Context, chunk_mask, feature_mask, padding_mask
from icefall_alp.models.zipformer.normalization import BiasNorm
from icefall_alp.models.zipformer.resampling import Downsample, convert_channels, upsample, widest
from icefall_alp.models.zipformer.schedule import Clock, Schedule, ScheduledModule, attach_clock, schedule


@pytest.mark.parametrize("limit_on", [False, True])
@pytest.mark.parametrize("name", ["last_dim", "dim1"])
def test_bias_norm(units, close, draw, name, limit_on):
    draw(0.0 if limit_on else 0.999)
    case, suffix = units(f"biasnorm/{name}"), "_limit_on" if limit_on else ""
    inner = (lambda t: t) if name == "last_dim" else (lambda t: t.transpose(1, 2))
    module = BiasNorm(case["bias"].numel()).train()
    module.load_state_dict({k: case[k] for k in ("bias", "log_scale")})
    x = case["x"].clone().requires_grad_(True)
    y = module(inner(x))
    y.backward(inner(case["gy"]))
    close(y, inner(case["y"]))
    close(x.grad, case["dx" + suffix])
    close(module.bias.grad, case["dbias" + suffix], atol=2e-6)
    close(module.log_scale.grad, case["dlog_scale" + suffix], atol=5e-6)


def test_bias_norm_gradcheck_without_epsilon():
    """Tiny inputs are normalised as any others, and the gradient is the true one."""
    module = BiasNorm(6).eval()
    with torch.no_grad():
        module.bias.zero_()
    x = 1e-12 * torch.randn(3, 6)
    torch.testing.assert_close(module(x), module(x * 1e10))


@pytest.mark.parametrize("batch_count", [0, 10000, 20000])
def test_bypass(units, close, draw, batch_count):
    draw(0.0)
    case = units(f"bypass/bc{batch_count}")
    module = Bypass(6).train()
    module.clock.batch_count = float(batch_count)
    module.load_state_dict({"bypass_scale": case["scale"]})
    original, new = (case[k].clone().requires_grad_(True) for k in ("orig", "new"))
    y = module(original, new)
    y.backward(case["gy"])
    close(y, case["y"])
    close(original.grad, case["dorig"])
    close(new.grad, case["dnew"])
    close(module.bypass_scale.grad, case["dscale"])


def test_bypass_skips_whole_sequences_without_rescaling():
    torch.manual_seed(0)
    module = Bypass(6, skip_rate=0.5).train()
    original, new = torch.zeros(64, 3, 6), torch.ones(64, 3, 6)
    y = module(original, new)
    per_item = y.flatten(1)
    assert ((per_item == 0).all(1) | (per_item == 0.5).all(1)).all()
    assert 15 < (per_item == 0).all(1).sum() < 49
    assert (module.eval()(original, new) == 0.5).all()


def test_sequence_mask():
    x = torch.randn(1000, 2, 3)
    assert sequence_mask(x, 0.0) is None
    mask = sequence_mask(x, 0.2)
    assert mask.shape == (1000, 1, 1) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert 0.75 < mask.mean() < 0.85
    assert torch.equal(add_branch(x, x, mask), x + mask * x)
    assert torch.equal(add_branch(x, x, None), 2 * x)


@pytest.mark.parametrize("name", ["ds2_T7", "ds4_T8", "ds8_T13"])
def test_downsample(units, close, name):
    case = units(f"downsample/{name}")
    module = Downsample(case["bias"].numel())
    module.load_state_dict({"bias": case["bias"]})
    x = case["x"].clone().requires_grad_(True)
    y = module(x.transpose(0, 1), None).transpose(0, 1)
    y.backward(case["gy"])
    close(y, case["y"])
    close(x.grad, case["dx"])
    close(module.bias.grad, case["dbias"])


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_downsample_repeats_each_items_own_last_frame(close, factor):
    torch.manual_seed(0)
    module = Downsample(factor)
    torch.nn.init.normal_(module.bias)
    x, lens = torch.randn(3, 13, 4), torch.tensor([13, 6, 1])
    together = module(x, lens)
    for item, length in enumerate(lens.tolist()):
        alone = module(x[item : item + 1, :length], None)[0]
        close(together[item, : alone.shape[0]], alone)


def test_upsample_and_channels(units):
    case = units("upsample/x3")
    x = case["x"].transpose(0, 1)
    assert torch.equal(upsample(x, 3, 9).transpose(0, 1), case["y"])
    assert torch.equal(upsample(x, 3, 7), upsample(x, 3, 9)[:, :7])
    case = units("convert_channels")
    for width in (3, 7):
        assert torch.equal(convert_channels(case["x"], width), case[f"to{width}"])
    stacks = [torch.full((1, 1, width), float(i)) for i, width in enumerate((2, 5, 4, 3))]
    assert widest(stacks).flatten().tolist() == [3, 3, 3, 2, 1]


def test_feature_mask(units, golden):
    case, settings = units("featmask"), golden("units_meta.json")["featmask"]
    kept = [(case[k] > settings["drop_prob"]).float().view(-1, 1, 1) for k in ("u1", "u2")]
    for stack, (dim, unmasked) in enumerate(zip(settings["encoder_dim"], settings["unmasked"], strict=True)):
        mask = feature_mask(dim, unmasked, kept[0], kept[0] * kept[1])
        assert torch.equal(mask.transpose(0, 1), case[f"mask_stack{stack}"])


def test_chunk_mask(units):
    case = units("chunkmask")
    for left, key in ((2, "left2chunks"), (-1, "leftall")):
        mask = chunk_mask(14, 4, left, torch.device("cpu"))
        assert torch.equal(mask, case[f"mask_T14_chunk4_{key}"].bool())


def test_context_joins_padding_and_chunks():
    padding = padding_mask(torch.tensor([3, 2]), 3)
    assert padding.tolist() == [[False] * 3, [False, False, True]]
    chunks = chunk_mask(3, 1, -1, torch.device("cpu"))
    context = Context.build(padding, chunks, 1)
    assert torch.equal(context.padding, padding.unsqueeze(2))
    assert torch.equal(context.hidden[0], chunks)
    assert context.hidden[1].tolist() == [[False, True, True], [False, False, True], [False, False, True]]
    assert Context.build(None, None, -1) == Context(None, None, -1)


def test_schedule_values(golden):
    for case in golden("piecewise.json"):
        value = Schedule(tuple(map(tuple, case["pairs"])))
        for batch_count, expected in case["at"]:
            assert value.at(batch_count) == pytest.approx(expected, rel=1e-12)


def test_schedule_needs_training_and_a_batch_count():
    module = ScheduledModule()
    rate = schedule((0, 0.4), (100, 0.2), default=0.7)
    assert module.train().now(rate) == 0.7
    module.clock.batch_count = 50.0
    assert module.now(rate) == pytest.approx(0.3)
    assert module.eval().now(rate) == 0.7
    assert module.now(0.25) == 0.25


def test_one_clock_for_all_and_its_own_for_a_copy():
    root = torch.nn.Sequential(ScheduledModule(), torch.nn.Sequential(ScheduledModule()))
    clock = Clock()
    attach_clock(root, clock)
    other = copy.deepcopy(root)
    clock.batch_count = 3.0
    assert root[0].clock is root[1][0].clock is clock
    assert other[0].clock is other[1][0].clock and other[0].clock.batch_count is None
