# SPDX-License-Identifier: Apache-2.0
"""Modules that are computed as one where nobody replaced, wrapped or hooked any of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from icefall_alp.models.kernels import chains
from icefall_alp.models.zipformer.activations import ActDropLinear, Linear
from icefall_alp.models.zipformer.normalization import BiasNorm


def bare(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether nobody replaced, wrapped or hooked a module, so that it need not be called to be computed."""
    if type(module) is not kind or "forward" in vars(module) or _has_any_global_hook():
        return False
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return not any(hooks)


def through(
    first: nn.Module, modify: Callable[[Tensor], Tensor], second: nn.Module, x: Tensor, mask: Tensor | None
) -> Tensor:
    """Two layers, a `Linear` and an `ActDropLinear`, computed as one where nobody replaced or hooked either.

    Whatever is in the place of the second is given the dropout mask; `modify` is the identity but for gradients.
    """
    if bare(first, Linear) and bare(second, ActDropLinear):
        parameters = (first.weight, first.bias, second.weight, second.bias)
        return chains.feed_forward(x, mask, *parameters, second.shift, second.offset, modify)
    hidden = modify(first(x))
    return second(hidden) if mask is None else second(hidden, mask)


def left_to_do(norm: nn.Module | None, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x, bias and log_scale for a chain that does more than a norm; or y alone, where there is none or it is called."""
    if norm is None:
        return x, None, None
    if not bare(norm, BiasNorm):
        return norm(x), None, None
    return x, norm.bias, norm.limited(norm.log_scale, *norm.log_scale_limits)
