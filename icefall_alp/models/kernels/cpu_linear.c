// SPDX-License-Identifier: Apache-2.0
// Linear layers of native.py in float32 (libraries are faster in bfloat16), with a swoosh and a dropout mask before them where they have
// one, and their gradients: what goes with the numbers is done while they pass through the cache.
#include "cpu_registers.h"

enum { PANEL = 3 * LANES };  // columns worked on at a time
enum { BLOCK = 64 };         // rows worked on at a time
enum { DEPTH = 256 };        // rows that a gradient of weights is summed over at a time
enum { CACHED = 3 << 16 };   // numbers of weights that stay in the cache while all rows pass
// The first block fetches the next panel from memory: so many of its numbers with each row of this one, in every tile
enum { PACE = (PANEL * ROWS + BLOCK - 1) / BLOCK };
_Static_assert(PANEL <= 48, "frozen.py keeps space for panels of 48 columns");

// Panels of a matrix (depth, n): the weight (n, depth) with a stride between rows turned over, or as it lies. Shared by the
// threads.
static void pack(float *panels, const float *weight, long depth, long n, long stride, int turned) {
#pragma omp for schedule(static)
    for (long j = 0; j < n; j += PANEL) {
        long count = MIN(PANEL, n - j);
        if (turned) load_transposed(panels + j * depth, padded(count), weight + j * stride, stride, count, depth, 0);
        else load(panels + j * depth, padded(count), weight + j, stride, depth, count, 0);
    }
}

INLINE long whole_panels(long n) { return (n + PANEL - 1) / PANEL * PANEL; }

// Whole panels of so many columns, of `depth` numbers each, that they fit the cache together
static long columns_at_once(long depth) { return MAX(1, CACHED / (PANEL * MAX(1, depth))) * PANEL; }

INLINE void add_row(const float *x, const float *bias, float *y, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++) y[i] = x[i] + (bias ? bias[i] : 0.0f);
}

// y (rows, n), rows at a distance of `apart`, = x panels + bias, or y += x panels where `more`; `out` is space for a block;
// `pace` as for a product
INLINE void multiply(const float *x, long stride, const float *panels, const float *bias, float *y, long apart, float *out,
                     long rows, long depth, long n, int more, long pace) {
    for (long j = 0; j < n; j += PANEL) {
        long columns = MIN(PANEL, n - j), width = padded(columns);
        if (width == columns) {
            product_into(x, stride, 1, panels + j * depth, bias ? bias + j : 0, y + j, apart, width, rows, depth, more,
                         pace);
            continue;
        }
        product(x, stride, 1, panels + j * depth, out, width, rows, depth, 0);
        for (long r = 0; r < rows; r++) {
            float *to = y + r * apart + j;
            add_row(out + r * width, more ? to : bias ? bias + j : 0, to, columns);
        }
    }
}

// y (rows, n) = input weight^T + bias, the input x (rows, depth) with a stride or, where `active`, mask * swoosh(x), the
// mask (items, depth) or null. Panels stay in `kept`, (whole panels of n, depth) or null; they are there if `ready`.
void linear(const float *x, const float *mask, const float *weight, const float *bias, float *y, float *kept, long rows,
            long depth, long n, long stride, long per_item, float shift, float offset, int active, int ready,
            int threads) {
    long at_once = active ? n : MIN(n, columns_at_once(depth));  // an activation is computed once
    float *space = kept ? 0 : floats(whole_panels(at_once) * depth);
#pragma omp parallel num_threads(threads)
    {
        float *out = floats(BLOCK * (PANEL + depth)), *block = out + BLOCK * PANEL;
        for (long j = 0; j < n; j += at_once) {
            long columns = MIN(at_once, n - j);
            float *panels = kept ? kept + j * depth : space;
            if (!ready) pack(panels, weight + j * depth, depth, columns, depth, 1);
#pragma omp for schedule(static)
            for (long row = 0; row < rows; row += BLOCK) {
                long count = MIN(BLOCK, rows - row), pace = ready && row == 0 ? PACE : 0;
                for (long r = 0; active && r < count; r++) {
                    const float *factor = mask + (row + r) / per_item * depth, *from = x + (row + r) * stride;
                    if (mask) swoosh_row(from, factor, block + r * depth, depth, shift, offset, 0, 1);
                    else swoosh_row(from, 0, block + r * depth, depth, shift, offset, 0, 0);
                }
                multiply(active ? block : x + row * stride, active ? depth : stride, panels, bias ? bias + j : 0,
                         y + row * n + j, n, out, count, depth, columns, 0, pace);
            }
        }
        free(out);
    }
    free(space);
}

