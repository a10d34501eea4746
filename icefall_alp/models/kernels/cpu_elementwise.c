// SPDX-License-Identifier: Apache-2.0
// Element-wise chains of native.py in one pass over memory each.
#include "cpu_numbers.h"

enum { PIECE = 2048 };  // numbers that one turn of a loop without rows works on
enum { SHARE = 64 };    // rows of which one partial sum of a parameter's gradient is made

// ---- Activations. A mask (items, n) goes with rows (items * per_item, n); without one, rows are pieces of the whole.

void swoosh(const void *x, const float *mask, void *y, long size, long n, long per_item, float shift, float offset,
            int half, int threads) {
    n = mask ? n : PIECE;
    PARALLEL(size, threads)
    for (long b = 0; b < size; b += n) {
        const float *m = mask + b / n / per_item * n;
        FOR_TYPE(half, if (mask) swoosh_row(at(x, b, H), m, to(y, b, H), MIN(n, size - b), shift, offset, H, 1);
                 else swoosh_row(at(x, b, H), 0, to(y, b, H), MIN(n, size - b), shift, offset, H, 0));
    }
}

INLINE void swoosh_backward_row(const void *x, const float *mask, const void *grad, void *grad_x, void *y, long n,
                                float shift, float offset, int half, int masked, int value) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float v = get(x, i, half), z = v - shift, e = exp_negative(-fabsf(z)), m = masked ? mask[i] : 1.0f;
        put(grad_x, i, half, get(grad, i, half) * m * (sigmoid_from(z, e) - SLOPE));
        if (value) put(y, i, half, m * swoosh_from(v, z, e, offset));
    }
}

// grad_x may be grad; where y is wanted, the value is made again
void swoosh_backward(const void *x, const float *mask, const void *grad, void *grad_x, void *y, long size, long n,
                     long per_item, float shift, float offset, int half, int threads) {
    n = mask ? n : PIECE;
    PARALLEL(size, threads)
    for (long b = 0; b < size; b += n) {
        long c = MIN(n, size - b), m = b / n / per_item * n;
#define ROW(masked, value)                                                                                             \
    swoosh_backward_row(at(x, b, H), masked ? mask + m : 0, at(grad, b, H), to(grad_x, b, H), value ? to(y, b, H) : 0, \
                        c, shift, offset, H, masked, value)
        FOR_TYPE(half, if (mask) ROW(1, 1); else if (y) ROW(0, 1); else ROW(0, 0));
#undef ROW
    }
}

// ---- Gates: y = x f(g) keep, f the sigmoid or, with `bent`, tanh(g) = 2 sigmoid(2 g) - 1. Rows of x and g have a stride.

INLINE float gate_value(float g, int bent) { return bent ? 2.0f * sigmoid(2.0f * g) - 1.0f : sigmoid(g); }

INLINE void gate_row(const void *x, const void *g, void *y, long n, float keep, int half, int bent) {
#pragma omp simd
    for (long i = 0; i < n; i++) put(y, i, half, get(x, i, half) * (gate_value(get(g, i, half), bent) * keep));
}

void gate(const void *x, const void *g, const float *keep, void *y, long rows, long n, long stride_x, long stride_g,
          int bent, int half, int threads) {
    PARALLEL(rows * n, threads)
    for (long r = 0; r < rows; r++) {
        float k = keep ? keep[r] : 1.0f;
        FOR_TYPE(half, {
            if (bent) gate_row(at(x, r * stride_x, H), at(g, r * stride_g, H), to(y, r * n, H), n, k, H, 1);
            else gate_row(at(x, r * stride_x, H), at(g, r * stride_g, H), to(y, r * n, H), n, k, H, 0);
        });
    }
}

INLINE void gate_backward_row(const void *grad, const void *x, const void *g, void *grad_x, void *grad_g, long n,
                              float keep, int half, int bent) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float f = gate_value(get(g, i, half), bent), slope = bent ? 1.0f - f * f : f * (1.0f - f);
        float pull = get(grad, i, half) * keep;
        put(grad_x, i, half, pull * f);
        put(grad_g, i, half, pull * get(x, i, half) * slope);
    }
}

void gate_backward(const void *grad, const void *x, const void *g, const float *keep, void *grad_x, void *grad_g,
                   long rows, long n, long stride_x, long stride_g, int bent, int half, int threads) {
    PARALLEL(rows * n, threads)
    for (long r = 0; r < rows; r++) {
        float k = keep ? keep[r] : 1.0f;
#define ROW(bent)                                                                                           \
    gate_backward_row(at(grad, r * n, H), at(x, r * stride_x, H), at(g, r * stride_g, H), to(grad_x, r * n, H), \
                      to(grad_g, r * n, H), n, k, H, bent)
        FOR_TYPE(half, if (bent) ROW(1); else ROW(0));
#undef ROW
    }
}

// ---- Weighted sums of groups of frames: x (items, frames, n), rows with a stride, to y (items, groups, n); weights (..,
// groups, factor), each item's at a distance of `step`. The last group may be cut short.

void sum_groups(const float *x, const float *weights, float *y, long items, long frames, long n, long stride,
                long groups, long factor, long step, int threads) {
    PARALLEL(items * frames * n, threads)
    for (long g = 0; g < items * groups; g++) {
        const float *w = weights + g / groups * step + g % groups * factor;
        const float *from = x + (g / groups * frames + g % groups * factor) * stride;
        long count = MIN(factor, frames - g % groups * factor);
        for (long i = 0; i < n; i++) y[g * n + i] = w[0] * from[i];
        for (long k = 1; k < count; k++)
            for (long i = 0; i < n; i++) y[g * n + i] += w[k] * from[k * stride + i];
    }
}

// ---- Balancer: sums of x and its square for each SHARE rows (.., n), and grad + |grad| (intercept + slope x).

INLINE void moments_row(const void *x, float *sums, float *squares, long n, int half) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float v = get(x, i, half);
        sums[i] += v;
        squares[i] += v * v;
    }
}

void moments(const void *x, float *sums, float *squares, long rows, long n, long stride, int half, int threads) {
    PARALLEL(rows * n, threads)
    for (long first = 0; first < rows; first += SHARE) {
        float *s = sums + first / SHARE * n, *q = squares + first / SHARE * n;
        memset(s, 0, n * sizeof(float));
        memset(q, 0, n * sizeof(float));
        for (long r = first; r < MIN(rows, first + SHARE); r++)
            FOR_TYPE(half, moments_row(at(x, r * stride, H), s, q, n, H));
    }
}

INLINE void add_line_row(const void *x, const void *grad, const float *intercept, const float *slope, void *y, long n,
                         int half) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float g = get(grad, i, half);
        put(y, i, half, g + fabsf(g) * (intercept[i] + slope[i] * get(x, i, half)));
    }
}

void add_line(const void *x, const void *grad, const float *intercept, const float *slope, void *y, long rows, long n,
              long stride, int half, int threads) {
    PARALLEL(rows * n, threads)
    for (long r = 0; r < rows; r++)
        FOR_TYPE(half, add_line_row(at(x, r * stride, H), at(grad, r * n, H), intercept, slope, to(y, r * n, H), n, H));
}
