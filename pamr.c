/* pamr.c - pixel-adaptive mask refinement (see map.h; MODEL.md 6.4). */
#include "map.h"
#include <math.h>
#include <string.h>

enum { AROUND = 8, BAND = 16 }; /* neighbours a dilation; rows a task */

typedef struct {
    const real *image;
    size_t channels, h, w, dilations;
    const size_t *dilation;
    real *weights;      /* [8 dilations, h, w] */
    const real *from;   /* [h,w] */
    real *to;
} refine;

static size_t clamped(size_t at, long step, size_t side) {
    long to = (long)at + step;
    return to < 0 ? 0 : (size_t)to < side ? (size_t)to : side - 1;
}

static const int DY[AROUND] = {-1, -1, -1, 0, 0, 1, 1, 1}, DX[AROUND] = {-1, 0, 1, -1, 1, -1, 0, 1};

/* Neighbour k of pixel (y, x): the border repeats. */
static size_t neighbour(const refine *r, size_t y, size_t x, size_t k) {
    long d = (long)r->dilation[k / AROUND];
    return clamped(y, d * DY[k % AROUND], r->h) * r->w + clamped(x, d * DX[k % AROUND], r->w);
}

/* w_ij = softmax_j mean_c -|I_c(i) - I_c(j)| / (1e-8 + 0.1 sigma_c(i)); sigma over all neighbours and the centre once a
 * dilation, divisor N - 1. */
static void weigh_pixel(refine *r, size_t y, size_t x) {
    size_t near = AROUND * r->dilations, i = y * r->w + x, plane = r->h * r->w;
    double value[AROUND * PAMR_DILATIONS] = {0}, most = -INFINITY, sum = 0;
    for (size_t c = 0; c < r->channels; c++) {
        const real *p = r->image + c * plane;
        double centre = (double)p[i], mean = 0, spread = 0, n = (double)(9 * r->dilations);
        for (size_t k = 0; k < near; k++) mean += (double)p[neighbour(r, y, x, k)] - centre;
        mean /= n; /* of the differences to the centre, which are exact where the picture is flat */
        for (size_t k = 0; k < near; k++) {
            double d = (double)p[neighbour(r, y, x, k)] - centre - mean;
            spread += d * d;
        }
        spread = sqrt((spread + (double)r->dilations * mean * mean) / (n - 1));
        for (size_t k = 0; k < near; k++)
            value[k] -= fabs((double)p[neighbour(r, y, x, k)] - centre) / (1e-8 + 0.1 * spread) / (double)r->channels;
    }
    for (size_t k = 0; k < near; k++) most = value[k] > most ? value[k] : most;
    for (size_t k = 0; k < near; k++) sum += value[k] = exp(value[k] - most);
    for (size_t k = 0; k < near; k++) r->weights[k * plane + i] = (real)(value[k] / sum);
}

static void weigh_rows(void *arg, size_t band) {
    refine *r = arg;
    for (size_t y = band * BAND; y < r->h && y < (band + 1) * BAND; y++)
        for (size_t x = 0; x < r->w; x++) weigh_pixel(r, y, x);
}

/* Part of a row where the neighbour is `step` columns on, and inside: columns from..to-1 of out += w in[. + step]. */
static void mix_span(const real *w, const real *in, real *out, size_t from, size_t to, long step) {
    if (from >= to) return;
    const real *source = in + ((long)from + step);
#pragma omp simd
    for (size_t x = 0; x < to - from; x++) out[from + x] += w[from + x] * source[x];
}

/* Neighbour k's share of row y: the border repeats. */
static void mix_neighbour(const refine *r, size_t y, size_t k, real *out) {
    size_t plane = r->h * r->w, W = r->w, d = r->dilation[k / AROUND] < W ? r->dilation[k / AROUND] : W;
    const real *w = r->weights + k * plane + y * W;
    const real *in = r->from + clamped(y, (long)r->dilation[k / AROUND] * DY[k % AROUND], r->h) * W;
    if (DX[k % AROUND] < 0) {
        for (size_t x = 0; x < d; x++) out[x] += w[x] * in[0];
        mix_span(w, in, out, d, W, -(long)d);
    } else if (DX[k % AROUND] > 0) {
        mix_span(w, in, out, 0, W - d, (long)d);
        for (size_t x = W - d; x < W; x++) out[x] += w[x] * in[W - 1];
    } else {
        mix_span(w, in, out, 0, W, 0);
    }
}

static void mix_rows(void *arg, size_t band) { /* M(i) <- sum_j w_ij M(j) */
    refine *r = arg;
    for (size_t y = band * BAND; y < r->h && y < (band + 1) * BAND; y++) {
        real *out = r->to + y * r->w;
        memset(out, 0, r->w * sizeof *out);
        for (size_t k = 0; k < AROUND * r->dilations; k++) mix_neighbour(r, y, k, out);
    }
}

bool pamr_open(pamr *r, const real *image, size_t channels, size_t h, size_t w, const size_t *dilations, size_t dilation_count,
               arena *memory, pool *cores, fault *f) {
    size_t plane = h * w, mark = arena_mark(memory);
    if (dilation_count == 0 || dilation_count > PAMR_DILATIONS)
        return fault_set(f, FAULT_RANGE, "dilations", (size_t[]){dilation_count, 1, PAMR_DILATIONS}, 3);
    *r = (pamr){.h = h, .w = w, .dilations = dilation_count, .cores = cores};
    memcpy(r->dilation, dilations, dilation_count * sizeof *dilations);
    r->weights = arena_alloc(memory, AROUND * dilation_count * plane, sizeof(real));
    r->other = arena_alloc(memory, plane, sizeof(real));
    if (!r->weights || !r->other) {
        arena_reset(memory, mark);
        return fault_memory(f, "PAMR", memory, (AROUND * dilation_count + 1) * plane * sizeof(real));
    }
    refine all = {image, channels, h, w, dilation_count, r->dilation, r->weights, NULL, NULL};
    spread(cores, (h + BAND - 1) / BAND, weigh_rows, &all);
    return true;
}

void pamr_refine(const pamr *r, real *mask, size_t steps) {
    refine all = {NULL, 0, r->h, r->w, r->dilations, r->dilation, r->weights, NULL, NULL};
    real *at = mask, *to = r->other;
    for (size_t s = 0; s < steps; s++) {
        all.from = at, all.to = to;
        spread(r->cores, (r->h + BAND - 1) / BAND, mix_rows, &all);
        to = at, at = all.to;
    }
    if (at != mask) memcpy(mask, at, r->h * r->w * sizeof *mask);
}

bool explain_pamr(const real *image, size_t channels, size_t h, size_t w, real *masks, size_t count, size_t steps,
                  const size_t *dilations, size_t dilation_count, arena *memory, pool *cores, fault *f) {
    size_t mark = arena_mark(memory);
    pamr r;
    if (!pamr_open(&r, image, channels, h, w, dilations, dilation_count, memory, cores, f)) return false;
    for (size_t m = 0; m < count; m++) pamr_refine(&r, masks + m * h * w, steps);
    arena_reset(memory, mark);
    return true;
}
