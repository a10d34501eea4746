// SPDX-License-Identifier: Apache-2.0
// Convolutions of native.py.
#include "cpu_registers.h"

// ---- Depthwise convolution over time, a register of channels at a time: x (items, frames, channels) with a stride between
// rows to y (items, frames + 2 padding - taps + 1, channels); weight (channels, taps).

INLINE void slide(const float *x, const float *weight, vec start, float *y, long taps, const int frames) {
    vec sums[8];
#pragma GCC unroll 8
    for (int t = 0; t < frames; t++) sums[t] = start;
    for (long k = 0; k < taps; k++, x += LANES)
#pragma GCC unroll 8
        for (int t = 0; t < frames; t++) sums[t] += *(vec *)(weight + k * LANES) * *(vec *)(x + t * LANES);
#pragma GCC unroll 8
    for (int t = 0; t < frames; t++) *(vec *)(y + t * LANES) = sums[t];
}

static void convolve(const float *x, const float *weight, vec start, float *y, long taps, long frames) {
    long t = 0;
    for (; t + 8 <= frames; t += 8) slide(x + t * LANES, weight, start, y + t * LANES, taps, 8);
    for (; t < frames; t++) slide(x + t * LANES, weight, start, y + t * LANES, taps, 1);
}

// A register of channels of all frames, with zeros for the frames before and behind.
static void load_strip(float *y, const void *x, long stride, long frames, long padding, long n, int half) {
    memset(y, 0, padding * LANES * sizeof(float));
    load(y + padding * LANES, LANES, x, stride, frames, n, half);
    memset(y + (padding + frames) * LANES, 0, padding * LANES * sizeof(float));
}

void depthwise_conv(const void *x, const float *weight, const float *bias, void *y, long items, long frames,
                    long channels, long stride, long taps, long padding, int half, int threads) {
    long out = frames + 2 * padding - taps + 1, strips = padded(channels) / LANES;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats((frames + 2 * padding + taps + out) * LANES), *space = base;
        float *strip = cut(&space, (frames + 2 * padding) * LANES), *w = cut(&space, taps * LANES), *sums = space;
#pragma omp for schedule(static)
        for (long turn = 0; turn < strips * items; turn++) {
            long first = turn / items * LANES, item = turn % items, n = MIN(LANES, channels - first);
            float start[LANES] = {0};
            load(start, LANES, bias + first, 0, 1, n, 0);
            load_transposed(w, LANES, weight + first * taps, taps, n, taps, 0);
            load_strip(strip, at(x, item * frames * stride + first, half), stride, frames, padding, n, half);
            convolve(strip, w, *(vec *)start, sums, taps, out);
            store(to(y, item * out * channels + first, half), channels, sums, LANES, out, n, half);
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

// grad_weight (items, taps, channels) in float32; needs padding < taps
void depthwise_conv_backward(const void *grad, const void *x, const float *weight, void *grad_x, float *grad_weight,
                             long items, long frames, long channels, long stride, long taps, long padding, int half,
                             int threads) {
    long out = frames + 2 * padding - taps + 1, strips = padded(channels) / LANES, outside = taps - 1 - padding;
#pragma omp parallel num_threads(threads)
    {
        float *base = floats((2 * frames + 2 * padding + out + 2 * outside + 2 * taps) * LANES), *space = base;
        float *strip = cut(&space, (frames + 2 * padding) * LANES), *pulls = cut(&space, (out + 2 * outside) * LANES);
        float *w = cut(&space, taps * LANES), *grad_w = cut(&space, taps * LANES), *sums = space;
#pragma omp for schedule(static)
        for (long turn = 0; turn < strips * items; turn++) {
            long first = turn / items * LANES, item = turn % items, n = MIN(LANES, channels - first), k = 0;
            for (long i = 0; i < taps; i++)  // gradients slide the other way
                load_transposed(w + i * LANES, LANES, weight + first * taps + taps - 1 - i, taps, n, 1, 0);
            load_strip(strip, at(x, item * frames * stride + first, half), stride, frames, padding, n, half);
            load_strip(pulls, at(grad, item * out * channels + first, half), channels, out, outside, n, half);
            convolve(pulls, w, (vec){0}, sums, taps, frames);
            store(to(grad_x, item * frames * channels + first, half), channels, sums, LANES, frames, n, half);
            for (; k + 8 <= taps; k += 8)
                taps_backward(pulls + outside * LANES, strip + k * LANES, grad_w + k * LANES, out, 8);
            for (; k < taps; k++) taps_backward(pulls + outside * LANES, strip + k * LANES, grad_w + k * LANES, out, 1);
            store(grad_weight + item * taps * channels + first, channels, grad_w, LANES, taps, n, 0);
        }
        free(base);
    }
}

// ---- Gradient of the weight and the bias of a depthwise convolution of images, TAPS x TAPS and padded to keep their size,
// a register of channels of some rows at a time: x and grad (items, frames, bins, channels).

enum { TAPS = 7, EDGE = TAPS / 2, SUMS = TAPS * TAPS + 1 };
enum { AREA = 32 };  // rows of which one partial sum is made

// Rows `first - EDGE` to `first + rows + EDGE` of a register of an item's channels, with zeros around the item.
static void load_area(float *y, const void *x, long first, long rows, long frames, long bins, long channels, long n,
                      int half) {
    long width = (bins + 2 * EDGE) * LANES;
    for (long t = first - EDGE; t < first + rows + EDGE; t++, y += width) {
        if (t < 0 || t >= frames) {
            memset(y, 0, width * sizeof(float));
            continue;
        }
        memset(y, 0, EDGE * LANES * sizeof(float));
        load(y + EDGE * LANES, LANES, at(x, t * bins * channels, half), channels, bins, n, half);
        memset(y + (EDGE + bins) * LANES, 0, EDGE * LANES * sizeof(float));
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
                    load_area(area, at(x, pixels, half), first, rows, frames, bins, channels, n, half);
                    area_backward(pulls, area, sums, rows, bins);
                    store(shares + (item * areas + part) * SUMS * channels + c, channels, sums, LANES, SUMS, n, 0);
                }
        free(base);
    }
}

// ---- 3x3 convolution of images of few channels in float32: x (items, frames, bins, channels), `padding` zero bins on both sides, to
// y (items, out_frames, out_bins, out_channels). A register holds all channels of `group` neighbouring pixels, as many as
// fit; its weights are a band of the numbers (3, span) from which the group is made.

enum { SIDE = 3 };
enum { STRETCH = 2 * ROWS };  // output frames worked on at a time

// band (registers, 3, span, LANES)
static void make_band(float *band, const float *weight, long channels, long out_channels, long group, long span,
                      long stride) {
    long registers = padded(group * out_channels) / LANES;
    memset(band, 0, registers * SIDE * span * LANES * sizeof(float));
    for (long pixel = 0; pixel < group; pixel++)
        for (long o = 0; o < out_channels; o++)
            for (long t = 0; t < SIDE; t++)
                for (long f = 0; f < SIDE; f++)
                    for (long c = 0; c < channels; c++) {
                        long column = pixel * out_channels + o, k = (pixel * stride + f) * channels + c;
                        band[((column / LANES * SIDE + t) * span + k) * LANES + column % LANES] =
                            weight[((o * channels + c) * SIDE + t) * SIDE + f];
                    }
}

// ROWS frames of a group: x at a distance of `down` from frame to frame, `line` from one of the input's to the next
INLINE void convolve_group(const float *x, long down, long line, const float *band, vec start, float *y, long span) {
    vec sums[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) sums[r] = start;
    for (long t = 0; t < SIDE; t++, x += line)
        for (long k = 0; k < span; k++, band += LANES)
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) sums[r] += x[r * down + k] * *(const vec *)band;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) *(vec *)(y + r * LANES) = sums[r];
}

