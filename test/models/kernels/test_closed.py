# SPDX-License-Identifier: Apache-2.0
"""The closed forms against the definitions: values, gradients, both precisions, any size."""

from __future__ import annotations

import pytest
import torch

from icefall_alp.models.kernels import closed, plain
from test.models.kernels import chain_cases

CLOSE = {torch.float32: {"rtol": 2e-5, "atol": 2e-5}, torch.bfloat16: {"rtol": 3e-2, "atol": 6e-2}}


@pytest.mark.parametrize("size", chain_cases.SIZES)
@pytest.mark.parametrize("chain", chain_cases.CHAINS)
def test_equals_the_definition(chain, size):
    ours = chain_cases.outputs_and_gradients(closed, chain, size)
    for a, b in zip(ours, chain_cases.outputs_and_gradients(plain, chain, size), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, **CLOSE[torch.float32])


@pytest.mark.parametrize("chain", ["swoosh", "gate", "tanh_gate", "bypass", "attention_weights"])
def test_half_precision_stays_near_the_definition_in_full(chain):
    ours = chain_cases.outputs_and_gradients(closed, chain, "wide", torch.bfloat16)
    for a, b in zip(ours, chain_cases.outputs_and_gradients(plain, chain, "wide"), strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.nn.functional.cosine_similarity(a.float().flatten(), b.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("chain", chain_cases.CHAINS)
def test_without_a_graph_the_values_are_the_same(chain):
    tensors, constants = chain_cases.arguments(chain, "odd")
    with torch.no_grad():
        frozen = chain_cases.chain_of(closed, chain)(*tensors, *constants)
    kept = chain_cases.chain_of(closed, chain)(*tensors, *constants)
    torch.testing.assert_close(frozen, tuple(x.detach() for x in kept) if isinstance(kept, tuple) else kept.detach())


@pytest.mark.parametrize("size", [(5, 40), (64, 33), (256, 200)])
def test_each_library_multiplies_alike(size):
    """Narrow, small and large weights go different ways without a graph; all are compared with float64."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 7, size[1]), torch.randn(size), torch.randn(size[0])
    with torch.no_grad():
        ours = closed.linear(x, weight, bias)
    torch.testing.assert_close(ours.double(), x.double() @ weight.double().T + bias.double(), rtol=1e-5, atol=1e-4)
