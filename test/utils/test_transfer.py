# SPDX-License-Identifier: Apache-2.0
"""Tensors reach a device from pinned memory, and stay where they are on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from icefall_alp.utils.transfer import send


def test_on_the_cpu_it_is_the_tensor_itself():
    x = torch.arange(3)
    assert send(x, torch.device("cpu")) is x


@pytest.mark.parametrize("accelerator", [True, False])
def test_memory_is_pinned_where_it_can_be_and_the_copy_is_not_waited_for(monkeypatch, accelerator):
    pinned, copied = [], []
    move = Tensor.to
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    monkeypatch.setattr(Tensor, "is_pinned", lambda x: False)
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: pinned.append(1) or x)
    monkeypatch.setattr(Tensor, "to", lambda x, *place, **how: copied.append(how) or move(x, *place, **how))
    assert send(torch.arange(3), torch.device("meta")).is_meta
    assert pinned == [1] * accelerator and copied == [{"non_blocking": True}]


def test_a_compiler_sees_a_plain_copy(monkeypatch):
    """PyTorch's does not know how to pin memory."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: pytest.fail("unknown to the compiler"))
    assert send(torch.arange(3), torch.device("meta")).is_meta


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for():
    x = torch.arange(1 << 20)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = send(x, torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert there.is_cuda and (there.cpu() == x).all()
