# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the element-wise chains, each one pass over memory; everything is computed in float32.

A tensor of frames is seen as rows (R, C) whose columns lie side by side; rows may be further apart than C, as in one
half of a projection. A program works on a tile of ROWS rows and BLOCK columns: what belongs to a row or a column is
found by adding, where dividing the index of every element would take longer than the memory does.
"""

from __future__ import annotations

import triton
import triton.language as tl

from icefall_alp.models.kernels.triton_tiles import own_share, own_tile

CODE_RANGE = tl.constexpr(255.0 / 1.005)  # a slope in (0, 1) as one byte


@triton.jit
def _softplus(z, e):
    """log(1 + exp(z)) from e = exp(-|z|): log(1 + e) by its polynomial through 9 Chebyshev points of [0, 1]."""
    p = -0.0290740647 + e * 0.00512610214
    p = -0.136022476 + e * (0.0775160868 + e * p)
    p = -0.24835399 + e * (0.190768807 + e * p)
    p = -0.49999445 + e * (0.333181217 + e * p)
    return tl.maximum(z, 0.0) + e * (0.999999966 + e * p)


@triton.jit
def _sigmoid(z, e):
    """1 / (1 + exp(-z)) from e = exp(-|z|)."""
    return tl.where(z < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def swoosh_forward(
    x_at, mask_at, y_at, code_at, rows, channels, per_item, shift, offset, seed_at,
    HAS_MASK: tl.constexpr, HAS_CODE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = mask (softplus(x - shift) - 0.08 x - offset); optionally the slope as a byte, rounded at random."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    x = tl.load(x_at + start + column, mask=inside, other=0.0).to(tl.float32)
    z = x - shift
    e = tl.exp(-tl.abs(z))
    y = _softplus(z, e) - 0.08 * x - offset
    if HAS_MASK:
        item = (row // per_item).to(tl.int64) * channels
        y *= tl.load(mask_at + item + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_CODE:
        code = _sigmoid(z, e) * CODE_RANGE + tl.rand(tl.load(seed_at), (start + column).to(tl.int32))
        tl.store(code_at + start + column, code.to(tl.uint8), mask=inside)
    tl.store(y_at + start + column, y.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def swoosh_backward(
    grad_at, x_at, mask_at, grad_x_at, y_at, rows, channels, per_item, shift, offset,
    HAS_MASK: tl.constexpr, HAS_Y: tl.constexpr, FROM_CODE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of x and, for a linear layer behind it, y again."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    grad = tl.load(grad_at + start + column, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(x_at + start + column, mask=inside, other=0).to(tl.float32)
    z = x - shift
    e = tl.exp(-tl.abs(z))
    sigmoid = x / CODE_RANGE if FROM_CODE else _sigmoid(z, e)
    factor = 1.0
    if HAS_MASK:
        item = (row // per_item).to(tl.int64) * channels
        factor = tl.load(mask_at + item + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_Y:
        y = factor * (_softplus(z, e) - 0.08 * x - offset)
        tl.store(y_at + start + column, y.to(y_at.dtype.element_ty), mask=inside)
    grad_x = grad * factor * (sigmoid - 0.08)
    tl.store(grad_x_at + start + column, grad_x.to(grad_x_at.dtype.element_ty), mask=inside)


@triton.jit
def _opened(gate, BENT: tl.constexpr):
    """The sigmoid of a gate, or where it is BENT its hyperbolic tangent, which is the sigmoid's twin."""
    z = 2.0 * gate if BENT else gate
    sigmoid = _sigmoid(z, tl.exp(-tl.abs(z)))
    return 2.0 * sigmoid - 1.0 if BENT else sigmoid


