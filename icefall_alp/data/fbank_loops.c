// SPDX-License-Identifier: Apache-2.0
// The features of fbank.py window by window, computed in float64, a few windows side by side.
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
enum { LANES = 4, WINDOW = 400, SHIFT = 160, POINTS = 512, HALF = POINTS / 2, BINS = 80 };
typedef double vec __attribute__((vector_size(8 * LANES)));  // a number of each window
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// All in float64 but `starts`. Places of the filters' weights are points of the spectrum.
typedef struct {
    const double *window;       // (400)
    const double *turns;        // (512, 2): cosine and sine of -2 pi k / 512
    const double *weights;      // of all filters, one after the other
    const int64_t *starts;      // (80, 2): the first point of each filter, and their number
    const int64_t *places;      // (256): where the transform leaves each point
    double preemphasis, floor;
} tables;

// The spectrum's real and imaginary parts: 256 points of each window.
typedef struct {
    vec re[HALF], im[HALF];
} complexes;

INLINE double mean_of(const float *x) {
    vec sum = {0};
    for (int n = 0; n < WINDOW; n += LANES) sum += __builtin_convertvector(*(floats *)(x + n), vec);
    return (sum[0] + sum[1] + sum[2] + sum[3]) / WINDOW;
}

INLINE vec side_by_side(const float *const *x, int n) {
    return __builtin_convertvector(((floats){x[0][n], x[1][n], x[2][n], x[3][n]}), vec);
}

// Windows whose samples begin at x, x + SHIFT, ...: without their means, emphasized, weighted, as HALF complex numbers.
static void load_windows(complexes *z, const float *const *x, const tables *t) {
    vec mean = {mean_of(x[0]), mean_of(x[1]), mean_of(x[2]), mean_of(x[3])}, before = side_by_side(x, 0) - mean;
    for (int n = 0; n < WINDOW; n += 2) {
        vec even = side_by_side(x, n) - mean, odd = side_by_side(x, n + 1) - mean;
        z->re[n / 2] = (even - t->preemphasis * before) * t->window[n];
        z->im[n / 2] = (odd - t->preemphasis * even) * t->window[n + 1];
        before = odd;
    }
    for (int k = WINDOW / 2; k < HALF; k++) z->re[k] = z->im[k] = (vec){0};
}

// z w^k of the 512-th root of unity w
INLINE void turn(vec *re, vec *im, const double *turns, int k) {
    double c = turns[2 * k], s = turns[2 * k + 1];
    vec r = *re * c - *im * s;
    *im = *re * s + *im * c;
    *re = r;
}

// The discrete Fourier transform of 256 complex numbers in place, which leaves them in another order: four points at a
// time, decimating in frequency.
static void transform(complexes *z, const double *turns) {
    for (int size = HALF; size > 1; size /= 4) {
        int quarter = size / 4, step = POINTS / size;
        for (int j = 0; j < quarter; j++) {
            for (int a = j; a < HALF; a += size) {
                int b = a + quarter, c = b + quarter, d = c + quarter;
                vec sum_re = z->re[a] + z->re[c], sum_im = z->im[a] + z->im[c];
                vec dif_re = z->re[a] - z->re[c], dif_im = z->im[a] - z->im[c];
                vec other_re = z->re[b] + z->re[d], other_im = z->im[b] + z->im[d];
                vec side_re = z->im[b] - z->im[d], side_im = z->re[d] - z->re[b];  // -i (b - d)
                z->re[a] = sum_re + other_re, z->im[a] = sum_im + other_im;
                z->re[b] = dif_re + side_re, z->im[b] = dif_im + side_im;
                z->re[c] = sum_re - other_re, z->im[c] = sum_im - other_im;
                z->re[d] = dif_re - side_re, z->im[d] = dif_im - side_im;
                if (j) {
                    turn(&z->re[b], &z->im[b], turns, j * step);
                    turn(&z->re[c], &z->im[c], turns, 2 * j * step);
                    turn(&z->re[d], &z->im[d], turns, 3 * j * step);
                }
            }
        }
    }
}

// Power of the 512 real numbers whose even and odd ones were transformed as complex numbers; the last point is unused.
static void powers(vec *power, const complexes *z, const tables *t) {
    vec sum = z->re[0] + z->im[0];
    power[0] = sum * sum;
    for (int k = 1; k <= HALF / 2; k++) {
        int a = t->places[k], b = t->places[HALF - k];
        vec even_re = (z->re[a] + z->re[b]) * 0.5, even_im = (z->im[a] - z->im[b]) * 0.5;
        vec odd_re = (z->im[a] + z->im[b]) * 0.5, odd_im = (z->re[b] - z->re[a]) * 0.5;
        turn(&odd_re, &odd_im, t->turns, k);
        vec re = even_re + odd_re, im = even_im + odd_im, mirror_re = even_re - odd_re, mirror_im = even_im - odd_im;
        power[HALF - k] = mirror_re * mirror_re + mirror_im * mirror_im;
        power[k] = re * re + im * im;
    }
}

// log(x) for x > 0 by 2 atanh((m - 1) / (m + 1)) of its mantissa; NaN and infinity stay
INLINE double logarithm(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    uint64_t shifted = bits - 0x3fe6a09e667f3bcd;  // of the root of 1/2
    int64_t exponent = (int64_t)shifted >> 52;
    bits -= (uint64_t)exponent << 52;
    double m;
    memcpy(&m, &bits, 8);
    double s = (m - 1.0) / (m + 1.0), q = s * s;
    double y = 1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13)));
    y = 2.0 * s * (1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * y))) + exponent * 0.6931471805599453;
    return x - x == 0.0 ? y : x;
}

static void filter(float *const *features, const vec *power, const tables *t, int count) {
    double energies[LANES][BINS];
    const double *weights = t->weights;
    for (int bin = 0; bin < BINS; bin++) {
        const vec *first = power + t->starts[2 * bin];
        int64_t points = t->starts[2 * bin + 1];
        vec sum = {0};
        for (int64_t k = 0; k < points; k++) sum += first[k] * weights[k];
        weights += points;
        for (int l = 0; l < LANES; l++) energies[l][bin] = sum[l] < t->floor ? t->floor : sum[l];  // NaN stays
    }
    for (int l = 0; l < count; l++)
        for (int bin = 0; bin < BINS; bin++) features[l][bin] = logarithm(energies[l][bin]);
}

// signals (clips, width), continued at both ends; features (clips, frames, 80), of which the first lens[clip] are made
void fbank(const float *signals, const int64_t *lens, float *features, const double *window, const double *turns,
           const double *weights, const int64_t *starts, const int64_t *places, const double *numbers, long clips,
           long width, long frames, int threads) {
    tables t = {window, turns, weights, starts, places, numbers[0], numbers[1]};
    long blocks = (frames + LANES - 1) / LANES;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long turn = 0; turn < clips * blocks; turn++) {
        long clip = turn / blocks, frame = turn % blocks * LANES;
        long count = MIN(LANES, MIN(lens[clip], frames) - frame);
        if (count <= 0) continue;
        const float *x[LANES];
        float *y[LANES];
        for (int l = 0; l < LANES; l++) {  // windows that are too many repeat the last
            long at = frame + MIN(l, count - 1);
            x[l] = signals + clip * width + at * SHIFT;
            y[l] = features + (clip * frames + at) * BINS;
        }
        complexes z;
        vec power[HALF];
        load_windows(&z, x, &t);
        transform(&z, turns);
        powers(power, &z, &t);
        filter(y, power, &t, count);
    }
}
