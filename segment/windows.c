/* windows.c - cosines of patches and names at the input's size: windows side by side through the network, their grids
 * enlarged, averaged where windows overlap (see segment.h; MODEL.md 6.7). */
#include "segment/segment.h"
#include "kernels.h"
#include <string.h>

/* ---- enlarging --------------------------------------------------------------------------------------------- */
static void ramp(size_t from, size_t to, uint32_t *cell, real *share) {
    for (size_t i = 0; i < to; i++) {
        double at = ((double)i + .5) * (double)from / (double)to - .5;
        if (at < 0) at = 0;
        size_t j = (size_t)at < from - 1 ? (size_t)at : from - 1;
        cell[i] = (uint32_t)j;
        share[i] = j + 1 < from ? (real)(at - (double)j) : 0;
    }
}

bool enlarging_make(enlarging *g, size_t h, size_t w, size_t oh, size_t ow, arena *memory, fault *f) {
    *g = (enlarging){h, w, oh, ow, arena_alloc(memory, oh, sizeof(uint32_t)), arena_alloc(memory, ow, sizeof(uint32_t)),
                     arena_alloc(memory, oh, sizeof(real)), arena_alloc(memory, ow, sizeof(real))};
    if (!g->row || !g->column || !g->down || !g->across) return fault_memory(f, "enlarging", memory, (oh + ow) * 12);
    ramp(h, oh, g->row, g->down);
    ramp(w, ow, g->column, g->across);
    return true;
}

void enlarge_across(const enlarging *g, const real *in, real *wide) {
    for (size_t y = 0; y < g->h; y++, in += g->w, wide += g->ow)
        for (size_t x = 0; x < g->ow; x++) {
            size_t a = g->column[x], b = a + 1 < g->w ? a + 1 : a;
            wide[x] = in[a] + g->across[x] * (in[b] - in[a]);
        }
}

void enlarge_row(const enlarging *g, const real *wide, size_t y, real *out, bool add) {
    const real *a = wide + g->row[y] * g->ow, *b = g->row[y] + 1 < g->h ? a + g->ow : a;
    real s = g->down[y];
    if (add) for (size_t x = 0; x < g->ow; x++) out[x] += a[x] + s * (b[x] - a[x]);
    else for (size_t x = 0; x < g->ow; x++) out[x] = a[x] + s * (b[x] - a[x]);
}

/* ---- places -------------------------------------------------------------------------------------------------- */
size_t segment_window_count(size_t side, size_t window, size_t stride) {
    return window && side > window ? (side - window + stride - 1) / stride + 1 : 1;
}

size_t segment_window_start(size_t side, size_t window, size_t stride, size_t i) {
    if (!window || side <= window) return 0;
    return i * stride + window < side ? i * stride : side - window;
}

/* ---- all windows ------------------------------------------------------------------------------------------------ */
enum { SIDE_BY_SIDE = 16 }; /* so many share one conversion of the weights, where memory allows */

typedef struct {
    const segmenter *s;
    const real *pixels;
    size_t h, w, wh, ww, across, first, count; /* sides of input and window; windows of a row; those in hand */
    enlarging up;
    real *grids, *wide; /* [count,Q,gh,gw]; [Q,gh,ww] */
    real *total;        /* [Q,h,w] */
} sweep;

static void corner(const sweep *v, size_t i, size_t *y, size_t *x) {
    const segment_settings *o = &v->s->settings;
    *y = segment_window_start(v->h, o->window, o->stride, i / v->across);
    *x = segment_window_start(v->w, o->window, o->stride, i % v->across);
}

/* One query's grids, of all windows in hand, added where they lie. */
static void add_query(void *arg, size_t q) {
    const sweep *v = arg;
    size_t cells = v->up.h * v->up.w, Q = v->s->classes->query_count;
    real *wide = v->wide + q * v->up.h * v->ww;
    for (size_t i = 0; i < v->count; i++) {
        size_t top, left;
        corner(v, v->first + i, &top, &left);
        enlarge_across(&v->up, v->grids + (i * Q + q) * cells, wide);
        for (size_t y = 0; y < v->wh; y++) enlarge_row(&v->up, wide, y, v->total + (q * v->h + top + y) * v->w + left, true);
    }
}

