// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions of native_convolutions.py, over time and of images. Values read and write memory row after row, all
// channels of it, as it lies; in between, as in gradients of weights, a register of channels is worked on at a time.
#include "cpu_registers.h"

// Numbers between rows of n in our own space: an odd number of registers, or rows would fall on the same few lines of the cache.
INLINE long apart(long n) { return (padded(n) / LANES | 1) * LANES; }

enum { STEPS = LANES == 16 ? 10 : 4 };  // rows that registers hold beside those of a filter

// Filters (channels, taps) as (registers, taps and zeros, LANES); `turned` with the taps the other way round, as gradients slide.
static void load_filters(float *y, const float *weight, long channels, long taps, long filled, int turned) {
    memset(y, 0, padded(channels) * filled * sizeof(float));
    for (long c = 0; c < channels; c += LANES, y += filled * LANES)
        for (long k = 0; k < taps; k++)
            load_transposed(y + k * LANES, LANES, weight + c * taps + (turned ? taps - 1 - k : k), taps,
                            MIN(LANES, channels - c), 1, 0);
}

static void load_bias(float *y, const float *bias, long channels) {
    memset(y, 0, padded(channels) * sizeof(float));
    if (bias) memcpy(y, bias, channels * sizeof(float));
}

// `steps` rows of y, each the sum over `lines` of x, a line apart, of `taps` rows times theirs of the filter
INLINE void slide(const float *x, long wide, long line, long lines, const float *filter, vec start, float *y,
                  const int taps, const int steps) {
    vec sums[STEPS];
#pragma GCC unroll 10
    for (int t = 0; t < steps; t++) sums[t] = start;
    for (long k = 0; k < lines; k++, x += line, filter += taps * LANES)
#pragma GCC unroll 10
        for (int t = 0; t < steps; t++)
#pragma GCC unroll 8
            for (int j = 0; j < taps; j++) sums[t] += *(const vec *)(x + (t + j) * wide) * *(const vec *)(filter + j * LANES);
#pragma GCC unroll 10
    for (int t = 0; t < steps; t++) *(vec *)(y + t * wide) = sums[t];
}

// ---- Over time: x (items, frames, channels) with a stride between rows to y (items, frames + 2 padding - taps + 1, channels).

enum { BAND = LANES == 16 ? 8 : 4 };  // taps at a time; zeros fill the last ones up, and spread what is not finite so far
enum { STRETCH = 6 * STEPS };         // output frames worked on at a time

// `count` frames from `first` on, with zeros for those before and behind
static void load_frames(float *y, long wide, const void *x, long first, long count, long frames, long stride, long n,
                        int half) {
    long before = MIN(count, MAX(0, -first)), inside = MAX(0, MIN(frames, first + count) - first - before);
    memset(y, 0, before * wide * sizeof(float));
    load(y + before * wide, wide, at(x, (first + before) * stride, half), stride, inside, n, half);
    memset(y + (before + inside) * wide, 0, (count - before - inside) * wide * sizeof(float));
}

void depthwise_conv(const void *x, const float *weight, const float *bias, void *y, long items, long frames,
                    long channels, long stride, long taps, long padding, int turned, int half, int threads) {
    long out = frames + 2 * padding - taps + 1, wide = apart(channels), stretches = (out + STRETCH - 1) / STRETCH;
    long bands = (taps + BAND - 1) / BAND, filled = bands * BAND;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats((2 * STRETCH + 2 * filled + 1) * wide), *space = base;
        float *rows = cut(&space, (STRETCH + filled) * wide), *filters = cut(&space, filled * wide);
        float *start = cut(&space, wide), *sums = space;
        load_filters(filters, weight, channels, taps, filled, turned);
        load_bias(start, bias, channels);
#pragma omp for schedule(static) collapse(2)
        for (long item = 0; item < items; item++)
            for (long part = 0; part < stretches; part++) {
                long first = part * STRETCH, count = MIN(STRETCH, out - first);
                load_frames(rows, wide, at(x, item * frames * stride, half), first - padding, STRETCH + filled - 1, frames,
                            stride, channels, half);
                for (long c = 0; c < channels; c += LANES)
                    for (long t = 0; t < count; t += STEPS)
                        slide(rows + t * wide + c, wide, BAND * wide, bands, filters + c * filled, *(vec *)(start + c),
                              sums + t * wide + c, BAND, STEPS);
                store(to(y, (item * out + first) * channels, half), channels, sums, wide, count, channels, half);
            }
        free(base);
    }
}

