# SPDX-License-Identifier: Apache-2.0
"""ScaledAdam: golden trajectories, what it must not depend on, bad gradients, resuming, CPU against GPU."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save

from icefall_alp.models.kernels import chains, native_scaled_adam, scaled_adam_rows
from icefall_alp.training import scaled_adam
from icefall_alp.training.scaled_adam import ScaledAdam, parameter_groups
from icefall_alp.utils.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
TENSORS = load_file(GOLDEN / "scaled_adam.safetensors")
META = json.loads((GOLDEN / "scaled_adam_meta.json").read_text())
COMMON = META.pop("common")
SHAPES = [(4, 3), (4, 3), (7,), (1,), (), (2, 3, 1, 3), (300, 2), ()]


def random_parameters(seed: int, shapes=SHAPES, dtype=torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype) * 0.3) for shape in shapes]


def random_gradients(seed: int, shapes=SHAPES) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def run(optimizer: ScaledAdam, params: list[torch.nn.Parameter], steps: range, size: float = 1.0) -> None:
    for step in steps:
        spike = 20.0 if step % 17 == 16 else 1.0
        shapes = [p.shape for p in params]
        for p, grad in zip(params, random_gradients(1000 + step, shapes), strict=True):
            p.grad = (grad * spike * size).to(p)
        optimizer.step()


def assert_golden(params: dict[str, torch.Tensor], run_name: str, step: int) -> None:
    for name, p in params.items():
        expected = TENSORS[f"{run_name}/step{step}/{name}"]
        # Elements that cancel out to nearly zero are judged by their tensor: within one rounding of the largest.
        torch.testing.assert_close(p.data, expected, rtol=2e-6, atol=6e-8 * float(expected.abs().max()))


@pytest.fixture(params=["loops", "rows"], autouse=True)
def form(request, monkeypatch):
    """What does the element-wise work; kernels, which are slow in the interpreter, only where a test names them."""
    if request.param == "kernels":
        if torch.cuda.is_available():
            pytest.skip("nothing is interpreted where the tests of a GPU run")
        triton_forms = pytest.importorskip("icefall_alp.models.kernels.triton_forms")
        monkeypatch.setattr(chains, "form_for", lambda device_type: triton_forms)
    elif request.param == "rows":
        monkeypatch.setattr(scaled_adam, "loops_suit", lambda params: False)
        monkeypatch.setattr(scaled_adam, "kernels_suit", lambda params: False)
    elif not scaled_adam.loops_suit([torch.zeros(1)]):
        pytest.skip("no loops in C here")
    return request.param


@pytest.mark.parametrize(
    ("form", "row_width", "chunk", "piece"),
    [
        ("loops", 256, 1 << 20, 1 << 14),
        ("loops", 4, 1, 5),
        ("rows", 256, 1 << 20, 1 << 14),
        ("rows", 4, 1, 5),
        ("kernels", 256, 1 << 20, 1 << 14),
    ],
    indirect=["form"],
)
@pytest.mark.parametrize("run_name", META)
def test_golden_trajectory(run_name, row_width, chunk, piece, monkeypatch):
    monkeypatch.setattr(scaled_adam_rows, "ROW_WIDTH", row_width)
    monkeypatch.setattr(scaled_adam_rows, "CPU_CHUNK", chunk)
    monkeypatch.setattr(native_scaled_adam, "PIECE", piece)
    meta = META[run_name]
    params = {name: torch.nn.Parameter(TENSORS[f"{run_name}/init/{name}"].clone()) for name in COMMON["shapes"]}
    groups = meta["groups"] or [{"names": list(params), "lr": COMMON["lr"]}]
    optimizer = ScaledAdam(
        [{"params": [params[name] for name in group["names"]], "lr": group["lr"]} for group in groups],
        clipping_update_period=meta["clipping_update_period"],
    )
    for step, rates in enumerate(meta["lr_per_step"], 1):
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        for name, p in params.items():
            p.grad = TENSORS[f"grad/step{step}/{name}"].clone()
        if step == meta["inf_gradient_at_step"]:
            params["vec"].grad[0] = torch.inf
        optimizer.step()
        clipping = optimizer.clipping()
        for name, key in (("clip_factor", "clip_factor"), ("model_norm", "model_norm"), ("threshold", "threshold")):
            expected = meta[f"{key}_per_step"][step - 1]
            if step > 1:
                wanted = [torch.inf if value is None else value for value in expected]
                assert clipping[name].tolist() == pytest.approx(wanted, rel=2e-6)
        if step in COMMON["saved_steps"]:
            assert_golden(params, run_name, step)
    counts = [state["num_clipped"] for state in meta["state_layout"].values() if "num_clipped" in state]
    assert optimizer.clipping()["num_clipped"].tolist() == counts


def test_hyper_parameters_are_the_golden_ones():
    defaults = ScaledAdam(random_parameters(0)).defaults
    for name in ("lr", "clipping_scale", "eps"):
        assert defaults[name] == COMMON[name]
    assert list(defaults["betas"]) == COMMON["betas"]
    names = ("SCALAR_SCALE", "SCALAR_MAX", "RMS_MIN", "RMS_MAX", "SIZE_PERIOD")
    keys = ("scalar_lr_scale", "scalar_max", "param_min_rms", "param_max_rms", "size_update_period")
    assert [getattr(scaled_adam, name) for name in names] == [COMMON[key] for key in keys]


def test_relative_change_does_not_depend_on_a_parameters_scale():
    shapes = [(5, 6), (40,)]
    small, large = random_parameters(1, shapes), random_parameters(1, shapes)
    for p, q in zip(small, large, strict=True):
        p.data.mul_(2.0**-6)
        q.data.mul_(2.0)
    run(ScaledAdam(small), small, range(30))
    # The gradient of a larger parameter is smaller when the loss stays the same.
    run(ScaledAdam(large), large, range(30), size=2.0**-7)
    for p, q in zip(small, large, strict=True):
        torch.testing.assert_close(p * 2.0**7, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_order_does_not_matter(size, monkeypatch):
    monkeypatch.setattr(scaled_adam_rows, "CPU_CHUNK", size)
    monkeypatch.setattr(native_scaled_adam, "PIECE", size)
    here, there = random_parameters(2), random_parameters(2)
    order = [5, 0, 7, 3, 6, 1, 4, 2]
    shuffled = ScaledAdam([there[i] for i in order])
    run(ScaledAdam(here), here, range(25))
    run(shuffled, there, range(25))
    for p, q in zip(here, there, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-6, atol=1e-7)


def test_equal_shapes_together_equal_each_alone():
    shapes = [(6, 5)] * 4 + [()] * 3
    together, alone = random_parameters(3, shapes), random_parameters(3, shapes)
    run(ScaledAdam(together, clipping_scale=1e9), together, range(12))
    groups = [{"params": [p]} for p in alone]
    run(ScaledAdam(groups, clipping_scale=1e9), alone, range(12))
    for p, q in zip(together, alone, strict=True):
        assert torch.equal(p, q)


def test_a_parameter_without_elements_changes_nothing():
    alone, beside = random_parameters(3), [*random_parameters(3), torch.nn.Parameter(torch.zeros(0, 4))]
    run(ScaledAdam(alone), alone, range(9))
    run(ScaledAdam(beside), beside, range(9))
    assert all(torch.equal(p, q) for p, q in zip(alone, beside[:-1], strict=True))


def test_missing_gradient_counts_as_zero():
    missing, zero = random_parameters(4), random_parameters(4)
    first, second = ScaledAdam(missing), ScaledAdam(zero)
    for step in range(15):
        grads = random_gradients(step)
        for i, (p, q) in enumerate(zip(missing, zero, strict=True)):
            absent = step % 3 == 1 and i in (0, 4)
            p.grad = None if absent else grads[i].clone()
            q.grad = torch.zeros_like(q) if absent else grads[i].clone()
        first.step()
        second.step()
    for p, q in zip(missing, zero, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("when", [0, 4, 13])
def test_a_bad_gradient_acts_like_no_gradient_at_any_step(bad, when):
    broken, zeroed = random_parameters(5), random_parameters(5)
    first, second = ScaledAdam(broken), ScaledAdam(zeroed)
    for step in range(when + 1):
        grads = random_gradients(step)
        for p, q, grad in zip(broken, zeroed, grads, strict=True):
            p.grad = grad.clone()
            q.grad = torch.zeros_like(q) if step == when else grad.clone()
        if step == when:
            broken[6].grad[3, 1] = bad
        first.step()
        second.step()
    assert first.clipping()["clip_factor"].item() == 0.0
    for p, q in zip(broken, zeroed, strict=True):
        assert torch.equal(p, q)


def test_bad_gradients_throughout_stop_with_an_explanation():
    params = random_parameters(6)
    before = [p.detach().clone() for p in params]
    optimizer = ScaledAdam(params)
    with pytest.raises(UserError, match=r"infinite or NaN .*step 10.*base_lr"):
        for _ in range(20):
            for p in params:
                p.grad = torch.full_like(p, torch.nan)
            optimizer.step()
    for p, q in zip(params, before, strict=True):
        assert torch.equal(p, q)


def test_gradients_are_left_as_they_are():
    params = random_parameters(7)
    optimizer = ScaledAdam(params)
    run(optimizer, params, range(17))
    assert optimizer.clipping()["clip_factor"].item() < 1.0
    spiked = [grad * 20.0 for grad in random_gradients(1016)]
    for p, grad in zip(params, spiked, strict=True):
        assert torch.equal(p.grad, grad)


def test_scalars_stay_bounded():
    params = random_parameters(8, [(), (1,), (6, 6)])
    optimizer = ScaledAdam(params, lr=1.0)
    for _ in range(150):
        for p in params[:2]:
            p.grad = -p.detach().sign()  # always outwards
        optimizer.step()
    assert params[0].abs().item() == 10.0
    assert params[1].abs().item() == 10.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    reference, params = random_parameters(9), random_parameters(9, dtype=dtype)
    run(ScaledAdam(reference), reference, range(20))
    optimizer = ScaledAdam(params)
    run(optimizer, params, range(20))
    state = optimizer.state_dict()["state"]["0"]
    assert state["exp_avg_sq"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for p, q in zip(params, reference, strict=True):
        assert p.dtype == dtype
        torch.testing.assert_close(p.float(), q.data, rtol=0, atol=0.1 if dtype == torch.bfloat16 else 1e-5)


def split_tensors(value, name=""):
    """Nested state -> (the same with names for tensors, name -> tensor), as a checkpoint stores it."""
    if isinstance(value, torch.Tensor):
        return name, {name: value}
    if isinstance(value, dict):
        parts = {key: split_tensors(item, f"{name}/{key}") for key, item in value.items()}
        return {key: part[0] for key, part in parts.items()}, {
            n: t for _, part in parts.values() for n, t in part.items()
        }
    return value, {}


def join_tensors(value, tensors):
    if isinstance(value, dict):
        return {key: join_tensors(item, tensors) for key, item in value.items()}
    return tensors.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("stop", [0, 1, 3, 11, 24])
def test_resumed_run_is_bit_identical_through_json_and_safetensors(stop):
    def groups(params):
        return [{"params": params[:5], "lr": 0.04}, {"params": params[5:], "lr": 0.004}]

    unbroken, broken = random_parameters(10), random_parameters(10)
    reference, first = (ScaledAdam(groups(p), clipping_update_period=20) for p in (unbroken, broken))
    run(reference, unbroken, range(45))
    run(first, broken, range(stop))
    plain, tensors = split_tensors(first.state_dict())
    plain, tensors = json.loads(json.dumps(plain)), load(save(tensors))
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in broken]
    second = ScaledAdam(groups(resumed), lr=9.0)
    second.load_state_dict(join_tensors(plain, tensors))
    run(second, resumed, range(stop, 45))
    for p, q in zip(unbroken, resumed, strict=True):
        assert torch.equal(p, q)
    for name, value in reference.clipping().items():
        assert torch.equal(value, second.clipping()[name])


def test_saved_state_does_not_change_with_later_steps():
    params = random_parameters(11)
    optimizer = ScaledAdam(params)
    run(optimizer, params, range(5))
    saved = optimizer.state_dict()["state"]["0"]
    before = {name: value.clone() for name, value in saved.items() if isinstance(value, torch.Tensor)}
    run(optimizer, params, range(5, 12))
    assert all(torch.equal(saved[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("form", "steps"), [(f, s) for f in ("loops", "rows", "kernels") for s in (0, 12)], indirect=["form"]
)
def test_a_deep_copy_goes_on_alike_and_alone(steps):
    """Of parameters and optimizer together, as an average or a trial step takes one."""
    params = random_parameters(0)
    groups = [{"params": params[:3], "names": ["a", "b", "c"]}, {"params": params[3:], "lr": 0.01}]
    optimizer = ScaledAdam(groups, lr=0.03, clipping_update_period=10)
    run(optimizer, params, range(steps))
    copied_params, copied = copy.deepcopy((params, optimizer))
    assert copied.defaults.items() >= optimizer.defaults.items()  # PyTorch adds one of its own
    assert copied.param_groups[0]["names"] == ["a", "b", "c"]
    assert copied.param_groups[0]["names"] is not optimizer.param_groups[0]["names"]
    assert all(ours is theirs for ours, theirs in zip(copied.param_groups[0]["params"], copied_params[:3], strict=True))
    before = [p.clone() for p in params]
    run(copied, copied_params, range(steps, steps + 15))
    assert all(torch.equal(p, old) for p, old in zip(params, before, strict=True))
    run(optimizer, params, range(steps, steps + 15))
    for ours, theirs in zip(params, copied_params, strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(copied.clipping(), optimizer.clipping(), rtol=0, atol=0)


def test_state_of_other_parameters_is_refused():
    params = random_parameters(12)
    optimizer = ScaledAdam(params)
    run(optimizer, params, range(2))
    with pytest.raises(UserError, match="8 parameters in 1 groups does not fit the model's 7"):
        ScaledAdam(params[:7]).load_state_dict(optimizer.state_dict())


def test_parameter_groups_match_the_golden_ones():
    net = torch.nn.Module()
    net.a = torch.nn.Linear(2, 2)
    net.b = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    net.b.lr_scale, net.b[1].lr_scale = 0.5, 0.1
    names = {id(p): name for name, p in net.named_parameters()}
    expected = json.loads((GOLDEN / "lr_groups.json").read_text())
    groups = parameter_groups(net, base_lr=0.04)
    assert [[names[id(p)] for p in group["params"]] for group in groups] == [group["names"] for group in expected]
    assert [group["lr"] for group in groups] == pytest.approx([group["lr"] for group in expected])
    net.a.requires_grad_(False)
    net.lr_scale = 2.0
    assert [group["lr"] for group in parameter_groups(net, base_lr=0.04)] == pytest.approx([0.04, 0.004])


@pytest.mark.gpu
def test_gpu_follows_the_cpu(monkeypatch):
    for chunk in (1, 1 << 26):
        monkeypatch.setattr(scaled_adam_rows, "DEVICE_CHUNK", chunk)
        here = random_parameters(13)
        there = [torch.nn.Parameter(p.detach().to("cuda")) for p in here]
        first, second = ScaledAdam(here), ScaledAdam(there)
        for steps in (range(9), range(9, 10), range(10, 30)):
            run(first, here, steps)
            run(second, there, steps)
        for p, q in zip(here, there, strict=True):
            torch.testing.assert_close(q.detach().cpu(), p.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_gpu_step_does_not_wait_for_the_device():
    params = [torch.nn.Parameter(p.detach().to("cuda")) for p in random_parameters(14)]
    optimizer = ScaledAdam(params)
    run(optimizer, params, range(11))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            optimizer.step()
            optimizer.clipping()
    finally:
        torch.cuda.set_sync_debug_mode("default")
