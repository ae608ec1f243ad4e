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

/* Neighbour k of pixel (y, x): the border repeats. */
static size_t neighbour(const refine *r, size_t y, size_t x, size_t k) {
    static const int dy[AROUND] = {-1, -1, -1, 0, 0, 1, 1, 1}, dx[AROUND] = {-1, 0, 1, -1, 1, -1, 0, 1};
    long d = (long)r->dilation[k / AROUND];
    return clamped(y, d * dy[k % AROUND], r->h) * r->w + clamped(x, d * dx[k % AROUND], r->w);
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

static void mix_rows(void *arg, size_t band) { /* M(i) <- sum_j w_ij M(j) */
    refine *r = arg;
    size_t near = AROUND * r->dilations, plane = r->h * r->w;
    for (size_t y = band * BAND; y < r->h && y < (band + 1) * BAND; y++)
        for (size_t x = 0; x < r->w; x++) {
            size_t i = y * r->w + x;
            real sum = 0;
            for (size_t k = 0; k < near; k++) sum += r->weights[k * plane + i] * r->from[neighbour(r, y, x, k)];
            r->to[i] = sum;
        }
}

bool explain_pamr(const real *image, size_t channels, size_t h, size_t w, real *masks, size_t count, size_t steps,
                  const size_t *dilations, size_t dilation_count, arena *memory, pool *cores, fault *f) {
    size_t mark = arena_mark(memory), plane = h * w, bands = (h + BAND - 1) / BAND;
    if (dilation_count == 0 || dilation_count > PAMR_DILATIONS)
        return fault_set(f, FAULT_RANGE, "dilations", (size_t[]){dilation_count, 1, PAMR_DILATIONS}, 3);
    refine r = {image, channels, h, w, dilation_count, dilations, arena_alloc(memory, AROUND * dilation_count * plane, sizeof(real)), NULL, NULL};
    real *other = arena_alloc(memory, plane, sizeof *other);
    if (!r.weights || !other) {
        arena_reset(memory, mark);
        return fault_memory(f, "PAMR", memory, (AROUND * dilation_count + 1) * plane * sizeof(real));
    }
    spread(cores, bands, weigh_rows, &r);
    for (size_t m = 0; m < count; m++) {
        real *at = masks + m * plane, *to = other;
        for (size_t s = 0; s < steps; s++) {
            r.from = at, r.to = to;
            spread(cores, bands, mix_rows, &r);
            to = at, at = r.to;
        }
        if (at != masks + m * plane) memcpy(masks + m * plane, at, plane * sizeof *at);
    }
    arena_reset(memory, mark);
    return true;
}
