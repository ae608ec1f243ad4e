/* pamr.c - pixel-adaptive mask refinement (see map.h; MODEL.md 6.4).
 *
 * A step reads 8 weights a dilation and pixel, which the masks share: several masks go side by side, so that the weights
 * come from memory once for all of them. Rows carry their border repeated to both sides, so that a neighbour is the same
 * row or another one, shifted, and a run of LANES pixels is a vector. A mask's bytes do not depend on what is beside it.
 */
#include "map.h"
#include "kernels.h"
#include "simd.h"
#include <math.h>
#include <string.h>

enum { AROUND = 8, MOST = AROUND * PAMR_DILATIONS, BAND = 16, LANES = 16, SIDE_BY_SIDE = 4 };
static const int DY[AROUND] = {-1, -1, -1, 0, 0, 1, 1, 1}, DX[AROUND] = {-1, 0, 1, -1, 1, -1, 0, 1};

/* ---- rows ------------------------------------------------------------------------------------------------------- */
static size_t tiles_of(size_t w) { return (w + LANES - 1) / LANES; }

/* What a step reads together, rows some dilations apart of several masks, must not fall upon the same places of a cache, which
 * repeat every 1024 floats: rows are an odd number of vectors apart, masks two vectors more than a multiple of that. */
enum { PLACES = 1024 };
static size_t stride_of(size_t w, size_t edge) {
    size_t vectors = tiles_of(w) + (2 * edge + LANES - 1) / LANES;
    return (vectors + (vectors % 2 == 0)) * LANES;
}
static size_t plane_of(const pamr *r) { return (r->h * r->stride + PLACES - 1) / PLACES * PLACES + 2 * LANES; }

static size_t clamped(size_t at, ptrdiff_t step, size_t side) {
    ptrdiff_t to = (ptrdiff_t)at + step;
    return to < 0 ? 0 : (size_t)to < side ? (size_t)to : side - 1;
}

/* Where neighbour k of the pixels of row y lies, from themselves. Beyond the border all is the border: a longer way ends there. */
static void shifts_of(const pamr *r, size_t y, ptrdiff_t *shift) {
    for (size_t k = 0; k < AROUND * r->dilations; k++) {
        size_t d = r->dilation[k / AROUND], row = clamped(y, (ptrdiff_t)(d < r->h ? d : r->h) * DY[k % AROUND], r->h);
        shift[k] = ((ptrdiff_t)row - (ptrdiff_t)y) * (ptrdiff_t)r->stride + (ptrdiff_t)(d < r->edge ? d : r->edge) * DX[k % AROUND];
    }
}

static void repeat_border(const pamr *r, real *row) { /* row: of the plane, its border and all */
    real first = row[r->edge], last = row[r->edge + r->w - 1];
    for (size_t x = 0; x < r->edge; x++) row[x] = first;
    for (size_t x = r->edge + r->w; x < r->stride; x++) row[x] = last;
}

real *pamr_row(const pamr *r, size_t mask, size_t y) { return r->planes[0] + mask * plane_of(r) + y * r->stride + r->edge; }

/* ---- weights ------------------------------------------------------------------------------------------------------ */
typedef struct { const pamr *r; const real *image; size_t channels; } guide; /* [channels, h, stride] */

/* (6.20)  value_j -= |I(i) - I(j)| / (1e-8 + 0.1 sigma(i)) / channels for LANES pixels i of one channel. sigma is over all neighbours and
 * the centre once a dilation, divisor N - 1; of the differences to the centre, which are exact where the picture is flat. */
SIMD_LOCAL static void add_channel(const real *restrict at, const ptrdiff_t *shift, size_t near, double channels,
                                   double (*restrict value)[LANES]) {
    double apart[MOST][LANES], mean[LANES] = {0}, spread[LANES] = {0}, centres = (double)(near / AROUND), n = (double)near + centres;
    for (size_t k = 0; k < near; k++)
#pragma omp simd
        for (size_t i = 0; i < LANES; i++) mean[i] += apart[k][i] = (double)at[shift[k] + (ptrdiff_t)i] - (double)at[i];
#pragma omp simd
    for (size_t i = 0; i < LANES; i++) mean[i] /= n;
    for (size_t k = 0; k < near; k++)
#pragma omp simd
        for (size_t i = 0; i < LANES; i++) spread[i] += (apart[k][i] - mean[i]) * (apart[k][i] - mean[i]);
#pragma omp simd
    for (size_t i = 0; i < LANES; i++) spread[i] = 1e-8 + 0.1 * sqrt((spread[i] + centres * mean[i] * mean[i]) / (n - 1));
    for (size_t k = 0; k < near; k++)
#pragma omp simd
        for (size_t i = 0; i < LANES; i++) value[k][i] -= fabs(apart[k][i]) / spread[i] / channels;
}

