// SPDX-License-Identifier: Apache-2.0
// Attention of native.py, one head of one item after the other: libraries are slow at matrices of a few columns, and
// would write and read again the scores, which stay in the cache here.
#include "cpu_registers.h"

enum { BLOCK = 32 };  // rows of scores that are worked on at a time

// ---- Attention weights: softmax_s(q_t . k_s + p_t . pos_{s-t} + bias). q, k (items, frames, heads * depth), p alike of
// `places` for each head, rows at strides; pos (heads, places, 2 frames - 1); bias (items, .., frames); float32 if not half.

INLINE float add_positions(float *scores, const float *p, const float *pos, long width, const float *bias, long n,
                           const int places) {
    float highest = -INFINITY;
#pragma omp simd reduction(max : highest)
    for (long s = 0; s < n; s++) {
        float score = scores[s];
        for (int e = 0; e < places; e++) score += p[e] * pos[e * width + s];
        score += bias ? bias[s] : 0.0f;
        scores[s] = score;
        highest = score > highest ? score : highest;
    }
    return highest;
}

INLINE float exponentials(float *scores, float highest, long n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long s = 0; s < n; s++) sum += scores[s] = exp_negative(scores[s] - highest);
    return sum;
}

INLINE void scaled(const float *x, float scale, void *y, long n, int half) {
#pragma omp simd
    for (long s = 0; s < n; s++) put(y, s, half, x[s] * scale);
}

static void softmax_row(float *scores, const float *p, const float *pos, long width, const float *bias, void *weights,
                        long n, long places, int half) {
    float highest = places == 4 ? add_positions(scores, p, pos, width, bias, n, 4)
                                : add_positions(scores, p, pos, width, bias, n, places);
    float sum = exponentials(scores, highest, n);
    FOR_TYPE(half, scaled(scores, 1.0f / sum, weights, n, H));
}

void attention_weights(const void *q, const void *k, const void *p, const void *pos, const float *bias, void *weights,
                       long heads, long items, long frames, long depth, long places, long stride_q, long stride_k,
                       long stride_p, long bias_item, long bias_row, int half, int threads) {
    long wide = padded(frames), offsets = 2 * frames - 1;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats(depth * wide + places * offsets + BLOCK * (wide + depth + places) + 8 * LANES),
              *space = base;
        float *keys = cut(&space, depth * wide), *table = cut(&space, places * offsets),
              *scores = cut(&space, BLOCK * wide);
        float *queries = cut(&space, BLOCK * depth), *places_of = cut(&space, BLOCK * places);
#pragma omp for schedule(static)
        for (long b = 0; b < heads * items; b++) {
            long head = b / items, item = b % items, row = item * frames;
            load_transposed(keys, wide, at(k, row * stride_k + head * depth, half), stride_k, frames, depth, half);
            load(table, offsets, at(pos, head * places * offsets, half), offsets, places, offsets, half);
            for (long t = 0; t < frames; t += BLOCK) {
                long rows = MIN(BLOCK, frames - t);
                load(queries, depth, at(q, (row + t) * stride_q + head * depth, half), stride_q, rows, depth, half);
                load(places_of, places, at(p, (row + t) * stride_p + head * places, half), stride_p, rows, places,
                     half);
                product(queries, depth, 1, keys, scores, wide, rows, depth, 0);
                for (long r = 0; r < rows; r++)
                    softmax_row(scores + r * wide, places_of + r * places, table + frames - 1 - t - r, offsets,
                                bias ? bias + item * bias_item + (t + r) * bias_row : 0,
                                to(weights, (b * frames + t + r) * frames, half), frames, places, half);
            }
        }
        free(base);
    }
}

// Gradient of a row of scores from that of its weights: w (g - sum of g w).
INLINE void softmax_backward_row(const void *weights, const void *grad, const void *more, float *out, long n,
                                 int half) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long s = 0; s < n; s++) {
        out[s] = get(grad, s, half) + (more ? get(more, s, half) : 0.0f);
        sum += out[s] * get(weights, s, half);
    }
#pragma omp simd
    for (long s = 0; s < n; s++) out[s] = (out[s] - sum) * get(weights, s, half);
}

INLINE void positions_backward(const float *grad, const float *p, const float *pos, float *grad_p, float *grad_pos,
                               long n) {
    float sum = 0.0f, factor = *p;
#pragma omp simd reduction(+ : sum)
    for (long s = 0; s < n; s++) {
        sum += grad[s] * pos[s];
        grad_pos[s] += factor * grad[s];
    }
    *grad_p = sum;
}

