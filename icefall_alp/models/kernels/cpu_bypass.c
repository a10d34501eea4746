// SPDX-License-Identifier: Apache-2.0
// BiasNorm and bypass of native.py, which end every layer, each in one pass over memory; all in float32.
#include "cpu_numbers.h"

enum { SHARE = 64 };  // rows of which one partial sum of a parameter's gradient is made

// ---- BiasNorm: y = x s with s = gain inverse, gain = exp(log_scale), inverse = 1 / rms(x - bias) of a row.

INLINE float inverse_rms(const float *x, const float *bias, long n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += (x[i] - bias[i]) * (x[i] - bias[i]);
    return 1.0f / sqrtf(sum / n);
}

void bias_norm(const float *x, const float *bias, const float *log_scale, float *y, float *inverse, long rows, long n,
               int threads) {
    float gain = expf(*log_scale);
    PARALLEL(rows * n, threads)
    for (long r = 0; r < rows; r++) {
        inverse[r] = inverse_rms(x + r * n, bias, n);
        float scale = inverse[r] * gain;
#pragma omp simd
        for (long i = 0; i < n; i++) y[r * n + i] = x[r * n + i] * scale;
    }
}

// grad_x, which may be grad; adds to the gradient of the bias, returns the derivative by log(s)
INLINE float bias_norm_backward_row(const float *grad, const float *x, const float *bias, float inverse, float gain,
                                    float *grad_x, float *grad_bias, long n) {
    float scale = inverse * gain, pull = 0.0f;
#pragma omp simd reduction(+ : pull)
    for (long i = 0; i < n; i++) pull += grad[i] * x[i];
    pull *= scale;
    float each = pull * inverse * inverse / n;
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float through_rms = (x[i] - bias[i]) * each;
        grad_bias[i] += through_rms;
        grad_x[i] = grad[i] * scale - through_rms;
    }
    return pull;
}

// grad_bias and grad_log_scale: one row for each SHARE rows
void bias_norm_backward(const float *grad, const float *x, const float *bias, const float *log_scale,
                        const float *inverse, float *grad_x, float *grad_bias, float *grad_log_scale, long rows, long n,
                        int threads) {
    float gain = expf(*log_scale);
    PARALLEL(rows * n, threads)
    for (long first = 0; first < rows; first += SHARE) {
        float *sums = grad_bias + first / SHARE * n;
        float pull = 0.0f;
        memset(sums, 0, n * sizeof(float));
        for (long r = first, i = r * n; r < MIN(rows, first + SHARE); r++, i += n)
            pull += bias_norm_backward_row(grad + i, x + i, bias, inverse[r], gain, grad_x + i, sums, n);
        grad_log_scale[first / SHARE] = pull;
    }
}

// ---- Bypass: y = x + (z - x) scale, z being `new` or, with a bias, its BiasNorm. Each row of z goes with `factor` rows of
// x (items, frames, n), whose rows have a stride; a row of scale with one item, or with all (`own` 0).

void bypass(const float *x, const float *new, const float *scale, const float *bias, const float *log_scale, float *y,
            float *inverse, long items, long frames, long n, long stride, long factor, int own, int threads) {
    long groups = (frames + factor - 1) / factor;
    float gain = bias ? expf(*log_scale) : 1.0f;
    PARALLEL(items * frames * n, threads)
    for (long g = 0; g < items * groups; g++) {
        long item = g / groups, first = g % groups * factor;
        const float *z = new + g * n, *s = scale + (own ? item * n : 0);
        float norm = bias ? gain * (inverse[g] = inverse_rms(z, bias, n)) : 1.0f;
        for (long t = first; t < MIN(frames, first + factor); t++) {
            const float *from = x + (item * frames + t) * stride;
            float *to = y + (item * frames + t) * n;
#pragma omp simd
            for (long i = 0; i < n; i++) to[i] = from[i] + (z[i] * norm - from[i]) * s[i];
        }
    }
}

// of one row: grad_x, and what is added to the gradients of z and of the scale
INLINE void bypass_backward_row(const float *grad, const float *x, const float *new, float norm, const float *scale,
                                float *grad_x, float *grad_z, float *sums, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float through = grad[i] * scale[i];
        sums[i] += grad[i] * (new[i] * norm - x[i]);
        grad_z[i] += through;
        grad_x[i] = grad[i] - through;
    }
}

// gradients of parameters: one row for each `part` rows of new, all of one row of the scale
void bypass_backward(const float *grad, const float *x, const float *new, const float *scale, const float *bias,
                     const float *log_scale, const float *inverse, float *grad_x, float *grad_new, float *grad_scale,
                     float *grad_bias, float *grad_log_scale, long items, long frames, long n, long stride, long factor,
                     long part, int own, int threads) {
    long groups = (frames + factor - 1) / factor;
    float gain = bias ? expf(*log_scale) : 1.0f;
    PARALLEL(items * frames * n, threads)
    for (long first = 0; first < items * groups; first += part) {
        float *sums = grad_scale + first / part * n, *biases = bias ? grad_bias + first / part * n : 0;
        float pull = 0.0f;
        memset(sums, 0, n * sizeof(float));
        if (bias) memset(biases, 0, n * sizeof(float));
        for (long g = first; g < MIN(items * groups, first + part); g++) {
            long item = g / groups, begin = g % groups * factor, end = MIN(frames, begin + factor);
            float norm = bias ? gain * inverse[g] : 1.0f, *to = grad_new + g * n;
            memset(to, 0, n * sizeof(float));
            for (long r = item * frames + begin; r < item * frames + end; r++)
                bypass_backward_row(grad + r * n, x + r * stride, new + g * n, norm, scale + (own ? item * n : 0),
                                    grad_x + r * n, to, sums, n);
            if (bias) pull += bias_norm_backward_row(to, new + g * n, bias, inverse[g], gain, to, biases, n);
        }
        if (bias) grad_log_scale[first / part] = pull;
    }
}