static const real *cut_windows(const sweep *v, arena *memory, fault *f) {
    real *cut = arena_alloc(memory, v->count * 3, v->wh * v->ww * sizeof *cut);
    if (!cut) return fault_memory(f, "windows", memory, v->count * 3 * v->wh * v->ww * sizeof *cut), NULL;
    for (size_t i = 0; i < v->count; i++) {
        size_t top, left;
        corner(v, v->first + i, &top, &left);
        for (size_t row = 0; row < 3 * v->wh; row++)
            memcpy(cut + (3 * v->wh * i + row) * v->ww, v->pixels + (row / v->wh * v->h + top + row % v->wh) * v->w + left,
                   v->ww * sizeof *cut);
    }
    return cut;
}

static bool run_batch(sweep *v, arena *memory, pool *cores, fault *f) {
    const segment_settings *o = &v->s->settings;
    size_t Q = v->s->classes->query_count;
    explainer x;
    const method_options options = {.blocks = o->blocks, .settings = &o->method, .batch = v->count, .patches_only = true};
    const real *cut = cut_windows(v, memory, f);
    if (!cut || !method_open(&x, o->how, v->s->model, cut, v->wh, v->ww, &options, memory, cores, f)) return false;
    size_t cells = x.gh * x.gw;
    v->grids = arena_alloc(memory, v->count * Q, cells * sizeof *v->grids);
    v->wide = v->grids ? arena_alloc(memory, Q * x.gh, v->ww * sizeof *v->wide) : NULL;
    if (!v->wide) return fault_memory(f, "windows", memory, v->count * Q * cells * sizeof *v->grids);
    if (!enlarging_make(&v->up, x.gh, x.gw, v->wh, v->ww, memory, f) ||
        !method_grids(&x, v->s->queries, Q, v->s->empty, v->grids, f))
        return false;
    if (!k_finite(v->grids, v->count * Q * cells)) return fault_set(f, FAULT_NAN, "the cosines", &v->first, 1);
    spread(cores, Q, add_query, v);
    return true;
}

/* How many windows lie over each row (or column). */
static void cover(size_t side, const segment_settings *o, real *times) {
    for (size_t i = 0; i < side; i++) times[i] = 0;
    for (size_t i = 0; i < segment_window_count(side, o->window, o->stride); i++) {
        size_t at = segment_window_start(side, o->window, o->stride, i);
        for (size_t k = 0; k < o->window && at + k < side; k++) times[at + k]++;
    }
}

static void average(sweep *v, real *rows, real *columns) {
    cover(v->h, &v->s->settings, rows);
    cover(v->w, &v->s->settings, columns);
    for (size_t i = 0; i < v->s->classes->query_count * v->h; i++)
        for (size_t x = 0; x < v->w; x++) v->total[i * v->w + x] /= rows[i % v->h] * columns[x];
}

real *segment_cosines(const segmenter *s, const real *pixels, size_t h, size_t w, size_t *windows, arena *memory, pool *cores,
                      fault *f) {
    const segment_settings *o = &s->settings;
    size_t all = 0, Q = s->classes->query_count, most = SIDE_BY_SIDE;
    sweep v = {.s = s, .pixels = pixels, .h = h, .w = w, .wh = o->window && o->window < h ? o->window : h,
               .ww = o->window && o->window < w ? o->window : w, .across = segment_window_count(w, o->window, o->stride)};
    if (size_mul(Q, h * w, &all)) v.total = arena_alloc(memory, all, sizeof *v.total);
    if (!v.total) return fault_memory(f, "cosines of all pixels", memory, all * sizeof *v.total), NULL;
    memset(v.total, 0, all * sizeof *v.total);
    *windows = segment_window_count(h, o->window, o->stride) * v.across;
    size_t mark = arena_mark(memory);
    while (v.first < *windows) {
        v.count = *windows - v.first < most ? *windows - v.first : most;
        fault now = {0};
        bool ok = run_batch(&v, memory, cores, &now);
        arena_reset(memory, mark);
        if (!ok && now.code == FAULT_MEMORY && v.count > 1) {
            most = v.count / 2;
            continue;
        }
        if (!ok) return *f = now, NULL;
        v.first += v.count;
    }
    real *rows = arena_alloc(memory, h + w, sizeof *rows);
    if (!rows) return fault_memory(f, "windows", memory, (h + w) * sizeof *rows), NULL;
    if (o->window) average(&v, rows, rows + h);
    arena_reset(memory, mark);
    return v.total;
}
