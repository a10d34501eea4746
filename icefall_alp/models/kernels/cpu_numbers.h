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

// Polynomials through Chebyshev points, evaluated in pairs of terms: few operations wait for each other.

// e^x for x <= 0: 2^n e^r with |r| <= ln(2) / 2; exactly 0 below -87
INLINE float exp_negative(float x) {
    float bounded = x < -87.0f ? -87.0f : x;
    float shifted = bounded * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 leaves n in the lowest bits
    float n = shifted - 12582912.0f;
    float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f, s = r * r;
    float y = (0.0416662183f + r * 0.00837512889f) + s * 0.00139485808f;
    y = (1.0f + r) + s * ((0.500000011f + r * 0.166664155f) + s * y);
    y = of_bits(bits_of(y) + (bits_of(shifted) << 23));
    return x < -87.0f ? 0.0f : y;
}

// log(1 + u) for 0 <= u <= 1
INLINE float log1p_unit(float u) {
    float s = u * u;
    float y = (0.0775160868f - u * 0.0290740647f) + s * 0.00512610214f;
    y = (0.333181217f - u * 0.24835399f) + s * ((0.190768807f - u * 0.136022476f) + s * y);
    return u * ((0.999999966f - u * 0.49999445f) + s * y);
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