INLINE void taps_backward(const float *grad, const float *x, float *y, long frames, const int taps) {
    vec sums[8];
#pragma GCC unroll 8
    for (int k = 0; k < taps; k++) sums[k] = (vec){0};
    for (long t = 0; t < frames; t++)
#pragma GCC unroll 8
        for (int k = 0; k < taps; k++) sums[k] += *(vec *)(grad + t * LANES) * *(vec *)(x + (t + k) * LANES);
#pragma GCC unroll 8
    for (int k = 0; k < taps; k++) *(vec *)(y + k * LANES) = sums[k];
}

// Gradient of the weight (items, taps, channels) in float32 from grad (items, out, channels)
void depthwise_conv_backward(const void *grad, const void *x, float *grad_weight, long items, long frames, long channels,
                             long stride, long taps, long padding, int half, int threads) {
    long out = frames + 2 * padding - taps + 1, strips = padded(channels) / LANES;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats((frames + 2 * padding + out + taps) * LANES), *space = base;
        float *strip = cut(&space, (frames + 2 * padding) * LANES), *pulls = cut(&space, out * LANES), *sums = space;
#pragma omp for schedule(static)
        for (long turn = 0; turn < strips * items; turn++) {
            long c = turn / items * LANES, item = turn % items, n = MIN(LANES, channels - c), k = 0;
            load_frames(strip, LANES, at(x, item * frames * stride + c, half), -padding, frames + 2 * padding, frames,
                        stride, n, half);
            load(pulls, LANES, at(grad, item * out * channels + c, half), channels, out, n, half);
            for (; k + 8 <= taps; k += 8) taps_backward(pulls, strip + k * LANES, sums + k * LANES, out, 8);
            for (; k < taps; k++) taps_backward(pulls, strip + k * LANES, sums + k * LANES, out, 1);
            store(grad_weight + item * taps * channels + c, channels, sums, LANES, taps, n, 0);
        }
        free(base);
    }
}

// ---- Of images: x and y (items, frames, bins, channels), weight (channels, TAPS, TAPS), padded to keep the size.

enum { TAPS = 7, EDGE = TAPS / 2, SUMS = TAPS * TAPS + 1 };
enum { LINES = 16 };  // output frames worked on at a time
enum { AREA = 32 };   // frames of which one partial sum is made

// Frames `first - EDGE` to `first + count + EDGE` of n channels, `wide` of ours, with zeros around the image
static void load_area(float *y, long wide, const void *x, long first, long count, long frames, long bins, long channels,
                      long n, int half) {
    long line = (bins + 2 * EDGE) * wide;
    for (long t = first - EDGE; t < first + count + EDGE; t++, y += line) {
        if (t < 0 || t >= frames) {
            memset(y, 0, line * sizeof(float));
            continue;
        }
        memset(y, 0, EDGE * wide * sizeof(float));
        load(y + EDGE * wide, wide, at(x, t * bins * channels, half), channels, bins, n, half);
        memset(y + (EDGE + bins) * wide, 0, EDGE * wide * sizeof(float));
    }
}

// A frame of a register of channels; the last pixels twice where they are no whole group
static void slide_line(const float *x, long wide, const float *filter, vec start, float *y, long bins) {
    long line = (bins + 2 * EDGE) * wide, last = bins - STEPS;
    for (long f = 0; last >= 0 && f < bins; f += STEPS)
        slide(x + MIN(f, last) * wide, wide, line, TAPS, filter, start, y + MIN(f, last) * wide, TAPS, STEPS);
    for (long f = 0; last < 0 && f < bins; f++)
        slide(x + f * wide, wide, line, TAPS, filter, start, y + f * wide, TAPS, 1);
}

