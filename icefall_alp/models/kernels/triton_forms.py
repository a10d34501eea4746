# SPDX-License-Identifier: Apache-2.0
"""The chains for a GPU: one Triton kernel for each element-wise stretch, `closed` where a library is as good.

A swoosh on its own keeps its input for backward; with ICEFALL_ALP_SWOOSH=8bit it keeps its slope in one byte for each
element instead, rounded at random without bias (noise up to 1/255).
"""

from __future__ import annotations

import os

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from icefall_alp.models.kernels import closed
from icefall_alp.models.kernels import triton_kernels as kernels
from icefall_alp.models.kernels.closed import (  # noqa: F401  (a library computes these as well)
    image_conv,
    linear,
    mix,
    rows_of,
    sum_groups,
)
from icefall_alp.models.kernels.plain import Number, ScorePenalty, by_head
from icefall_alp.models.kernels.triton_balancer import balancer_gradient  # noqa: F401
from icefall_alp.models.kernels.triton_convolutions import depthwise_conv, depthwise_image_conv  # noqa: F401
from icefall_alp.models.kernels.triton_tiles import STEPS, as_one_row, programs_for, sizes_of, tile_for, whole_rows_for
from icefall_alp.models.kernels.triton_whiten import whiten_gradient  # noqa: F401

ALIGNED = 8  # numbers of 16 bits that are moved at once
EIGHT_BIT = os.environ.get("ICEFALL_ALP_SWOOSH", "") == "8bit"


class _Swoosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, shift: float, offset: float) -> Tensor:
        x = _dense(x)
        y = torch.empty_like(x)
        code = torch.empty_like(x, dtype=torch.uint8) if EIGHT_BIT else x
        seed = torch.randint(2**31, (1,), device=x.device) if EIGHT_BIT else x
        tile = tile_for(x.numel())
        kernels.swoosh_forward[programs_for(*as_one_row(x), tile)](
            x, x, y, code, *as_one_row(x), 1, shift, offset, seed, HAS_MASK=False, HAS_CODE=EIGHT_BIT, **tile
        )
        ctx.save_for_backward(code)
        ctx.constants, ctx.dtype = (shift, offset), x.dtype
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        from_code = kept.dtype == torch.uint8
        grad = _laid_out_like(grad, kept)
        grad_x = torch.empty_like(kept, dtype=ctx.dtype)
        tile = tile_for(kept.numel())
        kernels.swoosh_backward[programs_for(*as_one_row(kept), tile)](
            grad, kept, kept, grad_x, grad_x, *as_one_row(kept), 1, *ctx.constants,
            HAS_MASK=False, HAS_Y=False, FROM_CODE=from_code, **tile,
        )  # fmt: skip
        return grad_x, None, None


class _SwooshLinear(torch.autograd.Function):
    """Keeps x and the small mask; backward makes the activation and its derivative in one kernel."""

    @staticmethod
    def forward(ctx, x, mask, weight, bias, shift: float, offset: float) -> Tensor:
        x, ctx.constants = x.contiguous(), (shift, offset)
        mask = mask if mask is None else mask.contiguous()
        hidden, tile = torch.empty_like(x), tile_for(x.shape[-1])
        kernels.swoosh_forward[programs_for(*sizes_of(x), tile)](
            x, x if mask is None else mask, hidden, x, *sizes_of(x), _rows_of_an_item(x), shift, offset, 0,
            HAS_MASK=mask is not None, HAS_CODE=False, **tile,
        )  # fmt: skip
        ctx.save_for_backward(x, mask, weight)
        return F.linear(hidden, weight, bias)

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor):
        x, mask, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_hidden = rows @ weight.to(grad.dtype)
        grad_x, hidden, tile = torch.empty_like(x), torch.empty_like(x), tile_for(x.shape[-1])
        kernels.swoosh_backward[programs_for(*sizes_of(x), tile)](
            grad_hidden, x, x if mask is None else mask, grad_x, hidden, *sizes_of(x), _rows_of_an_item(x),
            *ctx.constants, HAS_MASK=mask is not None, HAS_Y=True, FROM_CODE=False, **tile,
        )  # fmt: skip
        grad_weight = rows.t() @ hidden.reshape(-1, hidden.shape[-1]).to(rows.dtype)
        grad_bias = rows.sum(0).to(weight.dtype) if ctx.needs_input_grad[3] else None
        return grad_x, None, grad_weight.to(weight.dtype), grad_bias, None, None