// y (rows, n) = swoosh(x weight^T + bias) out_weight^T + out_bias, x (rows, depth) with a stride. What lies between, (rows,
// hidden), is made and used some columns at a time and never written. `kept`, (whole panels of hidden, depth) and then
// (hidden, whole panels of n), and `ready` as above.
void feed_forward(const float *x, const float *weight, const float *bias, const float *out_weight, const float *out_bias,
                  float *y, float *kept, long rows, long depth, long hidden, long n, long stride, float shift,
                  float offset, int ready, int threads) {
    long at_once = MIN(hidden, columns_at_once(depth + n)), high = whole_panels(kept ? hidden : at_once);
    float *space = kept ? kept : floats(high * depth + at_once * whole_panels(n));
#pragma omp parallel num_threads(threads)
    {
        float *out = floats(BLOCK * (PANEL + at_once)), *block = out + BLOCK * PANEL;
        for (long j = 0; j < hidden; j += at_once) {
            long columns = MIN(at_once, hidden - j), before = kept ? j : 0;
            float *panels = space + before * depth, *out_panels = space + high * depth + before * whole_panels(n);
            if (!ready) {
                pack(panels, weight + j * depth, depth, columns, depth, 1);
                pack(out_panels, out_weight + j, columns, n, hidden, 1);
            }
#pragma omp for schedule(static)
            for (long row = 0; row < rows; row += BLOCK) {
                long count = MIN(BLOCK, rows - row), pace = ready && row == 0 ? PACE : 0;
                multiply(x + row * stride, stride, panels, bias ? bias + j : 0, block, columns, out, count, depth, columns,
                         0, pace);
                swoosh_row(block, 0, block, count * columns, shift, offset, 0, 0);
                multiply(block, columns, out_panels, out_bias, y + row * n, n, out, count, columns, n, j > 0, pace);
            }
        }
        free(out);
    }
    if (!kept) free(space);
}

INLINE void activation_backward_row(const float *grad, const float *x, const float *mask, float *y, float *hidden,
                                    long n, float shift, float offset) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float z = x[i] - shift, e = exp_negative(-fabsf(z)), m = mask ? mask[i] : 1.0f;
        hidden[i] = m * swoosh_from(x[i], z, e, offset);
        y[i] = m * (sigmoid_from(z, e) - SLOPE) * grad[i];
    }
}

// grad_x (rows, n) from grad (rows, depth) and weight (depth, n); with x (rows, n), without a stride, through the swoosh
// and the mask behind which the weight lies, and then their value is made again in `hidden`
void linear_backward_input(const float *grad, const float *weight, const float *x, const float *mask, float *grad_x,
                           float *hidden, long rows, long depth, long n, long per_item, float shift, float offset,
                           int threads) {
    float *panels = floats((n + PANEL) * depth);
#pragma omp parallel num_threads(threads)
    {
        float *out = floats(BLOCK * PANEL);
        pack(panels, weight, depth, n, n, 0);
#pragma omp for schedule(static)
        for (long row = 0; row < rows; row += BLOCK) {
            long count = MIN(BLOCK, rows - row);
            for (long j = 0; j < n; j += PANEL) {
                long columns = MIN(PANEL, n - j), width = padded(columns);
                product(grad + row * depth, depth, 1, panels + j * depth, out, width, count, depth, 0);
                for (long r = 0; r < count; r++) {
                    long i = (row + r) * n + j;
                    const float *factor = mask ? mask + (row + r) / per_item * n + j : 0;
                    if (x)
                        activation_backward_row(out + r * width, x + i, factor, grad_x + i, hidden + i, columns, shift,
                                                offset);
                    else add_row(out + r * width, 0, grad_x + i, columns);
                }
            }
        }
        free(out);
    }
    free(panels);
}

// grad_weight (n, depth) from grad (rows, n) and the input (rows, depth): each tile is summed over all rows by one thread
void linear_backward_weight(const float *grad, const float *x, float *grad_weight, long rows, long depth, long n,
                            long stride, int threads) {
    long high = (n + ROWS - 1) / ROWS * ROWS;
    float *left = floats(DEPTH * high), *right = floats(DEPTH * (depth + PANEL)),
          *sums = floats(high * (depth + PANEL));
#pragma omp parallel num_threads(threads)
    {
        for (long row = 0; row == 0 || row < rows; row += DEPTH) {
            long count = MIN(DEPTH, rows - row);
#pragma omp for schedule(static) nowait
            for (long i = 0; i < high; i += ROWS)
                load(left + i * DEPTH, ROWS, grad + row * n + i, n, count, MIN(ROWS, n - i), 0);
#pragma omp for schedule(static)
            for (long j = 0; j < depth; j += PANEL) {
                long columns = MIN(PANEL, depth - j);
                load(right + j * DEPTH, padded(columns), x + row * stride + j, stride, count, columns, 0);
            }
#pragma omp for schedule(static) collapse(2)
            for (long j = 0; j < depth; j += PANEL)
                for (long i = 0; i < high; i += ROWS) {
                    long width = padded(MIN(PANEL, depth - j));
                    product(left + i * DEPTH, 1, ROWS, right + j * DEPTH, sums + j * high + i * width, width, ROWS,
                            count, row > 0);
                }
        }
#pragma omp for schedule(static)
        for (long j = 0; j < depth; j += PANEL) {
            long columns = MIN(PANEL, depth - j);
            store(grad_weight + j, depth, sums + j * high, padded(columns), n, columns, 0);
        }
    }
    free(left);
    free(right);
    free(sums);
}