void depthwise_image_conv(const void *x, const float *weight, const float *bias, void *y, long items, long frames,
                          long bins, long channels, int turned, int half, int threads) {
    long wide = apart(channels), line = (bins + 2 * EDGE) * wide, parts = (frames + LINES - 1) / LINES;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats((LINES + 2 * EDGE) * line + (TAPS * TAPS + 1 + LINES * bins) * wide), *space = base;
        float *area = cut(&space, (LINES + 2 * EDGE) * line), *filters = cut(&space, TAPS * TAPS * wide);
        float *start = cut(&space, wide), *sums = space;
        load_filters(filters, weight, channels, TAPS * TAPS, TAPS * TAPS, turned);
        load_bias(start, bias, channels);
#pragma omp for schedule(static) collapse(2)
        for (long item = 0; item < items; item++)
            for (long part = 0; part < parts; part++) {
                long first = part * LINES, count = MIN(LINES, frames - first), image = item * frames * bins * channels;
                load_area(area, wide, at(x, image, half), first, count, frames, bins, channels, channels, half);
                for (long c = 0; c < channels; c += LANES)
                    for (long t = 0; t < count; t++)
                        slide_line(area + t * line + c, wide, filters + c * TAPS * TAPS, *(vec *)(start + c),
                                   sums + t * bins * wide + c, bins);
                store(to(y, image + first * bins * channels, half), channels, sums, wide, count * bins, channels, half);
            }
        free(base);
    }
}

// sums (TAPS, TAPS) of grad (rows, bins) times what of x (rows + 2 EDGE, bins + 2 EDGE) it met, then that of grad alone
static void area_backward(const float *grad, const float *x, float *sums, long rows, long bins) {
    long width = (bins + 2 * EDGE) * LANES;
    vec alone = {0};
    for (long k = 0; k < TAPS; k++, sums += TAPS * LANES) {
        const float *pull = grad;
        vec taps[TAPS];
#pragma GCC unroll 7
        for (int j = 0; j < TAPS; j++) taps[j] = (vec){0};
        for (long t = 0; t < rows; t++) {
            const float *pixel = x + (t + k) * width;
            for (long f = 0; f < bins; f++, pull += LANES, pixel += LANES) {
#pragma GCC unroll 7
                for (int j = 0; j < TAPS; j++) taps[j] += *(const vec *)pull * *(const vec *)(pixel + j * LANES);
                if (k == 0) alone += *(const vec *)pull;
            }
        }
#pragma GCC unroll 7
        for (int j = 0; j < TAPS; j++) *(vec *)(sums + j * LANES) = taps[j];
    }
    *(vec *)sums = alone;
}

// shares (items, areas, SUMS, channels) in float32
void depthwise_image_conv_backward(const void *grad, const void *x, float *shares, long items, long frames, long bins,
                                   long channels, int half, int threads) {
    long strips = padded(channels) / LANES, areas = (frames + AREA - 1) / AREA;
    long inside = AREA * bins * LANES, around = (AREA + 2 * EDGE) * (bins + 2 * EDGE) * LANES;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats(inside + around + SUMS * LANES), *space = base;
        float *pulls = cut(&space, inside), *area = cut(&space, around), *sums = space;
#pragma omp for schedule(static) collapse(3)
        for (long item = 0; item < items; item++)
            for (long part = 0; part < areas; part++)
                for (long strip = 0; strip < strips; strip++) {
                    long c = strip * LANES, n = MIN(LANES, channels - c), pixels = item * frames * bins * channels + c;
                    long first = part * AREA, rows = MIN(AREA, frames - first);
                    load(pulls, LANES, at(grad, pixels + first * bins * channels, half), channels, rows * bins, n, half);
                    load_area(area, LANES, at(x, pixels, half), first, rows, frames, bins, channels, n, half);
                    area_backward(pulls, area, sums, rows, bins);
                    store(shares + (item * areas + part) * SUMS * channels + c, channels, sums, LANES, SUMS, n, 0);
                }
        free(base);
    }
}