/* (6.20)  w_ij = softmax_j of the mean over channels */
static void softmax_lanes(double (*value)[LANES], size_t near, real *w) {
    double most[LANES], sum[LANES] = {0};
    memcpy(most, value, sizeof most);
    for (size_t k = 1; k < near; k++)
        for (size_t i = 0; i < LANES; i++) most[i] = value[k][i] > most[i] ? value[k][i] : most[i];
    for (size_t k = 0; k < near; k++)
        for (size_t i = 0; i < LANES; i++) w[k * LANES + i] = (real)(value[k][i] - most[i]);
    k_exp(w, w, near * LANES);
    for (size_t k = 0; k < near; k++)
        for (size_t i = 0; i < LANES; i++) sum[i] += (double)w[k * LANES + i];
    for (size_t k = 0; k < near; k++)
        for (size_t i = 0; i < LANES; i++) w[k * LANES + i] = (real)((double)w[k * LANES + i] / sum[i]);
}

static void weigh_rows(void *arg, size_t band) {
    const guide *g = arg;
    const pamr *r = g->r;
    size_t near = AROUND * r->dilations;
    ptrdiff_t shift[MOST];
    for (size_t y = band * BAND; y < r->h && y < (band + 1) * BAND; y++) {
        shifts_of(r, y, shift);
        for (size_t t = 0; t < tiles_of(r->w); t++) {
            double value[MOST][LANES] = {{0}};
            for (size_t c = 0; c < g->channels; c++)
                add_channel(g->image + (c * r->h + y) * r->stride + r->edge + t * LANES, shift, near, (double)g->channels, value);
            softmax_lanes(value, near, r->weights + (y * tiles_of(r->w) + t) * near * LANES);
        }
    }
}

/* ---- (6.20)'s step: M(i) <- sum_j w_ij M(j) --------------------------------------------------------------------------------- */
/* LANES pixels of `masks` masks, a constant where it is called, so that all of sum is registers. */
static ALWAYS_INLINE void mix(const size_t masks, const real *restrict w, const real *restrict from, const ptrdiff_t *shift,
                              size_t near, size_t plane, real *restrict to) {
    real sum[SIDE_BY_SIDE][LANES];
    UNROLLED
    for (size_t m = 0; m < masks; m++)
#pragma omp simd
        for (size_t i = 0; i < LANES; i++) sum[m][i] = 0;
    ROLLED
    for (size_t k = 0; k < near; k++) {
        const real *in = from + shift[k];
        UNROLLED
        for (size_t m = 0; m < masks; m++)
#pragma omp simd
            for (size_t i = 0; i < LANES; i++) sum[m][i] += w[k * LANES + i] * in[m * plane + i];
    }
    UNROLLED
    for (size_t m = 0; m < masks; m++)
#pragma omp simd
        for (size_t i = 0; i < LANES; i++) to[m * plane + i] = sum[m][i];
}

/* A row: w [tiles, near, LANES]; from, to: the first mask's row, the others a plane apart. */
SIMD_LOCAL static void mix_row(const real *restrict w, const real *restrict from, const ptrdiff_t *shift, size_t near, size_t tiles,
                               size_t masks, size_t plane, real *restrict to) {
    for (size_t t = 0; t < tiles; t++, w += near * LANES, from += LANES, to += LANES) {
        size_t m = 0;
        for (; m + SIDE_BY_SIDE <= masks; m += SIDE_BY_SIDE) mix(SIDE_BY_SIDE, w, from + m * plane, shift, near, plane, to + m * plane);
        for (; m < masks; m++) mix(1, w, from + m * plane, shift, near, plane, to + m * plane);
    }
}

typedef struct { const pamr *r; size_t masks; } step;

static void mix_rows(void *arg, size_t band) { /* from planes[0] to planes[1] */
    const step *s = arg;
    const pamr *r = s->r;
    size_t near = AROUND * r->dilations, tiles = tiles_of(r->w), plane = plane_of(r);
    ptrdiff_t shift[MOST];
    for (size_t y = band * BAND; y < r->h && y < (band + 1) * BAND; y++) {
        real *to = r->planes[1] + y * r->stride;
        shifts_of(r, y, shift);
        mix_row(r->weights + y * tiles * near * LANES, r->planes[0] + y * r->stride + r->edge, shift, near, tiles, s->masks, plane,
                to + r->edge);
        for (size_t m = 0; m < s->masks; m++) repeat_border(r, to + m * plane);
    }
}

