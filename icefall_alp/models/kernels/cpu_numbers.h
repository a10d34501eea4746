// SPDX-License-Identifier: Apache-2.0
// Numbers in memory and one function of them, for the loops of native.py.
// They compute in float32; `half` says that numbers are kept as bfloat16. Sums are made in an order that the number of
// threads does not change. NaN and infinity propagate.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SLOPE 0.08f  // of a swoosh far below zero, turned around
#define INLINE static inline __attribute__((always_inline))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
// `call` once for each type of number, so that the compiler makes a loop without branches of each
#define FOR_TYPE(half, call) \
    do {                     \
        if (half) {          \
            enum { H = 1 };  \
            call;            \
        } else {             \
            enum { H = 0 };  \
            call;            \
        }                    \
    } while (0)
#define PRAGMA(text) _Pragma(#text)
#define PARALLEL(size, threads) PRAGMA(omp parallel for schedule(static) num_threads(threads) if ((size) > 32768))

INLINE float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

INLINE float get(const void *x, long i, int half) {
    return half ? of_bits((uint32_t)((const uint16_t *)x)[i] << 16) : ((const float *)x)[i];
}

INLINE void put(void *y, long i, int half, float value) {
    uint32_t bits = bits_of(value);
    if (half)  // to the nearest, ties to even; a NaN must not round to infinity
        ((uint16_t *)y)[i] = value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    else ((float *)y)[i] = value;
}

INLINE const void *at(const void *x, long i, int half) { return (const char *)x + i * (half ? 2 : 4); }
INLINE void *to(void *x, long i, int half) { return (char *)x + i * (half ? 2 : 4); }

// e^x for x <= 0: 2^n e^r with |r| <= ln(2) / 2, by its Taylor series; exactly 0 below -87
INLINE float exp_negative(float x) {
    float bounded = x < -87.0f ? -87.0f : x;
    float shifted = bounded * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 leaves n in the lowest bits
    float n = shifted - 12582912.0f;
    float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
    float y = 1.0f / 720 + r * (1.0f / 5040);
    y = 1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * y)))));
    y = of_bits(bits_of(y) + (bits_of(shifted) << 23));
    return x < -87.0f ? 0.0f : y;
}

// log(1 + u) for 0 <= u <= 1: 2 atanh(u / (2 + u)) by its series
INLINE float log1p_unit(float u) {
    float s = u / (2.0f + u), z = s * s;
    float y = 1.0f / 7 + z * (1.0f / 9 + z * (1.0f / 11 + z * (1.0f / 13)));
    return 2.0f * s * (1.0f + z * (1.0f / 3 + z * (1.0f / 5 + z * y)));
}

INLINE float sigmoid_from(float x, float e) { return (x < 0.0f ? e : 1.0f) / (1.0f + e); }  // e = exp(-|x|)
INLINE float sigmoid(float x) { return sigmoid_from(x, exp_negative(-fabsf(x))); }
INLINE float swoosh_from(float x, float z, float e, float offset) {
    return (z > 0.0f ? z : 0.0f) + log1p_unit(e) - SLOPE * x - offset;
}

// y = mask swoosh(x), the mask in float32 or absent
INLINE void swoosh_row(const void *x, const float *mask, void *y, long n, float shift, float offset, int half,
                       int masked) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float v = get(x, i, half), z = v - shift;
        float value = swoosh_from(v, z, exp_negative(-fabsf(z)), offset);
        put(y, i, half, masked ? value * mask[i] : value);
    }
}
