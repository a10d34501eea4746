# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations as PyTorch and this library's own loops run them."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry, sdpa_backward_flop, sdpa_flop

from icefall_alp.models.kernels.operations import unseen_operations


class FlopCounter(TorchDispatchMode):
    """Counts the operations of matrix products, convolutions and attention while active: `total`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __enter__(self) -> FlopCounter:
        self.total -= unseen_operations()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.total += unseen_operations()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        operator = function._overloadpacket
        count = _FORMULAS.get(str(operator)) or flop_registry.get(operator)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=result)
        return result


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *settings: Any, out_val: Any) -> int:
    """For each gradient asked for as many as forward; in PyTorch's formula every group meets all channels."""
    _, _, _, _, transposed, _, _, (wants_x, wants_weight, _) = settings
    return (wants_x + wants_weight) * conv_flop_count(x.shape, weight.shape, grad.shape, transposed)


def _linear(x: Tensor, weight: Tensor, *settings: Any, out_val: Tensor) -> int:
    return 2 * x.numel() * len(weight)


# What PyTorch counts wrongly or, on a CPU, not at all.
_FORMULAS = {
    "aten.convolution_backward": _convolution_backward,
    "mkldnn._linear_pointwise": _linear,
    "aten._scaled_dot_product_flash_attention_for_cpu": sdpa_flop,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": sdpa_backward_flop,
}