def _rows_of_an_item(x: Tensor) -> int:
    """Rows that share a row of a mask (N, 1, C). Never 0, to divide by."""
    return max(1, sizes_of(x)[0] // max(1, len(x)))


def _dense(x: Tensor) -> Tensor:
    """A tensor whose elements fill their memory in some order of axes, such as channels-last."""
    return x if torch.empty_like(x).stride() == x.stride() else x.contiguous()


def _laid_out_like(grad: Tensor, x: Tensor) -> Tensor:
    return grad if grad.stride() == x.stride() else torch.empty_like(x, dtype=grad.dtype).copy_(grad)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gates: Tensor, keep: Tensor | None, bent: bool) -> Tensor:
        x, gates = rows_of(x), rows_of(gates)
        keep = keep if keep is None else keep.contiguous()
        y, tile = torch.empty(x.shape, dtype=x.dtype, device=x.device), tile_for(x.shape[-1])
        kernels.gate_forward[programs_for(*sizes_of(x), tile)](
            x, gates, y if keep is None else keep, y, *sizes_of(x), x.stride(-2), gates.stride(-2),
            HAS_KEEP=keep is not None, BENT=bent, **tile,
        )  # fmt: skip
        ctx.save_for_backward(x, gates, keep)
        ctx.bent = bent
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, gates, keep = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x, grad_gates = torch.empty_like(grad, dtype=x.dtype), torch.empty_like(grad, dtype=gates.dtype)
        tile = tile_for(grad.shape[-1])
        kernels.gate_backward[programs_for(*sizes_of(grad), tile)](
            grad, x, gates, grad if keep is None else keep, grad_x, grad_gates, *sizes_of(grad), x.stride(-2),
            gates.stride(-2), HAS_KEEP=keep is not None, BENT=ctx.bent, **tile,
        )  # fmt: skip
        return grad_x, grad_gates, None, None


class _BiasNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        x, (rows, channels) = x.contiguous(), sizes_of(x)
        y = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        inverse, tile = torch.empty(rows, dtype=torch.float32, device=x.device), whole_rows_for(channels)
        kernels.bias_norm_forward[programs_for(rows, channels, tile)](
            x, bias, log_scale, y, inverse, rows, channels, **tile
        )
        ctx.save_for_backward(x, bias, log_scale, inverse)
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, log_scale, inverse = ctx.saved_tensors
        (rows, channels), tile = sizes_of(x), whole_rows_for(x.shape[-1])
        num_programs = max(1, triton.cdiv(rows, STEPS * tile["ROWS"]))
        grad_x = torch.empty_like(x)
        shares = torch.empty(num_programs, channels, dtype=torch.float32, device=x.device)
        scale_shares = torch.empty(num_programs, dtype=torch.float32, device=x.device)
        kernels.bias_norm_backward[(num_programs,)](
            grad.contiguous(), x, bias, log_scale, inverse, grad_x, shares, scale_shares, rows, channels,
            STEPS=STEPS, **tile,
        )  # fmt: skip
        return grad_x, shares.sum(0), scale_shares.sum().view_as(log_scale)


class _Bypass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, original, new, scale, bias: Tensor | None, log_scale: Tensor | None, factor: int) -> Tensor:
        original, new, scale = rows_of(original), new.contiguous(), scale.contiguous()
        (rows, channels), frames = sizes_of(original), original.shape[1]
        y = torch.empty(original.shape, dtype=original.dtype, device=original.device)
        inverse = None if bias is None else torch.empty(new.shape[:2], dtype=torch.float32, device=new.device)
        norm = (original, original) if bias is None else (bias.contiguous(), log_scale)
        tile = tile_for(channels) if bias is None else whole_rows_for(channels)
        kernels.bypass_forward[programs_for(rows, channels, tile)](
            original, new, scale, *norm, y, y if inverse is None else inverse, rows, channels, original.stride(1),
            frames, rows if scale.dim() == 1 else frames, HAS_NORM=bias is not None, FACTOR=factor, **tile,
        )  # fmt: skip
        ctx.save_for_backward(original, new, scale, bias, log_scale, inverse)
        ctx.factor = factor
        return y

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor):
        original, new, scale, bias, log_scale, inverse = ctx.saved_tensors
        (rows, channels), normed = sizes_of(new), bias is not None
        per_scale = rows if scale.dim() == 1 else new.shape[1]
        tile = whole_rows_for(channels) if normed else tile_for(channels)
        shares = triton.cdiv(per_scale, STEPS * tile["ROWS"])
        programs = scale.numel() // channels * shares
        grad_new = torch.empty_like(new)
        grad_original = torch.empty(original.shape, dtype=original.dtype, device=original.device)
        sums, biases = (torch.empty(programs, channels, dtype=torch.float32, device=scale.device) for _ in range(2))
        pulls = torch.empty(programs, dtype=torch.float32, device=scale.device)
        norm = (bias.contiguous(), log_scale, inverse) if normed else (new, new, new)
        kernels.bypass_backward[(programs, triton.cdiv(channels, tile["BLOCK"]))](
            grad.contiguous(), original, new, scale, *norm, grad_original, grad_new, sums, biases, pulls, channels,
            original.stride(1), original.shape[1], per_scale, shares, HAS_NORM=normed, FACTOR=ctx.factor, STEPS=STEPS,
            **tile,
        )  # fmt: skip
        grad_scale = sums.view(-1, shares, channels).sum(1).view(scale.shape).to(scale.dtype)
        of_norm = (biases.sum(0), pulls.sum().view_as(log_scale)) if normed else (None, None)
        return grad_original, grad_new, grad_scale, *of_norm, None


