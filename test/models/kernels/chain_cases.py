# SPDX-License-Identifier: Apache-2.0
"""Every chain with its arguments, in shapes that are odd, empty or of one frame; used by the tests of all forms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icefall_alp.models.kernels import plain

SIZES = {"odd": (3, 7, 5), "wide": (2, 33, 130), "one_frame": (2, 1, 6), "empty": (0, 4, 6)}
SWOOSH_L = (4.0, 0.035)


def arguments(chain: str, size: str, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor | None], tuple]:
    """Tensors, the differentiable ones with gradients on, and the constants that follow them."""
    torch.manual_seed(0)
    items, frames, dim = SIZES[size]

    def leaf(*shape: int) -> Tensor:  # numbers that half precision holds too, so that both see the same
        return (1.5 * torch.randn(shape)).bfloat16().to(dtype).requires_grad_()

    return _MAKERS[chain](items, frames, dim, leaf)


def _keep(items: int, frames: int, x: Tensor) -> Tensor:
    lens = torch.arange(items) % max(frames, 1) + 1
    return (torch.arange(frames) < lens[:, None]).unsqueeze(2).to(x.dtype)


def _attention(items, frames, dim, leaf):
    hidden = torch.arange(frames) >= (torch.arange(items) % max(frames, 1) + 1)[:, None]
    q, k, p = leaf(items, frames, 2 * dim), leaf(items, frames, 2 * dim), leaf(items, frames, 2 * 2)
    return [q, k, p, leaf(2, 2, 2 * frames - 1), hidden.unsqueeze(1).to(q.dtype) * -1e9]


def _feed_forward(items, frames, dim, leaf):
    mask = (torch.rand(items, 1, 6) > 0.3).to(leaf(1).dtype) / 0.7
    return [leaf(items, frames, dim), mask, leaf(6, dim), leaf(6), leaf(4, 6), leaf(4)]


def _pixels(items, frames, dim, leaf):
    return [leaf(items, frames, 3, dim), leaf(6, dim, 1, 1), leaf(6), leaf(4, 6, 1, 1), leaf(4)]


_MAKERS: dict[str, Callable] = {
    "swoosh": lambda n, t, c, leaf: ([leaf(n, t, c)], SWOOSH_L),
    "swoosh_linear": lambda n, t, c, leaf: (
        [leaf(n, t, c), (torch.rand(n, 1, c) > 0.3).to(leaf(1).dtype) / 0.7, leaf(4, c), leaf(4)],
        SWOOSH_L,
    ),
    "linear": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(4, c), leaf(4)], ()),
    "logits": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(13, c), leaf(13)], ()),
    "feed_forward": lambda n, t, c, leaf: (_feed_forward(n, t, c, leaf), (*SWOOSH_L, torch.Tensor.clone)),
    "pointwise_feed_forward": lambda n, t, c, leaf: (_pixels(n, t, c, leaf), (*SWOOSH_L, torch.Tensor.clone)),
    "gate": lambda n, t, c, leaf: ([x := leaf(n, t, c), leaf(n, t, c), _keep(n, t, x)], ()),
    "tanh_gate": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(n, t, c)], ()),
    "bias_norm": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(c), leaf()], ()),
    "bypass": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(n, t, c), leaf(c)], ()),
    "bypass of norm": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(n, t, c), leaf(c), leaf(c), leaf()], ()),
    "bypass of frames": lambda n, t, c, leaf: (
        [leaf(n, t, c), leaf(n, -(-t // 3), c), leaf(n, 1, c)],
        (None, None, 3),
    ),
    "bypass of both": lambda n, t, c, leaf: (
        [leaf(n, t, c), leaf(n, -(-t // 2), c), leaf(n, 1, c), leaf(c), leaf()],
        (2,),
    ),
    "residual": lambda n, t, c, leaf: (
        [leaf(n, t, c), leaf(n, t, c), (torch.rand(n, 1, 1) > 0.4).to(leaf(1).dtype)],
        (),
    ),
    "sum_groups": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(n, -(-t // 3), 3)], ()),
    "depthwise_conv": lambda n, t, c, leaf: ([leaf(n, t, c), leaf(c, 1, 5), leaf(c)], (2,)),
    "depthwise_image_conv": lambda n, t, c, leaf: ([leaf(n, t, 3, c), leaf(c, 1, 7, 7), leaf(c)], ()),
    "image_conv": lambda n, t, c, leaf: ([leaf(n, 1, t + 2, c), leaf(4, 1, 3, 3), leaf(4)], ((1, 1), (0, 1))),
    "mix": lambda n, t, c, leaf: ([leaf(3, n, t, t), leaf(n, t, 3 * c)], ()),
    "attention_weights": lambda n, t, c, leaf: (_attention(n, t, c, leaf), (2, None)),
}
CHAINS = list(_MAKERS)


def chain_of(form, case: str) -> Callable:
    """A case may be one of several of its chain: "chain of what"."""
    return getattr(form, case.split(" of ")[0])


def outputs_and_gradients(form, chain: str, size: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """What a form computes, and its gradients for a fixed gradient of the outputs."""
    tensors, constants = arguments(chain, size, dtype)
    result = chain_of(form, chain)(*tensors, *constants)
    outputs = result if isinstance(result, tuple) else (result,)
    torch.manual_seed(1)
    inputs = [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]
    gradients = torch.autograd.grad(outputs, inputs, [torch.randn(out.shape).to(out.dtype) for out in outputs])
    return [*(out.detach() for out in outputs), *gradients]


def check_gradients_of_gradients(form, chain: str) -> None:
    """They are right or refused: closed forms are not made for them, and silence would be wrong numbers."""
    found = []
    for which in (plain, form):
        tensors, constants = arguments(chain, "odd")
        leaves = [x for x in tensors if x is not None and x.requires_grad]
        out = chain_of(which, chain)(*tensors, *constants)
        out = out[0] if isinstance(out, tuple) else out
        try:
            grads = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
            total = sum(grad.square().sum() for grad in grads)
            found.append(torch.autograd.grad(total, leaves, allow_unused=which is plain))
        except RuntimeError as error:
            assert which is form and "no gradients of gradients" in str(error)
            return
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def oddly_strided(x: Tensor) -> Tensor:
    """The same numbers; axes of one have a stride that leads nowhere."""
    strides = [3 if n == 1 else stride for n, stride in zip(x.shape, x.stride(), strict=True)]
    return x.detach().clone().as_strided(x.shape, strides).requires_grad_(x.requires_grad)


TYPES_OF_BYPASS = {  # of `original`, `new` and the parameters
    "all narrow": (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    "narrow frames": (torch.bfloat16, torch.bfloat16, torch.float32),
    "narrow branch": (torch.float32, torch.bfloat16, torch.float32),
    "narrow stream": (torch.bfloat16, torch.float32, torch.float32),
}


def check_types_of_bypass(form, types, normed):
    """Type and value of the output, types of the gradients."""
    torch.manual_seed(0)
    shapes = [(2, 5, 6), (2, 5, 6), (6,)] + ([(6,), ()] if normed else [])
    values = [torch.randn(shape).to(types[min(i, 2)]) for i, shape in enumerate(shapes)]
    leaves = [x.clone().requires_grad_() for x in values]
    y = form.bypass(*leaves)
    assert y.dtype == types[0]
    torch.testing.assert_close(y.double(), plain.bypass(*[x.double() for x in values]), rtol=2e-2, atol=5e-2)
    grads = torch.autograd.grad(y.float().square().sum(), leaves)
    assert [grad.dtype for grad in grads] == [x.dtype for x in leaves]
