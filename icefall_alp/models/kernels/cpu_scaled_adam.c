// SPDX-License-Identifier: Apache-2.0
// The element-wise part of a step of icefall_alp/training/scaled_adam.py, in pieces of parameters, float32.
#include "cpu_numbers.h"

// which parameter; where in it; how many numbers; where its state lies in the optimizer's flat buffers
typedef struct {
    int64_t param, first, size, state;
} piece;

typedef struct {
    float factor, beta2, rest2, eps, beta1, rate;
} constants;

INLINE float scaled_adam_piece(float *p, const float *g, float *v, float *d, long n, float inverse_size, constants c,
                               int move) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) {
        float grad = c.factor == 0.0f ? 0.0f : g[i] * c.factor;  // 0 times infinity would be NaN
        sum += p[i] * grad;
        v[i] = v[i] * c.beta2 + c.rest2 * (grad * grad);
        d[i] = d[i] * c.beta1 - c.rate * grad / ((sqrtf(v[i]) + c.eps) * inverse_size);
        if (move) p[i] += d[i];
    }
    return sum;
}

// sums: of parameter times gradient, one for each piece; move: whether the parameters move by delta already
void scaled_adam(const piece *pieces, float *const *params, const float *const *grads, float *exp_avg_sq, float *delta,
                 const float *inverse_size, float *sums, long num_pieces, float factor, float beta2, float rest2,
                 float eps, float beta1, float rate, int move, int threads) {
    constants c = {factor, beta2, rest2, eps, beta1, rate};
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long i = 0; i < num_pieces; i++) {
        piece at = pieces[i];
        float *p = params[at.param] + at.first, *v = exp_avg_sq + at.state, *d = delta + at.state;
        const float *g = grads[at.param] + at.first;
        if (move) sums[i] = scaled_adam_piece(p, g, v, d, at.size, inverse_size[at.param], c, 1);
        else sums[i] = scaled_adam_piece(p, g, v, d, at.size, inverse_size[at.param], c, 0);
    }
}

// delta += growth of the parameter, then the parameters move by it
void scaled_adam_grow(const piece *pieces, float *const *params, float *delta, const float *growth, long num_pieces,
                      int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long i = 0; i < num_pieces; i++) {
        piece at = pieces[i];
        float *p = params[at.param] + at.first, *d = delta + at.state, g = growth[at.param];
#pragma omp simd
        for (long k = 0; k < at.size; k++) {
            d[k] += p[k] * g;
            p[k] += d[k];
        }
    }
}