void image_conv(const float *x, const float *weight, const float *bias, float *y, long items, long frames, long bins,
                long channels, long out_frames, long out_bins, long out_channels, long stride, long stride_bins,
                long padding, int threads) {
    long group = MAX(1, LANES / out_channels), columns = group * out_channels, registers = padded(columns) / LANES;
    long span = ((group - 1) * stride_bins + SIDE) * channels, groups = (out_bins + group - 1) / group;
    long line = MAX(bins + 2 * padding, groups * group * stride_bins + SIDE) * channels;
    long lines = (STRETCH - 1) * stride + SIDE, stretches = (out_frames + STRETCH - 1) / STRETCH;
    float *band = floats(registers * SIDE * span * LANES), *start = floats(padded(columns));
    make_band(band, weight, channels, out_channels, group, span, stride_bins);
    for (long i = 0; i < padded(columns); i++) start[i] = i < columns ? bias[i % out_channels] : 0.0f;
#pragma omp parallel num_threads(threads)
    {
        float *area = floats(lines * line), out[ROWS * LANES];
        memset(area, 0, lines * line * sizeof(float));
#pragma omp for schedule(static) collapse(2)
        for (long item = 0; item < items; item++)
            for (long part = 0; part < stretches; part++) {
                long first = part * STRETCH, from = first * stride, count = MIN(STRETCH, out_frames - first);
                for (long t = 0; t < MIN(lines, frames - from); t++)
                    load(area + t * line + padding * channels, bins * channels,
                         x + (item * frames + from + t) * bins * channels, 0, 1, bins * channels, 0);
                for (long t = 0; t < count; t += ROWS)
                    for (long g = 0; g < groups; g++)
                        for (long j = 0; j < registers; j++) {
                            long n = MIN(LANES, MIN(columns, (out_bins - g * group) * out_channels) - j * LANES);
                            long pixel = (item * out_frames + first + t) * out_bins + g * group;
                            convolve_group(area + t * stride * line + g * group * stride_bins * channels, stride * line,
                                           line, band + j * SIDE * span * LANES, *(vec *)(start + j * LANES), out, span);
                            store(y + pixel * out_channels + j * LANES, out_bins * out_channels, out, LANES, MIN(ROWS, count - t), n, 0);
                        }
            }
        free(area);
    }
    free(band);
    free(start);
}
