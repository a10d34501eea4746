// SPDX-License-Identifier: Apache-2.0
// Small matrices in whole registers, for loops whose numbers stay in the cache.
#pragma once
#include "cpu_numbers.h"

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 8 };  // numbers of a register; rows of a tile, as many as the registers hold
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 4 };
#else
enum { LANES = 4, ROWS = 4 };
#endif
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE long padded(long n) { return (n + LANES - 1) / LANES * LANES; }
INLINE float *floats(long n) { return aligned_alloc(64, (n * sizeof(float) + 127) / 64 * 64); }
INLINE float *cut(float **space, long n) {
    float *piece = *space;
    *space += padded(n);
    return piece;
}

// Rows with a stride between (rows, n) numbers in memory and float32 rows of `width`, filled up with zeros.
INLINE void load_rows(float *y, long width, const void *x, long stride, long rows, long n, int half) {
    for (long r = 0; r < rows; r++, y += width) {
        FOR_TYPE(half, for (long i = 0; i < n; i++) y[i] = get(x, r * stride + i, H));
        for (long i = n; i < width; i++) y[i] = 0.0f;
    }
}

INLINE void load(float *y, long width, const void *x, long stride, long rows, long n, int half) {
    if (width == LANES && n == LANES) load_rows(y, LANES, x, stride, rows, LANES, half);  // loops vanish
    else if (width == ROWS && n == ROWS) load_rows(y, ROWS, x, stride, rows, ROWS, half);
    else load_rows(y, width, x, stride, rows, n, half);
}

#if defined(__GNUC__) && !defined(__clang__)
typedef int choice __attribute__((vector_size(4 * LANES)));

// Rows i and i + step, each other's blocks of `step` numbers exchanged.
INLINE void exchange(vec *a, vec *b, const int step) {
    choice low, high;
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l++) {
        low[l] = l & step ? LANES + l - step : l;
        high[l] = l & step ? LANES + l : l + step;
    }
    vec first = __builtin_shuffle(*a, *b, low);
    *b = __builtin_shuffle(*a, *b, high);
    *a = first;
}

// (LANES, LANES) turned over in the registers
INLINE void load_square(float *y, long width, const float *x, long stride) {
    vec rows[LANES];
#pragma GCC unroll 16
    for (int r = 0; r < LANES; r++) rows[r] = *(const vec *)(x + r * stride);
#pragma GCC unroll 4
    for (int step = 1; step < LANES; step *= 2)
#pragma GCC unroll 16
        for (int r = 0; r < LANES; r++)
            if (!(r & step)) exchange(&rows[r], &rows[r + step], step);
#pragma GCC unroll 16
    for (int r = 0; r < LANES; r++) *(vec *)(y + r * width) = rows[r];
}
#else
INLINE void load_square(float *y, long width, const float *x, long stride) {
    for (int r = 0; r < LANES; r++)
        for (int i = 0; i < LANES; i++) y[i * width + r] = x[r * stride + i];
}
#endif

// (rows, n) as (n, width), filled up with zeros
INLINE void load_transposed(float *y, long width, const void *x, long stride, long rows, long n, int half) {
    long r = 0;
    for (; !half && n >= LANES && r + LANES <= rows; r += LANES)
        for (long i = 0; i < n; i += LANES)  // the last columns twice where they are no whole square
            load_square(y + MIN(i, n - LANES) * width + r, width, (const float *)x + r * stride + MIN(i, n - LANES), stride);
    for (long i = 0; i < n; i++, y += width) {
        FOR_TYPE(half, for (long l = r; l < rows; l++) y[l] = get(x, l * stride + i, H));
        for (long l = rows; l < width; l++) y[l] = 0.0f;
    }
}

INLINE void store_rows(void *y, long stride, const float *x, long width, long rows, long n, int half) {
    for (long r = 0; r < rows; r++, x += width)
        FOR_TYPE(half, for (long i = 0; i < n; i++) put(y, r * stride + i, H, x[i]));
}

INLINE void store(void *y, long stride, const float *x, long width, long rows, long n, int half) {
    if (width == LANES && n == LANES) store_rows(y, stride, x, LANES, rows, LANES, half);
    else store_rows(y, stride, x, width, rows, n, half);
}

// ---- c = a b + bias, or c += a b: a (rows, depth) by any strides, b (depth, width) and c (rows, width), its rows at a
// distance of `apart`, in whole registers; bias (width) or null. What lies behind b is fetched into the cache meanwhile,
// `pace` numbers with each row of b in every tile; with 0 nothing new is.

INLINE void tile(const float *a, long down, long right, const float *b, const float *bias, float *c, long apart, long width,
                 long depth, int add, const int rows, const int registers, const float *ahead, long pace) {
    vec sums[ROWS][3];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int j = 0; j < registers; j++)
            sums[r][j] = add ? *(vec *)(c + r * apart + j * LANES) : bias ? *(const vec *)(bias + j * LANES) : (vec){0};
    for (long k = 0; k < depth; k++, b += width, a += right, ahead += pace) {
        __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
            for (int j = 0; j < registers; j++) sums[r][j] += a[r * down] * *(const vec *)(b + j * LANES);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int j = 0; j < registers; j++) *(vec *)(c + r * apart + j * LANES) = sums[r][j];
}

INLINE void columns(const float *a, long down, long right, const float *b, const float *bias, float *c, long apart,
                    long width, long rows, long depth, int add, const int registers, long pace) {
    long r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        tile(a + r * down, down, right, b, bias, c + r * apart, apart, width, depth, add, ROWS, registers,
             pace ? b + depth * (width + r / ROWS * pace) : b, pace);
    for (; r < rows; r++)
        tile(a + r * down, down, right, b, bias, c + r * apart, apart, width, depth, add, 1, registers, b, 0);
}

static inline void product_into(const float *a, long down, long right, const float *b, const float *bias, float *c,
                                long apart, long width, long rows, long depth, int add, long pace) {
    long j = 0;
    for (; j + 3 * LANES <= width; j += 3 * LANES)
        columns(a, down, right, b + j, bias ? bias + j : 0, c + j, apart, width, rows, depth, add, 3, pace);
    if (width - j == 2 * LANES)
        columns(a, down, right, b + j, bias ? bias + j : 0, c + j, apart, width, rows, depth, add, 2, pace);
    else if (width - j == LANES)
        columns(a, down, right, b + j, bias ? bias + j : 0, c + j, apart, width, rows, depth, add, 1, pace);
}

INLINE void product(const float *a, long down, long right, const float *b, float *c, long width, long rows, long depth,
                    int add) {
    product_into(a, down, right, b, 0, c, width, width, rows, depth, add, 0);
}