// grad (heads, items, frames, frames) of all weights, `first` (items, ..) of another use of head 0's, or null;
// grad_pos (heads, items, places, offsets) in float32
void attention_weights_backward(const void *weights, const void *grad, const void *first, const void *q, const void *k,
                                const void *p, const void *pos, void *grad_q, void *grad_k, void *grad_p,
                                float *grad_pos, long heads, long items, long frames, long depth, long places,
                                long stride_q, long stride_k, long stride_p, int half, int threads) {
    long width = padded(depth), offsets = 2 * frames - 1, channels = heads * depth;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats(3 * frames * width + places * offsets + BLOCK * (frames + width) + 2 * frames * places +
                             9 * LANES);
        float *space = base, *keys = cut(&space, frames * width), *queries = cut(&space, frames * width);
        float *grad_keys = cut(&space, frames * width), *table = cut(&space, places * offsets);
        float *scores = cut(&space, BLOCK * frames), *grad_queries = cut(&space, BLOCK * width);
        float *places_of = cut(&space, frames * places), *grad_places = cut(&space, frames * places);
#pragma omp for schedule(static)
        for (long b = 0; b < heads * items; b++) {
            long head = b / items, row = b % items * frames, columns_of = head * depth;
            float *grad_table = grad_pos + b * places * offsets;
            load(queries, width, at(q, row * stride_q + columns_of, half), stride_q, frames, depth, half);
            load(keys, width, at(k, row * stride_k + columns_of, half), stride_k, frames, depth, half);
            load(places_of, places, at(p, row * stride_p + head * places, half), stride_p, frames, places, half);
            load(table, offsets, at(pos, head * places * offsets, half), offsets, places, offsets, half);
            memset(grad_keys, 0, frames * width * sizeof(float));
            memset(grad_table, 0, places * offsets * sizeof(float));
            for (long t = 0; t < frames; t += BLOCK) {
                long rows = MIN(BLOCK, frames - t);
                for (long r = 0; r < rows; r++) {
                    long i = (b * frames + t + r) * frames;
                    float *g = scores + r * frames;
                    FOR_TYPE(half, if (first && !head) softmax_backward_row(at(weights, i, H), at(grad, i, H),
                                                                            at(first, i, H), g, frames, H);
                             else softmax_backward_row(at(weights, i, H), at(grad, i, H), 0, g, frames, H));
                    for (long e = 0, shift = frames - 1 - t - r; e < places; e++, shift += offsets)
                        positions_backward(g, places_of + (t + r) * places + e, table + shift,
                                           grad_places + (t + r) * places + e, grad_table + shift, frames);
                }
                product(scores, frames, 1, keys, grad_queries, width, rows, frames, 0);
                store(to(grad_q, (row + t) * channels + columns_of, half), channels, grad_queries, width, rows, depth,
                      half);
                product(scores, 1, frames, queries + t * width, grad_keys, width, frames, rows, 1);
            }
            store(to(grad_k, row * channels + columns_of, half), channels, grad_keys, width, frames, depth, half);
            store(to(grad_p, (row * heads + head) * places, half), heads * places, grad_places, places, frames, places,
                  half);
        }
        free(base);
    }
}

// ---- Mixing by heads: weights (heads, items, frames, frames) and values (items, frames, heads * depth) to the latter, in
// float32 (libraries are faster in bfloat16).

void mix(const float *weights, const float *values, float *y, long heads, long items, long frames, long depth,
         long stride, int threads) {
    long width = padded(depth), channels = heads * depth;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats(frames * width + BLOCK * width), *v = base, *mixed = base + frames * width;
#pragma omp for schedule(static)
        for (long b = 0; b < heads * items; b++) {
            long head = b / items, row = b % items * frames;
            load(v, width, values + row * stride + head * depth, stride, frames, depth, 0);
            for (long t = 0; t < frames; t += BLOCK) {
                long rows = MIN(BLOCK, frames - t);
                product(weights + (b * frames + t) * frames, frames, 1, v, mixed, width, rows, frames, 0);
                store(y + (row + t) * channels + head * depth, channels, mixed, width, rows, depth, 0);
            }
        }
        free(base);
    }
}

void mix_backward(const float *weights, const float *values, const float *grad, float *grad_weights, float *grad_values,
                  long heads, long items, long frames, long depth, long stride, int threads) {
    long width = padded(depth), wide = padded(frames), channels = heads * depth;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats(depth * wide + frames * width + BLOCK * (wide + width)), *space = base;
        float *v = cut(&space, depth * wide), *grad_v = cut(&space, frames * width);
        float *pulls = cut(&space, BLOCK * width), *grad_w = cut(&space, BLOCK * wide);
#pragma omp for schedule(static)
        for (long b = 0; b < heads * items; b++) {
            long head = b / items, row = b % items * frames;
            load_transposed(v, wide, values + row * stride + head * depth, stride, frames, depth, 0);
            for (long t = 0; t < frames; t += BLOCK) {
                long rows = MIN(BLOCK, frames - t), i = (b * frames + t) * frames;
                load(pulls, width, grad + (row + t) * channels + head * depth, channels, rows, depth, 0);
                product(pulls, width, 1, v, grad_w, wide, rows, depth, 0);
                store(grad_weights + i, frames, grad_w, wide, rows, frames, 0);
                product(weights + i, 1, frames, pulls, grad_v, width, frames, rows, t > 0);
            }
            store(grad_values + row * channels + head * depth, channels, grad_v, width, frames, depth, 0);
        }
        free(base);
    }
}
