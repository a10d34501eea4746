// SPDX-License-Identifier: Apache-2.0
// Linear layers of native.py in bfloat16 without gradients: numbers are rounded while they pass through the cache, and
// multiplied in pairs, by one instruction where the processor has it.
#include "cpu_registers.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

enum { PANEL = 3 * LANES };  // columns worked on at a time
enum { BLOCK = 8 * ROWS };   // rows worked on at a time
typedef uint32_t pairs __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// sum + the products of both numbers of a pair, for a register of pairs
INLINE vec add_pairs(vec sum, uint32_t a, pairs b) {
#ifdef __AVX512BF16__
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
#else
    return sum + of_bits(a << 16) * (vec)(b << 16) + of_bits(a & 0xffff0000u) * (vec)(b & 0xffff0000u);
#endif
}

INLINE void pair_tile(const uint32_t *a, const uint32_t *b, float *c, long width, long depth, const int registers) {
    vec sums[ROWS][3];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int j = 0; j < registers; j++) sums[r][j] = (vec){0};
    for (long k = 0; k < depth; k++, b += width)
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
            for (int j = 0; j < registers; j++)
                sums[r][j] = add_pairs(sums[r][j], a[r * depth + k], *(const pairs *)(b + j * LANES));
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int j = 0; j < registers; j++) *(vec *)(c + r * width + j * LANES) = sums[r][j];
}

INLINE uint32_t pair_of(const float *x, int second) {
    uint16_t rounded[2] = {0};
    put(rounded, 0, 1, x[0]);
    if (second) put(rounded, 1, 1, x[1]);
    return rounded[0] | (uint32_t)rounded[1] << 16;
}

// Panels (depth / 2, columns) of pairs of a weight (n, depth), turned over. Shared by the threads.
static void pack(uint32_t *panels, const float *weight, long depth, long n) {
    long half = (depth + 1) / 2;
#pragma omp for schedule(static)
    for (long j = 0; j < n; j += PANEL) {
        long count = MIN(PANEL, n - j), width = padded(count);
        uint32_t *panel = panels + j * half;
        memset(panel, 0, half * width * sizeof *panel);
        for (long c = 0; c < count; c++) {
            const float *row = weight + (j + c) * depth;
            for (long k = 0; k < depth / 2; k++) panel[k * width + c] = pair_of(row + 2 * k, 1);
            if (depth % 2) panel[(half - 1) * width + c] = pair_of(row + depth - 1, 0);
        }
    }
}

INLINE void round_row(const void *x, void *y, long n, int half) {
#pragma omp simd
    for (long i = 0; i < n; i++) put(y, i, 1, get(x, i, half));
}

INLINE void add_row(const float *x, const float *bias, void *y, long n) {
    if (bias) {
#pragma omp simd
        for (long i = 0; i < n; i++) put(y, i, 1, x[i] + bias[i]);
    } else round_row(x, y, n, 0);
}

// y (rows, n) in bfloat16 = input weight^T + bias, the input x (rows, depth) with a stride or, where `active`, swoosh(x)
// of an x in bfloat16
void half_linear(const void *x, const float *weight, const float *bias, void *y, long rows, long depth, long n,
                 long stride, float shift, float offset, int active, int half, int threads) {
    long deep = (depth + 1) / 2;
    uint32_t *panels = (uint32_t *)floats((n + PANEL) * deep);
#pragma omp parallel num_threads(threads)
    {
        float *out = floats(ROWS * PANEL);
        uint32_t *block = (uint32_t *)floats(BLOCK * deep);
        memset(block, 0, BLOCK * deep * sizeof *block);
        pack(panels, weight, depth, n);
#pragma omp for schedule(static)
        for (long row = 0; row < rows; row += BLOCK) {
            long count = MIN(BLOCK, rows - row);
            for (long r = 0; r < count; r++) {
                const void *from = at(x, (row + r) * stride, half);
                if (active) swoosh_row(from, 0, block + r * deep, depth, shift, offset, 1, 0);
                else FOR_TYPE(half, round_row(from, block + r * deep, depth, H));
            }
            for (long j = 0; j < n; j += PANEL) {
                long columns = MIN(PANEL, n - j), width = padded(columns);
                for (long r = 0; r < count; r += ROWS) {
                    const uint32_t *a = block + r * deep, *b = panels + j * deep;
                    if (width == PANEL) pair_tile(a, b, out, width, deep, 3);
                    else if (width == 2 * LANES) pair_tile(a, b, out, width, deep, 2);
                    else pair_tile(a, b, out, width, deep, 1);
                    for (long i = 0; i < MIN(ROWS, count - r); i++)
                        add_row(out + i * width, bias ? bias + j : 0, to(y, (row + r + i) * n + j, 1), columns);
                }
            }
        }
        free(out);
        free(block);
    }
    free(panels);
}
