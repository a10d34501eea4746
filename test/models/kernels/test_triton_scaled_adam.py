# SPDX-License-Identifier: Apache-2.0
"""The optimizer's kernels against its formulas and against PyTorch's operations; trajectories are in test/training."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from icefall_alp.models.kernels import chains
from icefall_alp.models.kernels.scaled_adam_rows import ScaledAdamRows

triton_scaled_adam = pytest.importorskip("icefall_alp.models.kernels.triton_scaled_adam")
triton_forms = pytest.importorskip("icefall_alp.models.kernels.triton_forms")
ScaledAdamKernels = triton_scaled_adam.ScaledAdamKernels
ROOT = Path(__file__).parents[3]
SHAPES = [(3, 5), (), (260,), (0, 4), (1,), (2, 3, 7, 7), (70, 33)]
CONSTANTS = ((0.9, 0.98), 1e-3, 0.03)  # betas, eps, rate


@pytest.fixture(autouse=True)
def by_triton(on_the_device, monkeypatch):
    monkeypatch.setattr(chains, "form_for", lambda device_type: triton_forms)


def tensors(seed):
    torch.manual_seed(seed)
    return [torch.randn(shape) for shape in SHAPES]


def sizes():
    """The denominators' factors, and growth."""
    return torch.linspace(0.5, 3.0, len(SHAPES)), torch.linspace(-0.1, 0.1, len(SHAPES))


def advance(elements, factor=None):
    """Two steps that move the parameters at once and one in which they grow first: the sums of each."""
    inverse_size, growth = sizes()
    sums = [elements.update(tensors(seed), factor, inverse_size, *CONSTANTS, move=seed < 3) for seed in (1, 2, 3)]
    elements.grow(growth)
    return sums


@pytest.mark.parametrize(("factor", "piece"), [(None, 1024), (1.0, 1024), (0.25, 16)])
def test_each_parameter_follows_the_formulas(factor, piece, monkeypatch):
    monkeypatch.setattr(triton_scaled_adam, "PIECE", piece)
    params = tensors(0)
    elements = ScaledAdamKernels(params)
    sums = advance(elements, None if factor is None else torch.tensor(factor))
    expected = [(p.double(), torch.zeros_like(p).double(), torch.zeros_like(p).double()) for p in tensors(0)]
    for step, seed in enumerate((1, 2, 3)):
        for i, (grad, inverse, growth) in enumerate(zip(tensors(seed), *sizes(), strict=True)):
            p, square, delta = expected[i]
            grad = grad.double() * (factor or 1.0)
            assert sums[step][i].item() == pytest.approx((p * grad).sum().item(), rel=1e-5, abs=1e-4)
            square = 0.98 * square + 0.02 * grad**2
            delta = 0.9 * delta - 0.03 * grad / ((square.sqrt() + 1e-3) * inverse)
            delta = delta if seed < 3 else delta + p * growth
            expected[i] = p + delta, square, delta
    for ours, theirs in zip((params, elements.exp_avg_sq, elements.delta), zip(*expected, strict=True), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factor", [None, 0.25, 0.0])
def test_equals_operations_on_rows_and_itself(factor):
    factor = None if factor is None else torch.tensor(factor)
    results = []
    for form in (lambda p: ScaledAdamRows(p, torch.float32), ScaledAdamKernels, ScaledAdamKernels):
        params = tensors(0)
        elements = form(params)
        results.append([torch.stack(advance(elements, factor)), *params, *elements.exp_avg_sq, *elements.delta])
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(*results[1:], strict=True))


def test_a_factor_of_zero_hides_what_is_not_finite():
    params = tensors(0)
    elements = ScaledAdamKernels(params)
    grads = tensors(1)
    grads[2][7], grads[6][3, 4] = torch.nan, torch.inf
    sums = elements.update(grads, torch.tensor(0.0), torch.ones(len(SHAPES)), *CONSTANTS, move=True)
    assert not sums.any()
    assert not any(state.any() for state in (*elements.exp_avg_sq, *elements.delta))
    assert all(torch.equal(p, q) for p, q in zip(params, tensors(0), strict=True))


def test_gradients_may_lie_anywhere():
    grads = tensors(1)
    grads[5] = grads[5].contiguous(memory_format=torch.channels_last)
    grads[6] = torch.cat((torch.zeros(1), grads[6].flatten()))[1:].view(70, 33)  # as in a bucket of many
    results = []
    for each in (grads, tensors(1)):
        params = tensors(0)
        ScaledAdamKernels(params).update(each, None, torch.ones(len(SHAPES)), *CONSTANTS, move=True)
        results.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_parameters_may_move_but_not_change():
    params = [torch.nn.Parameter(p) for p in tensors(0)]
    elements, growth = ScaledAdamKernels(params), torch.full((len(SHAPES),), 0.5)
    elements.grow(growth)
    params[6].data = params[6].data.clone()
    before, version = params[6].detach().clone(), params[6]._version
    elements.grow(torch.zeros(len(SHAPES)))
    torch.testing.assert_close(params[6].data, before * 4 / 3)
    assert params[6]._version > version
    for changed in (torch.zeros(33, 70).t(), torch.zeros(70, 33, dtype=torch.bfloat16)):
        params[6].data = changed
        with pytest.raises(RuntimeError, match="changed their type, layout"):
            elements.grow(growth)


def test_nothing_at_all_is_no_error():
    elements = ScaledAdamKernels([torch.zeros(0, 3)])
    assert elements.update([torch.zeros(0, 3)], None, torch.ones(1), *CONSTANTS, move=True).tolist() == [0.0]


def test_compiles_for_a_gpu_without_spilling_calls_and_exchange_between_threads():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tools'}"
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["grow_pieces 0 0 [1]", "update_pieces 0 0 [1]", "update_pieces 0 0 [1]"]


def print_compiled():
    """Of each kernel the bytes of spilt registers, the calls, and how many neighbours a thread takes."""
    for name, constants in (("grow", {}), ("update", {"MOVE": True}), ("update", {"MOVE": False})):
        kernel = getattr(triton_scaled_adam, f"{name}_pieces")
        made = compiled(kernel, {**constants, "PIECE": triton_scaled_adam.PIECE})
        usage, listing = benchmarks.kernels._inspect(made.asm["cubin"])
        spilt, calls = re.search(r"STACK:(\d+)", usage)[1], len(re.findall(r"\bCALL\b", listing))
        (neighbours,) = set(re.findall(r"sizePerThread = (\[\d+\])", made.asm["ttgir"]))
        print(kernel.__name__, spilt, calls, neighbours)


def compiled(kernel, constants):
    """As it is when launched."""
    kinds = dict.fromkeys(("pieces_at", "params_at", "grads_at"), "*i64")
    kinds |= dict.fromkeys(("beta1", "beta2", "rest2", "eps", "rate"), "fp32") | dict.fromkeys(constants, "constexpr")
    signature = {param.name: kinds.get(param.name, "*fp32") for param in kernel.params}
    even = [param for param in kernel.params if signature[param.name].startswith("*")]
    even = {(param.num,): [["tt.divisibility", 16]] for param in even if not param.do_not_specialize_on_alignment}
    numbers = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = triton.compiler.ASTSource(kernel, signature, numbers, even)
    return triton.compile(source, target=GPUTarget("cuda", benchmarks.kernels.CAPABILITY, benchmarks.kernels.WARP))


if __name__ == "__main__":
    import triton
    from triton.backends.compiler import GPUTarget

    import benchmarks.kernels

    print_compiled()
