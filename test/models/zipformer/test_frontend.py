# SPDX-License-Identifier: Apache-2.0
"""The frontend at its real channel counts against golden outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import prune

from icefall_alp.models.zipformer.activations import SwooshL
from icefall_alp.models.zipformer.frontend import Conv2dSubsampling, ConvNeXt, ImageConv


@pytest.fixture
def frontend(golden):
    data = golden("frontend_full.safetensors")
    module = Conv2dSubsampling(80, 12, (8, 32, 128))
    module.load_state_dict({k.removeprefix("state/"): v for k, v in data.items() if k.startswith("state/")})
    return module, data


def test_output(frontend, close):
    module, data = frontend
    with torch.no_grad():
        close(module.eval()(data["x"]), data["y"], rtol=1e-5, atol=2e-5)
    assert torch.equal((data["x_lens"] - 7) // 2, data["y_lens"])


def test_gradients(frontend, close, draw):
    module, data = frontend
    draw(0.999)
    module.train()
    module.dropout_p = module.convnext.layerdrop_rate = 0.0
    module(data["x"]).backward(data["gy"])
    grads = {k: p.grad for k, p in module.named_parameters()}
    for name, grad in grads.items():
        close(grad.norm(), data[f"grad_norm/{name}"], rtol=2e-4, atol=2e-6)
        if f"grad/{name}" in data:
            reference = data[f"grad/{name}"]
            assert (grad - reference).norm() <= 2e-4 * reference.norm() + 2e-6, name
        size = float(grad.norm()) * grad.numel() ** 0.5
        assert abs(float(grad.sum() - data[f"grad_sum/{name}"])) <= 1e-4 * size + 2e-6, name


def test_noise_is_per_sequence(frontend):
    module, data = frontend
    torch.manual_seed(0)
    module.train()
    module.dropout_p, module.convnext.layerdrop_rate = 0.3, 0.0
    with torch.no_grad():
        zero = module(data["x"]) == 0
    assert zero.any() and torch.equal(zero, zero[:, :1].expand_as(zero))


def test_masked_frames_do_not_reach_valid_ones(frontend):
    module, data = frontend
    module.eval()
    x = data["x"].clone()
    padding = torch.arange(19) >= torch.tensor([[19], [12]])
    with torch.no_grad():
        before = module(x, padding)
        x[1, 31:] = 50.0
        after = module(x, padding)
        alone = module(x[1:, :31])
    torch.testing.assert_close(after[1, :12], before[1, :12], rtol=0, atol=0)
    torch.testing.assert_close(after[1, :12], alone[0], rtol=1e-5, atol=1e-5)


def to_inner(x):
    return x.permute(0, 2, 3, 1)


def test_convnext(units, check_module):
    case = units("convnext")
    check_module(ConvNeXt(4), case, lambda m, x: m(x), layout=to_inner, back=lambda y: y.permute(0, 3, 1, 2))


def test_convnext_equals_plain_convolutions():
    torch.manual_seed(0)
    module, x = ConvNeXt(4).eval(), torch.randn(2, 4, 9, 11)
    y = module.pointwise_conv2(SwooshL()(module.pointwise_conv1(module.depthwise_conv(x))))
    torch.testing.assert_close(module(to_inner(x)), to_inner(x + y))


def test_first_convolution_equals_the_plain_one():
    torch.manual_seed(0)
    conv, x = ImageConv(1, 4, 3, padding=(0, 1)), torch.randn(2, 11, 8)
    torch.testing.assert_close(conv(x), F.conv2d(x.unsqueeze(1), conv.weight, conv.bias, padding=(0, 1)))


def test_a_pruned_or_parametrized_layer_computes_with_what_it_has_now():
    torch.manual_seed(0)
    module, x = ConvNeXt(4).eval(), torch.randn(2, 9, 11, 4)
    expected = module(x)
    prune.identity(module.pointwise_conv1, "weight")
    torch.testing.assert_close(module(x), expected)
    with torch.no_grad():
        module.pointwise_conv2.weight.zero_()
    prune.l1_unstructured(module.pointwise_conv2, "bias", 1.0)
    torch.testing.assert_close(module(x), x)