@triton.jit
def gate_forward(
    x_at, gate_at, keep_at, y_at, rows, channels, x_stride, gate_stride,
    HAS_KEEP: tl.constexpr, BENT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = x sigmoid(gate) keep, or x tanh(gate)."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    wide = row.to(tl.int64)
    x = tl.load(x_at + wide * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(gate_at + wide * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    y = x * _opened(gate, BENT)
    if HAS_KEEP:
        y *= tl.load(keep_at + row, mask=row < rows, other=0.0).to(tl.float32)
    tl.store(y_at + start + column, y.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def gate_backward(
    grad_at, x_at, gate_at, keep_at, grad_x_at, grad_gate_at, rows, channels, x_stride, gate_stride,
    HAS_KEEP: tl.constexpr, BENT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Both gradients."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    wide = row.to(tl.int64)
    x = tl.load(x_at + wide * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(gate_at + wide * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    opened = _opened(gate, BENT)
    grad = tl.load(grad_at + start + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_KEEP:
        grad *= tl.load(keep_at + row, mask=row < rows, other=0.0).to(tl.float32)
    tl.store(grad_x_at + start + column, (grad * opened).to(grad_x_at.dtype.element_ty), mask=inside)
    grad_gate = grad * x * (1.0 - opened * opened if BENT else opened - opened * opened)
    tl.store(grad_gate_at + start + column, grad_gate.to(grad_gate_at.dtype.element_ty), mask=inside)


@triton.jit
def bias_norm_forward(
    x_at, bias_at, log_scale_at, y_at, inverse_at, rows, channels, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Whole rows: y = x exp(log_scale) / rms(x - bias), and the inverse of the rms."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    x = tl.load(x_at + start + column, mask=inside, other=0.0).to(tl.float32)
    centred = x - tl.load(bias_at + column, mask=column < channels, other=0.0).to(tl.float32)
    square = tl.sum(tl.where(inside, centred * centred, 0.0), 1)[:, None] / channels
    inverse = 1.0 / tl.sqrt(tl.where(row < rows, square, 1.0))
    tl.store(inverse_at + row, inverse, mask=row < rows)
    tl.store(y_at + start + column, x * (inverse * tl.exp(tl.load(log_scale_at).to(tl.float32))), mask=inside)


@triton.jit
def bias_norm_backward(
    grad_at, x_at, bias_at, log_scale_at, inverse_at, grad_x_at, grad_bias_at, grad_scale_at, rows, channels,
    STEPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Whole rows: the gradient of x, and those rows' share of the parameters' gradients, to be summed in order."""
    column = tl.arange(0, BLOCK)[None, :]
    bias = tl.load(bias_at + column, mask=column < channels, other=0.0).to(tl.float32)
    factor = tl.exp(tl.load(log_scale_at).to(tl.float32))
    grad_bias = tl.zeros((ROWS, BLOCK), tl.float32)
    grad_scale = tl.zeros((ROWS, 1), tl.float32)
    for step in range(STEPS):
        row = own_share(step, STEPS, ROWS)
        inside = (row < rows) & (column < channels)
        start = row.to(tl.int64) * channels
        x = tl.load(x_at + start + column, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(grad_at + start + column, mask=inside, other=0.0).to(tl.float32)
        inverse = tl.load(inverse_at + row, mask=row < rows, other=0.0)
        pull = inverse * factor * tl.sum(grad * x, 1)[:, None]
        through_rms = tl.where(inside, (x - bias) * (pull * inverse * inverse / channels), 0.0)
        grad_x = grad * (inverse * factor) - through_rms
        tl.store(grad_x_at + start + column, grad_x.to(grad_x_at.dtype.element_ty), mask=inside)
        grad_bias += through_rms
        grad_scale += pull
    program = tl.program_id(0).to(tl.int64)
    tl.store(grad_bias_at + program * channels + column, tl.sum(grad_bias, 0)[None, :], mask=column < channels)
    tl.store(grad_scale_at + program, tl.sum(grad_scale))


@triton.jit
def bypass_forward(
    original_at, new_at, scale_at, bias_at, log_scale_at, y_at, inverse_at, rows, channels, stride, frames, per_scale,
    HAS_NORM: tl.constexpr, FACTOR: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """original + (new - original) scale; `per_scale` rows share a row of the scale, FACTOR frames one of `new`.

    With HAS_NORM, for whole rows, `new` is BiasNorm's input, and the inverse of its rms is written too.
    """
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    low = row // frames * tl.cdiv(frames, FACTOR) + row % frames // FACTOR if FACTOR > 1 else row
    original = tl.load(original_at + row.to(tl.int64) * stride + column, mask=inside, other=0.0).to(tl.float32)
    new = tl.load(new_at + low.to(tl.int64) * channels + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_NORM:
        centred = new - tl.load(bias_at + column, mask=column < channels, other=0.0).to(tl.float32)
        square = tl.sum(tl.where(inside, centred * centred, 0.0), 1)[:, None] / channels
        inverse = 1.0 / tl.sqrt(tl.where(row < rows, square, 1.0))
        tl.store(inverse_at + low, inverse, mask=row < rows)
        new *= inverse * tl.exp(tl.load(log_scale_at).to(tl.float32))
    group = (row // per_scale).to(tl.int64) * channels
    scale = tl.load(scale_at + group + column, mask=inside, other=0.0).to(tl.float32)
    y = original + (new - original) * scale
    tl.store(y_at + start + column, y.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def bypass_backward(
    grad_at, original_at, new_at, scale_at, bias_at, log_scale_at, inverse_at,
    grad_original_at, grad_new_at, grad_scale_at, grad_bias_at, grad_log_scale_at,
    channels, stride, frames, per_scale, shares,
    HAS_NORM: tl.constexpr, FACTOR: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some of the rows of `new` that go with one scale: two gradients, and those rows' share of the parameters'.

    Shares are to be summed in order. `per_scale` rows of new share a row of the scale.
    """
    group = tl.program_id(0) // shares
    column = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    there = column < channels
    scale = tl.load(scale_at + group.to(tl.int64) * channels + column, mask=there, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    if HAS_NORM:
        bias = tl.load(bias_at + column, mask=there, other=0.0).to(tl.float32)
        factor = tl.exp(tl.load(log_scale_at).to(tl.float32))
        grad_bias = tl.zeros((ROWS, BLOCK), tl.float32)
        grad_log_scale = tl.zeros((ROWS, 1), tl.float32)
    groups = tl.cdiv(frames, FACTOR)
    for step in range(STEPS):
        own = ((tl.program_id(0) % shares * STEPS + step) * ROWS + tl.arange(0, ROWS))[:, None]
        low = group * per_scale + own
        inside = (own < per_scale) & there
        place = low.to(tl.int64) * channels + column
        raw = tl.load(new_at + place, mask=inside, other=0.0).to(tl.float32)
        new = raw
        if HAS_NORM:
            inverse = tl.load(inverse_at + low, mask=own < per_scale, other=0.0)
            new = raw * (inverse * factor)
        pulled = tl.zeros((ROWS, BLOCK), tl.float32)
        for k in tl.static_range(FACTOR):
            frame = low % groups * FACTOR + k if FACTOR > 1 else low
            row = (low // groups * frames + frame if FACTOR > 1 else low).to(tl.int64)
            here = inside & (frame < frames) if FACTOR > 1 else inside
            grad = tl.load(grad_at + row * channels + column, mask=here, other=0.0).to(tl.float32)
            original = tl.load(original_at + row * stride + column, mask=here, other=0.0).to(tl.float32)
            grad_original = (grad - grad * scale).to(grad_original_at.dtype.element_ty)
            tl.store(grad_original_at + row * channels + column, grad_original, mask=here)
            pulled += grad * scale
            total += grad * (new - original)
        if HAS_NORM:
            pull = inverse * factor * tl.sum(pulled * raw, 1)[:, None]
            through_rms = tl.where(inside, (raw - bias) * (pull * inverse * inverse / channels), 0.0)
            pulled = pulled * (inverse * factor) - through_rms
            grad_bias += through_rms
            grad_log_scale += pull
        tl.store(grad_new_at + place, pulled.to(grad_new_at.dtype.element_ty), mask=inside)
    share = tl.program_id(0).to(tl.int64)
    tl.store(grad_scale_at + share * channels + column, tl.sum(total, 0)[None, :], mask=there)
    if HAS_NORM:
        tl.store(grad_bias_at + share * channels + column, tl.sum(grad_bias, 0)[None, :], mask=there)
        tl.store(grad_log_scale_at + share, tl.sum(grad_log_scale))


@triton.jit
def residual_forward(
    x_at, branch_at, keep_at, total_at, value_at, rows, channels, per_item,
    HAS_KEEP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x + keep branch in two types; `per_item` rows share a number of `keep`."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    x = tl.load(x_at + start + column, mask=inside, other=0.0).to(tl.float32)
    branch = tl.load(branch_at + start + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_KEEP:
        branch *= tl.load(keep_at + row // per_item, mask=row < rows, other=0.0).to(tl.float32)
    total = x + branch
    tl.store(total_at + start + column, total, mask=inside)
    tl.store(value_at + start + column, total.to(value_at.dtype.element_ty), mask=inside)


@triton.jit
def residual_backward(
    grad_at, grad_value_at, keep_at, grad_x_at, grad_branch_at, rows, channels, per_item,
    HAS_KEEP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Both gradients from those of both results."""
    row, start, column, inside = own_tile(rows, channels, ROWS, BLOCK)
    grad = tl.load(grad_at + start + column, mask=inside, other=0.0).to(tl.float32)
    grad += tl.load(grad_value_at + start + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(grad_x_at + start + column, grad, mask=inside)
    if HAS_KEEP:
        grad *= tl.load(keep_at + row // per_item, mask=row < rows, other=0.0).to(tl.float32)
    tl.store(grad_branch_at + start + column, grad.to(grad_branch_at.dtype.element_ty), mask=inside)


@triton.jit
def shifted_softmax_forward(
    content_at, relative_at, bias_at, weights_at, side_at, penalty_at, limit,
    rows, frames, per_head, bias_item, bias_row,
    HAS_RELATIVE: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SIDE: tl.constexpr, LIVE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Targets (rows) of all matrices: softmax over sources of content + relative[source - target + T - 1] + bias.

    Relative scores lie 2T apart. Optionally, before the bias, on which side of the limits a score is: 1, 0 or -1.
    """
    row, start, source, inside = own_tile(rows, frames, ROWS, BLOCK)
    target = row % frames
    score = tl.load(content_at + start + source, mask=inside, other=-1e30).to(tl.float32)
    if HAS_RELATIVE:
        window = row.to(tl.int64) * (2 * frames) + frames - 1 - target
        score += tl.load(relative_at + window + source, mask=inside, other=0.0).to(tl.float32)
    if HAS_SIDE:
        written = rows
        if LIVE:
            written = tl.where(tl.load(penalty_at) != 0.0, rows, 0)
        side = tl.where(score > limit, 1, 0) - tl.where(score < -limit, 1, 0)
        tl.store(side_at + start + source, side.to(tl.int8), mask=inside & (row < written))
    if HAS_BIAS:
        hidden = (row // frames % per_head).to(tl.int64) * bias_item + target * bias_row
        score += tl.load(bias_at + hidden + source, mask=inside, other=0.0).to(tl.float32)
    score = tl.where(inside, tl.exp(score - tl.max(score, 1)[:, None]), 0.0)
    weights = score / tl.where(row < rows, tl.sum(score, 1)[:, None], 1.0)
    tl.store(weights_at + start + source, weights.to(weights_at.dtype.element_ty), mask=inside)


@triton.jit
def shifted_softmax_backward(
    grad_at, first_at, weights_at, grad_content_at, grad_relative_at, side_at, strength_at, rows, frames, first_rows,
    HAS_RELATIVE: tl.constexpr, HAS_SIDE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Targets: gradients of the content and of the relative scores, these zero outside of the shifted window.

    The first rows have another gradient in addition, that of the first head's weights on their own. Without strength
    the sides are not read.
    """
    row, start, source, inside = own_tile(rows, frames, ROWS, BLOCK)
    weights = tl.load(weights_at + start + source, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_at + start + source, mask=inside, other=0.0).to(tl.float32)
    grad += tl.load(first_at + start + source, mask=inside & (row < first_rows), other=0.0).to(tl.float32)
    score = weights * (grad - tl.sum(weights * grad, 1)[:, None])
    if HAS_SIDE:
        strength = tl.load(strength_at).to(tl.float32)
        told = inside & (row < tl.where(strength != 0.0, rows, 0))
        score += strength * tl.load(side_at + start + source, mask=told, other=0).to(tl.float32)
    tl.store(grad_content_at + start + source, score.to(grad_content_at.dtype.element_ty), mask=inside)
    if HAS_RELATIVE:
        places, target = 2 * frames, row % frames
        line = grad_relative_at + row.to(tl.int64) * places
        tl.store(line + frames - 1 - target + source, score.to(grad_relative_at.dtype.element_ty), mask=inside)
        behind = places - 1 - target + source  # the window, and then from the beginning
        outside = tl.where(behind < places, behind, behind - places)
        nothing = tl.zeros_like(score).to(grad_relative_at.dtype.element_ty)
        tl.store(line + outside, nothing, mask=inside)