class _Residual(torch.autograd.Function):
    """float32 and, for the modules that read the sum, the type in which autocast multiplies."""

    @staticmethod
    def forward(ctx, x: Tensor, branch: Tensor, keep: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x, branch, keep = x.contiguous(), branch.contiguous(), keep if keep is None else keep.contiguous()
        total, value, tile = torch.empty_like(x), torch.empty_like(x, dtype=dtype), tile_for(x.shape[-1])
        kernels.residual_forward[programs_for(*sizes_of(x), tile)](
            x, branch, x if keep is None else keep, total, value, *sizes_of(x), _rows_of_an_item(x),
            HAS_KEEP=keep is not None, **tile,
        )  # fmt: skip
        ctx.save_for_backward(keep)
        ctx.set_materialize_grads(False)
        ctx.dtype = branch.dtype
        return total, value

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor | None, grad_value: Tensor | None) -> tuple[Tensor, Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        if grad is None or grad_value is None:
            grad = grad_value.float() if grad is None else grad
            pulled = grad.to(ctx.dtype) if keep is None else torch.empty_like(grad, dtype=ctx.dtype)
            return grad, pulled if keep is None else torch.mul(grad, keep, out=pulled), None, None
        grad, grad_value = grad.contiguous(), grad_value.contiguous()
        grad_x, grad_branch = torch.empty_like(grad), torch.empty_like(grad, dtype=ctx.dtype)
        tile = tile_for(grad.shape[-1])
        kernels.residual_backward[programs_for(*sizes_of(grad), tile)](
            grad, grad_value, grad if keep is None else keep, grad_x, grad_branch, *sizes_of(grad),
            _rows_of_an_item(grad), HAS_KEEP=keep is not None, **tile,
        )  # fmt: skip
        return grad_x, grad_branch, None, None


def _on_the_device(value: Number, x: Tensor) -> Tensor:
    """A number where x is, for a kernel to read."""
    return value if isinstance(value, Tensor) else torch.full((), value, dtype=torch.float32, device=x.device)


class _ShiftedSoftmax(torch.autograd.Function):
    """Weights (heads, N, T, T) from content (B, T, T), relative scores (B, T, 2T) or None, and what hides sources.

    A copy of the first head's weights spares the slice's backward, which would fill a whole gradient with zeros. Of
    scores that are penalised one byte each is kept.
    """

    @staticmethod
    def forward(
        ctx, content: Tensor, relative: Tensor | None, bias: Tensor | None, num_heads: int, penalty: ScorePenalty | None
    ) -> tuple[Tensor, Tensor]:
        batch, frames, _ = content.shape
        weights, live = torch.empty_like(content), penalty is not None and isinstance(penalty.settings, Tensor)
        side = None if penalty is None else torch.empty_like(content, dtype=torch.int8)
        bias = None if bias is None else bias.expand(batch // num_heads, -1, -1)
        strides = (0, 0) if bias is None else (bias.stride(0), 0 if bias.shape[1] == 1 else bias.stride(1))
        if content.numel():
            tile = whole_rows_for(frames)
            kernels.shifted_softmax_forward[programs_for(batch * frames, frames, tile)](
                content, content if relative is None else relative, content if bias is None else bias, weights,
                weights if side is None else side, penalty.settings if live else weights,
                0.0 if penalty is None else penalty.limit, batch * frames, frames, batch // num_heads, *strides,
                HAS_RELATIVE=relative is not None, HAS_BIAS=bias is not None, HAS_SIDE=side is not None, LIVE=live,
                **tile,
            )  # fmt: skip
        ctx.save_for_backward(weights, side)
        ctx.has_relative, ctx.penalty = relative is not None, penalty
        ctx.set_materialize_grads(False)
        weights = weights.view(num_heads, -1, frames, frames)
        return weights, weights[0].clone()

    @staticmethod
    @closed.once
    def backward(ctx, grad: Tensor | None, grad_first: Tensor | None) -> tuple[Tensor | None, ...]:
        weights, side = ctx.saved_tensors
        strength = weights if side is None else _on_the_device(ctx.penalty.strength(), weights)
        batch, frames, _ = weights.shape
        grad = torch.zeros_like(weights) if grad is None else grad.contiguous()
        grad_first = None if grad_first is None else grad_first.contiguous()
        grad_content = torch.empty_like(weights)
        grad_relative = weights.new_empty(batch, frames, 2 * frames) if ctx.has_relative else None
        if weights.numel():
            tile = whole_rows_for(frames)
            kernels.shifted_softmax_backward[programs_for(batch * frames, frames, tile)](
                grad, grad if grad_first is None else grad_first, weights, grad_content,
                grad_content if grad_relative is None else grad_relative, weights if side is None else side, strength,
                batch * frames, frames, 0 if grad_first is None else len(grad_first) * frames,
                HAS_RELATIVE=ctx.has_relative, HAS_SIDE=side is not None, **tile,
            )  # fmt: skip
        return grad_content, grad_relative, None, None, None


def swoosh(x: Tensor, shift: float, offset: float) -> Tensor:  # noqa: D103
    return _Swoosh.apply(x, shift, offset)


def swoosh_linear(x, mask, weight, bias, shift: float, offset: float) -> Tensor:  # noqa: D103
    return _SwooshLinear.apply(x, mask, weight, bias, shift, offset)


def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """In training with some rows of zeros, for rows of logits that begin at even addresses.

    At others the products of a large batch take far longer; for one token at a time the copy would.
    """
    tokens, missing = len(weight), -len(weight) % ALIGNED
    if missing and torch.is_grad_enabled():
        weight, bias = F.pad(weight, (0, 0, 0, missing)), F.pad(bias, (0, missing))
    return F.linear(x, weight, bias)[..., :tokens]


def feed_forward(x, mask, weight, bias, out_weight, out_bias, shift: float, offset: float, modify) -> Tensor:  # noqa: D103
    return swoosh_linear(modify(linear(x, weight, bias)), mask, out_weight, out_bias, shift, offset)


def pointwise_feed_forward(x, weight, bias, out_weight, out_bias, shift: float, offset: float, modify) -> Tensor:
    """As matrix products: channels are innermost."""
    return feed_forward(x, None, weight.flatten(1), bias, out_weight.flatten(1), out_bias, shift, offset, modify)


def gate(x: Tensor, gates: Tensor, keep: Tensor | None) -> Tensor:  # noqa: D103
    return _Gate.apply(x, gates, keep, False)


def tanh_gate(x: Tensor, gates: Tensor) -> Tensor:  # noqa: D103
    return _Gate.apply(x, gates, None, True)


def bias_norm(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:  # noqa: D103
    return _BiasNorm.apply(x, bias, log_scale)


def bypass(original, new, scale, bias=None, log_scale=None, factor: int = 1) -> Tensor:
    """One pass over the frames, the norm and the repetition on the way."""
    if original.numel() == 0 or not closed.bypass_fits(original, new, scale, bias, log_scale, factor):
        return closed.bypass(original, new, scale, bias, log_scale, factor)
    return _Bypass.apply(original, new, scale, bias, log_scale, factor)


def residual(x: Tensor, branch: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """In both types at once where autocast multiplies in another than that of x."""
    device = x.device.type
    narrow = torch.is_autocast_enabled(device) and x.dtype == torch.float32 and x.shape == branch.shape
    if not narrow or (keep is not None and keep.numel() != len(x)):
        return closed.residual(x, branch, keep)
    return _Residual.apply(x, branch, keep, torch.get_autocast_dtype(device))


def attention_weights(
    q: Tensor, k: Tensor, p: Tensor | None, pos: Tensor | None, bias: Tensor | None, num_heads: int,
    penalty: ScorePenalty | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The scores are never written; relative ones have a place more, for rows that begin at even addresses."""
    relative = None
    if p is not None:
        relative = by_head(p, num_heads).unflatten(0, (num_heads, -1)).flatten(1, 2) @ F.pad(pos, (0, 1))
        relative = relative.view(-1, p.shape[1], pos.shape[-1] + 1)
    content = torch.bmm(by_head(q, num_heads), by_head(k, num_heads).transpose(1, 2))
    return _ShiftedSoftmax.apply(content, relative, bias, num_heads, penalty)
