# SPDX-License-Identifier: Apache-2.0
"""Gradient modifiers against golden gradients and autograd; nothing at all happens when they do not fire."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from icefall_alp.models.kernels.plain import mean_over_deviation, whitening_metric
from icefall_alp.models.zipformer.regularizers import (
    Balancer,
    LimitedModule,
    ScaleGrad,
    Whiten,
    abs_penalty,
    fires,
    settle_verdicts,
)
from icefall_alp.models.zipformer.schedule import ScheduledModule

BALANCERS = ["ff_hidden", "layer_out", "keys", "conv_bct", "frontend"]
WHITENS = ["g1_limit2", "g4_keys", "g1_not_violated"]


def penalize_abs(module, x, *settings):
    """Apply the penalty, if there is one."""
    penalty = abs_penalty(module, x, *settings)
    return x if penalty is None else penalty(x)


def gradient(function, x, gy):
    x = x.clone().requires_grad_(True)
    y = function(x)
    assert torch.equal(y, x)
    y.backward(gy)
    return x.grad


@pytest.mark.parametrize("name", BALANCERS)
def test_balancer(units, golden, close, draw, name):
    draw(0.0)
    case, settings = units(f"balancer/{name}"), golden("units_meta.json")[f"balancer/{name}"]
    close(gradient(Balancer(**settings, prob=1.0), case["x"], case["gy"]), case["dx"])


@pytest.mark.parametrize("case", ["random", "constant", "zero"])
def test_balancer_equals_differentiated_loss(draw, case):
    """The closed form against autograd on the loss as it is defined."""
    draw(0.0)
    torch.manual_seed(1)
    x = {"random": torch.randn(40, 6) * 3 + 1, "constant": torch.ones(40, 6), "zero": torch.zeros(40, 6)}[case].double()
    gy = torch.randn_like(x)
    module = Balancer(0.4, 0.6, 0.1, 1.0, prob=1.0)
    leaf = x.float().requires_grad_(True)
    mean, square = leaf.mean(0), leaf.square().mean(0)
    std, rms = (square - mean.square()).clamp(min=1e-20).sqrt(), square.clamp(min=1e-20).sqrt()
    ratio = mean / std
    sides = (ratio - ratio.clamp(mean_over_deviation(0.4), mean_over_deviation(0.6))).abs()
    limits = 0.1 * 1.25331413732, 1.25331413732
    loss = sides.sum() + (rms.clamp(*limits) / rms).log().abs().sum()
    (line,) = torch.autograd.grad(loss, leaf)
    line = line * 0.04 / line.square().mean(0).sqrt().clamp(min=1e-20)
    expected = gy.float() + gy.float().abs() * line
    torch.testing.assert_close(gradient(module, x.float(), gy.float()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WHITENS)
def test_whiten(units, golden, close, draw, name):
    draw(0.0)
    case, settings = units(f"whiten/{name}"), golden("units_meta.json")[f"whiten/{name}"]
    module = Whiten(settings["whitening_limit"], settings["grad_scale"], settings["num_groups"])
    close(whitening_metric(case["x"], settings["num_groups"]), case["metric"])
    close(gradient(module, case["x"], case["gy"]), case["dx"])
    violated = bool(case["metric"] >= settings["whitening_limit"])
    assert violated == (name != "g1_not_violated")
    module.prob = None
    settle_verdicts([Whiten(1.0), module])
    assert module.prob == (0.25 if violated else 0.025)


def test_whiten_follows_the_gradient_of_its_metric(draw):
    draw(0.0)
    torch.manual_seed(0)
    x = (torch.randn(50, 3, 8) @ torch.randn(8, 8)).requires_grad_(True)
    gy = torch.randn_like(x)
    x_metric = x.detach().clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(whitening_metric(x_metric, 2), x_metric)
    added = gradient(Whiten(1.0, 0.01, num_groups=2), x.detach(), gy) - gy
    torch.testing.assert_close(added.norm(), 0.01 * gy.norm(), rtol=1e-3, atol=0)
    assert torch.nn.functional.cosine_similarity(added.flatten(), slope.flatten(), dim=0) > 0.9999


def test_limited_parameters_and_penalty(units, golden, close, draw):
    draw(0.0)
    module, meta = LimitedModule(), golden("units_meta.json")
    case, settings = units("limit_param"), meta["limit_param"]
    limit = lambda x: module.limited(x, settings["min"], settings["max"])  # noqa: E731
    assert torch.equal(gradient(limit, case["x"], case["gy"]), case["dx"])
    case, settings = units("penalize"), meta["penalize"]
    penalize = lambda x: penalize_abs(module, x, settings["limit"], settings["penalty"], 0.1)  # noqa: E731
    close(gradient(penalize, case["x"], case["gy"]), case["dx"], atol=1e-8)


def test_the_penalty_shrinks_with_the_scale_of_the_loss(draw):
    # gradients of a mean are small: an absolute penalty would drown them whenever it fires
    draw(0.0)
    x, gy = torch.tensor([30.0, -30.0, 1.0]), torch.tensor([1e-6, 1e-6, 1e-6])
    module = ScheduledModule()
    module.clock.loss_scale = torch.tensor(1 / 500)
    added = gradient(lambda x: penalize_abs(module, x, 25.0, 1e-4, 0.1), x, gy) - gy
    torch.testing.assert_close(added, torch.tensor([2e-7, -2e-7, 0.0]), rtol=1e-4, atol=0)


def test_the_penalty_makes_nothing_wide_of_a_half_precision_gradient(draw):
    """A sign is one byte, the loss scale float32: their product would be a float32 copy of all scores."""
    draw(0.0)
    module = ScheduledModule()
    module.clock.loss_scale = torch.tensor(0.5)
    x = torch.tensor([30.0, -30.0, 1.0], dtype=torch.bfloat16)
    with ResultTypes() as seen:
        added = gradient(lambda x: penalize_abs(module, x, 25.0, 0.25, 0.1), x, torch.zeros_like(x))
    assert added.tolist() == [0.125, -0.125, 0.0] and seen.wide == set()


class ResultTypes(TorchDispatchMode):
    """Names operations whose results have axes and are float32."""

    def __init__(self):
        super().__init__()
        self.wide = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dim() and result.dtype == torch.float32:
            self.wide.add(operation)
        return result


def test_scale_grad():
    gy = torch.randn(5)
    assert torch.equal(gradient(ScaleGrad(0.2), torch.randn(5), gy), gy * 0.2)


MODIFIERS = {
    "balancer": lambda m: Balancer(prob=0.4).train(m.training),
    "whiten": lambda m: Whiten(1.0).train(m.training),
    "limit": lambda m: lambda x: LimitedModule().train(m.training).limited(x, 0.0, 0.1),
    "penalty": lambda m: lambda x: penalize_abs(m, x, 25.0, 1e-4, 0.1),
}


@pytest.mark.parametrize("name", MODIFIERS)
def test_no_node_and_no_copy_unless_it_fires(draw, name):
    x = torch.randn(4, 8, requires_grad=True)
    training = MODIFIERS[name](ScheduledModule().train())
    evaluating = MODIFIERS[name](ScheduledModule().eval())
    draw(0.999)
    assert training(x) is x
    draw(0.0)
    assert evaluating(x) is x
    assert training(x.detach()).requires_grad is False
    with torch.no_grad():
        assert training(x) is x
    assert training(x) is not x


def test_scale_grad_is_absent_in_eval():
    x = torch.randn(4, requires_grad=True)
    assert ScaleGrad(0.2).eval()(x) is x


def test_decisions_follow_pythons_random():
    random.seed(3)
    first = [fires(0.3) for _ in range(2000)]
    random.seed(3)
    assert [fires(0.3) for _ in range(2000)] == first
    assert 0.25 < sum(first) / 2000 < 0.35
    before = random.getstate()
    assert not fires(0.0)
    assert random.getstate() == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_keep_their_type(draw, dtype):
    draw(0.0)
    x = (torch.randn(30, 8) * 5).to(dtype).requires_grad_(True)
    for module in (Balancer(prob=1.0), Whiten(1.0)):
        (grad,) = torch.autograd.grad(module(x), x, torch.randn(30, 8).to(dtype))
        assert grad.dtype == dtype and grad.isfinite().all()