static void border_rows(void *arg, size_t band) {
    const step *s = arg;
    const pamr *r = s->r;
    for (size_t y = band * BAND; y < r->h && y < (band + 1) * BAND; y++)
        for (size_t m = 0; m < s->masks; m++) repeat_border(r, pamr_row(r, m, y) - r->edge);
}

void pamr_run(pamr *r, size_t masks, size_t steps) {
    step s = {r, masks};
    size_t bands = (r->h + BAND - 1) / BAND;
    if (steps) spread(r->cores, bands, border_rows, &s);
    for (; steps; steps--) {
        spread(r->cores, bands, mix_rows, &s);
        real *before = r->planes[0];
        r->planes[0] = r->planes[1], r->planes[1] = before;
    }
}

/* ---- from outside --------------------------------------------------------------------------------------------------------- */
static bool make_weights(const pamr *r, const real *image, size_t channels, arena *memory, fault *f) {
    size_t mark = arena_mark(memory), rows = channels * r->h;
    real *wide = arena_alloc(memory, rows, r->stride * sizeof *wide);
    if (!wide) return fault_memory(f, "PAMR", memory, rows * r->stride * sizeof *wide);
    for (size_t y = 0; y < rows; y++) {
        memcpy(wide + y * r->stride + r->edge, image + y * r->w, r->w * sizeof *wide);
        repeat_border(r, wide + y * r->stride);
    }
    guide g = {r, wide, channels};
    spread(r->cores, (r->h + BAND - 1) / BAND, weigh_rows, &g);
    arena_reset(memory, mark);
    return true;
}

/* Room for so many masks side by side, or for fewer. */
static bool make_planes(pamr *r, size_t together, arena *memory, fault *f) {
    size_t mark = arena_mark(memory), bytes = plane_of(r) * sizeof(real);
    for (r->together = together < PAMR_TOGETHER ? together : PAMR_TOGETHER; r->together; r->together /= 2) {
        r->planes[0] = arena_alloc(memory, r->together, bytes);
        r->planes[1] = arena_alloc(memory, r->together, bytes);
        if (r->planes[0] && r->planes[1]) return true;
        arena_reset(memory, mark);
    }
    return fault_memory(f, "PAMR", memory, 2 * bytes);
}

bool pamr_open(pamr *r, const real *image, size_t channels, size_t h, size_t w, const size_t *dilations, size_t dilation_count,
               size_t together, arena *memory, pool *cores, fault *f) {
    size_t mark = arena_mark(memory), count = 0;
    if (dilation_count == 0 || dilation_count > PAMR_DILATIONS)
        return fault_set(f, FAULT_RANGE, "dilations", (size_t[]){dilation_count, 1, PAMR_DILATIONS}, 3);
    *r = (pamr){.h = h, .w = w, .dilations = dilation_count, .cores = cores};
    for (size_t i = 0; i < dilation_count; i++) {
        r->dilation[i] = dilations[i];
        r->edge = dilations[i] < r->edge ? r->edge : dilations[i] < w ? dilations[i] : w;
    }
    r->stride = stride_of(w, r->edge);
    r->weights = size_mul(h * tiles_of(w), AROUND * dilation_count * LANES, &count) ? arena_alloc(memory, count, sizeof(real)) : NULL;
    if (!r->weights) fault_memory(f, "PAMR", memory, count * sizeof(real));
    if (r->weights && make_weights(r, image, channels, memory, f) && make_planes(r, together ? together : 1, memory, f)) return true;
    arena_reset(memory, mark);
    return false;
}

static void copy_mask(const pamr *r, size_t mask, real *outside, bool in) {
    for (size_t y = 0; y < r->h; y++)
        memcpy(in ? pamr_row(r, mask, y) : outside + y * r->w, in ? outside + y * r->w : pamr_row(r, mask, y), r->w * sizeof *outside);
}

void pamr_refine(pamr *r, real *masks, size_t count, size_t steps) {
    size_t plane = r->h * r->w;
    for (size_t m = 0, now; m < count; m += now) {
        now = count - m < r->together ? count - m : r->together;
        for (size_t k = 0; k < now; k++) copy_mask(r, k, masks + (m + k) * plane, true);
        pamr_run(r, now, steps);
        for (size_t k = 0; k < now; k++) copy_mask(r, k, masks + (m + k) * plane, false);
    }
}

bool explain_pamr(const real *image, size_t channels, size_t h, size_t w, real *masks, size_t count, size_t steps,
                  const size_t *dilations, size_t dilation_count, arena *memory, pool *cores, fault *f) {
    size_t mark = arena_mark(memory);
    pamr r;
    if (!pamr_open(&r, image, channels, h, w, dilations, dilation_count, count, memory, cores, f)) return false;
    pamr_refine(&r, masks, count, steps);
    arena_reset(memory, mark);
    return true;
}
