// SPDX-License-Identifier: Apache-2.0
// Convolutions of images of few channels for native_convolutions.py.
#include "cpu_registers.h"

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
