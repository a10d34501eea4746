# SPDX-License-Identifier: Apache-2.0
"""The convolution modules against golden outputs and gradients, and against a plain convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from icefall_alp.models.zipformer.convolution import ChunkCausalConv, ConvModule, depthwise_conv


def test_conv_module(units, check_module):
    case = units("convmodule")
    keep = 1.0 - case["key_padding_mask"].float().unsqueeze(-1)
    check_module(ConvModule(6, 5, causal=False), case, lambda m, x: m(x, keep, -1))


@pytest.mark.parametrize("chunk", [-1, 4, 16])
def test_chunk_causal_convolution(units, check_module, chunk):
    case = units(f"chunkconv/chunk{chunk}")
    time_inner = lambda x: x.transpose(1, 2)  # noqa: E731
    check_module(ChunkCausalConv(5, 7), case, lambda m, x: m(x, chunk), layout=time_inner, back=time_inner)


def test_depthwise_convolution_equals_the_layer():
    torch.manual_seed(0)
    conv, x = nn.Conv1d(6, 6, 5, padding=2, groups=6), torch.randn(2, 9, 6)
    torch.testing.assert_close(depthwise_conv(x, conv), conv(x.transpose(1, 2)).transpose(1, 2))
