# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the element-wise chains, each one pass over memory; everything is computed in float32.

A tensor of frames is seen as rows (R, C) whose columns lie side by side; rows may be further apart than C, as in one
half of a projection.
"""

from __future__ import annotations

import triton
import triton.language as tl

CODE_RANGE = tl.constexpr(255.0 / 1.005)  # a slope in (0, 1) as one byte


@triton.jit
def _softplus(z):
    return tl.maximum(z, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(z)))


@triton.jit
def swoosh_forward(
    x_at, mask_at, y_at, code_at, size, channels, item_size, shift, offset, seed,
    HAS_MASK: tl.constexpr, HAS_CODE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = mask (softplus(x - shift) - 0.08 x - offset); optionally the slope as a byte, rounded at random."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    x = tl.load(x_at + index, mask=inside, other=0.0).to(tl.float32)
    y = _softplus(x - shift) - 0.08 * x - offset
    if HAS_MASK:
        place = index // item_size * channels + index % channels
        y *= tl.load(mask_at + place, mask=inside, other=0.0).to(tl.float32)
    if HAS_CODE:
        code = tl.sigmoid(x - shift) * CODE_RANGE + tl.rand(seed, index.to(tl.int32))
        tl.store(code_at + index, code.to(tl.uint8), mask=inside)
    tl.store(y_at + index, y.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def swoosh_backward(
    grad_at, x_at, mask_at, grad_x_at, y_at, size, channels, item_size, shift, offset,
    HAS_MASK: tl.constexpr, FROM_CODE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of x, and without a code y again, for the linear layer behind it."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    grad = tl.load(grad_at + index, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(x_at + index, mask=inside, other=0).to(tl.float32)
    sigmoid = x / CODE_RANGE if FROM_CODE else tl.sigmoid(x - shift)
    slope = sigmoid - 0.08
    if HAS_MASK:
        place = index // item_size * channels + index % channels
        mask = tl.load(mask_at + place, mask=inside, other=0.0).to(tl.float32)
        slope *= mask
        y = mask * (_softplus(x - shift) - 0.08 * x - offset)
        tl.store(y_at + index, y.to(y_at.dtype.element_ty), mask=inside)
    elif not FROM_CODE:
        y = _softplus(x - shift) - 0.08 * x - offset
        tl.store(y_at + index, y.to(y_at.dtype.element_ty), mask=inside)
    tl.store(grad_x_at + index, (grad * slope).to(grad_x_at.dtype.element_ty), mask=inside)


@triton.jit
def gate_forward(
    x_at, gate_at, keep_at, y_at, size, channels, x_stride, gate_stride, HAS_KEEP: tl.constexpr, BLOCK: tl.constexpr
):
    """y = x sigmoid(gate) keep."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    row, column = index // channels, index % channels
    x = tl.load(x_at + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(gate_at + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    y = x * tl.sigmoid(gate)
    if HAS_KEEP:
        y *= tl.load(keep_at + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_at + index, y.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def gate_backward(
    grad_at, x_at, gate_at, keep_at, grad_x_at, grad_gate_at, size, channels, x_stride, gate_stride,
    HAS_KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Both gradients."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    row, column = index // channels, index % channels
    x = tl.load(x_at + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    opened = tl.sigmoid(tl.load(gate_at + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32))
    grad = tl.load(grad_at + index, mask=inside, other=0.0).to(tl.float32)
    if HAS_KEEP:
        grad *= tl.load(keep_at + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(grad_x_at + index, (grad * opened).to(grad_x_at.dtype.element_ty), mask=inside)
    grad_gate = grad * x * opened * (1.0 - opened)
    tl.store(grad_gate_at + index, grad_gate.to(grad_gate_at.dtype.element_ty), mask=inside)


@triton.jit
def bias_norm_forward(x_at, bias_at, log_scale_at, y_at, inverse_at, channels, BLOCK: tl.constexpr):
    """One row: y = x exp(log_scale) / rms(x - bias), and the inverse of the rms."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < channels
    x = tl.load(x_at + row * channels + column, mask=inside, other=0.0).to(tl.float32)
    centred = x - tl.load(bias_at + column, mask=inside, other=0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(tl.where(inside, centred * centred, 0.0), 0) / channels)
    tl.store(inverse_at + row, inverse)
    tl.store(y_at + row * channels + column, x * inverse * tl.exp(tl.load(log_scale_at)), mask=inside)


@triton.jit
def bias_norm_backward(
    grad_at, x_at, bias_at, log_scale_at, inverse_at, grad_x_at, grad_bias_at, grad_scale_at, rows, channels,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some rows: the gradient of x, and those rows' share of the parameters' gradients, to be summed in order."""
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < channels
    bias = tl.load(bias_at + column, mask=inside, other=0.0)
    factor = tl.exp(tl.load(log_scale_at))
    grad_bias = tl.zeros((BLOCK,), tl.float32)
    grad_scale = 0.0
    for step in range(ROWS):
        row = program * ROWS + step
        there = inside & (row < rows)
        x = tl.load(x_at + row * channels + column, mask=there, other=0.0).to(tl.float32)
        grad = tl.load(grad_at + row * channels + column, mask=there, other=0.0).to(tl.float32)
        inverse = tl.load(inverse_at + row, mask=row < rows, other=0.0)
        pull = inverse * factor * tl.sum(grad * x, 0)
        through_rms = tl.where(there, (x - bias) * (pull * inverse * inverse / channels), 0.0)
        grad_x = grad * inverse * factor - through_rms
        tl.store(grad_x_at + row * channels + column, grad_x.to(grad_x_at.dtype.element_ty), mask=there)
        grad_bias += through_rms
        grad_scale += pull
    tl.store(grad_bias_at + program * channels + column, grad_bias, mask=inside)
    tl.store(grad_scale_at + program, grad_scale)


@triton.jit
def shifted_softmax_forward(
    content_at, relative_at, bias_at, weights_at, frames, per_head, bias_item, bias_row,
    HAS_RELATIVE: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One target of one matrix: softmax over sources of content + relative[source - target + T - 1] + bias."""
    row = tl.program_id(0).to(tl.int64)
    matrix, target = row // frames, row % frames
    source = tl.arange(0, BLOCK)
    inside = source < frames
    score = tl.load(content_at + row * frames + source, mask=inside, other=-float("inf")).to(tl.float32)
    if HAS_RELATIVE:
        place = row * (2 * frames - 1) + source - target + frames - 1
        score += tl.load(relative_at + place, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        place = matrix % per_head * bias_item + target * bias_row + source
        score += tl.load(bias_at + place, mask=inside, other=0.0).to(tl.float32)
    score = tl.where(inside, tl.exp(score - tl.max(score, 0)), 0.0)
    weights = score / tl.sum(score, 0)
    tl.store(weights_at + row * frames + source, weights.to(weights_at.dtype.element_ty), mask=inside)


@triton.jit
def shifted_softmax_backward(
    grad_at, weights_at, grad_content_at, grad_relative_at, frames, HAS_RELATIVE: tl.constexpr, BLOCK: tl.constexpr
):
    """One target: gradients of the content and of the relative scores, these zero outside of the shifted window."""
    row = tl.program_id(0).to(tl.int64)
    target = row % frames
    source = tl.arange(0, BLOCK)
    inside = source < frames
    weights = tl.load(weights_at + row * frames + source, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_at + row * frames + source, mask=inside, other=0.0).to(tl.float32)
    score = weights * (grad - tl.sum(weights * grad, 0))
    tl.store(grad_content_at + row * frames + source, score.to(grad_content_at.dtype.element_ty), mask=inside)
    if HAS_RELATIVE:
        place = row * (2 * frames - 1) + source - target + frames - 1
        tl.store(grad_relative_at + place, score.to(grad_relative_at.dtype.element_ty), mask=inside)


@triton.jit
def moments(x_at, sums_at, squares_at, rows, channels, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Some rows' sum and sum of squares of a block of channels, to be summed in order."""
    program = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < channels
    total = tl.zeros((BLOCK,), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    for step in range(ROWS):
        row = program * ROWS + step
        x = tl.load(x_at + row * channels + column, mask=inside & (row < rows), other=0.0).to(tl.float32)
        total += x
        squares += x * x
    tl.store(sums_at + program * channels + column, total, mask=inside)
    tl.store(squares_at + program * channels + column, squares, mask=inside)


@triton.jit
def add_line(x_at, grad_at, intercept_at, slope_at, out_at, size, channels, BLOCK: tl.constexpr):
    """grad + |grad| (intercept + slope x), the line of each channel."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    column = index % channels
    x = tl.load(x_at + index, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_at + index, mask=inside, other=0.0).to(tl.float32)
    line = tl.load(intercept_at + column, mask=inside, other=0.0)
    line += x * tl.load(slope_at + column, mask=inside, other=0.0)
    tl.store(out_at + index, (grad + tl.abs(grad) * line).to(out_at.dtype.element_ty), mask=inside)
