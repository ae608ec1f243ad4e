/* map.c - from grid to pixels (see map.h; equations: MODEL.md 4.4 and 5.5). */
#include "map.h"
#include <string.h>
#include "kernels.h"

/* Half-pixel centres (4.4): cell i of `to` lies at (i + 1/2) from/to - 1/2, edges repeated. */
static double lerp_at(size_t from, size_t to, size_t i, size_t *cell) {
    double at = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    if (at < 0) at = 0;
    *cell = at_most((size_t)at, from - 1);
    return *cell + 1 < from ? at - (double)*cell : 0; /* the share of the next cell */
}

static bool lerp_new(lerp *l, size_t from, size_t to, arena *memory, fault *f) {
    l->from = from;
    l->to = to;
    l->at = arena_alloc(memory, to, sizeof *l->at);
    l->w = l->at && to <= SIZE_MAX / LERP_TAPS ? arena_alloc(memory, to * LERP_TAPS, sizeof *l->w) : NULL;
    if (!l->w) return fault_memory(f, "map", memory, to * LERP_TAPS * sizeof *l->w);
    memset(l->w, 0, to * LERP_TAPS * sizeof *l->w);
    return true;
}

/* Output i gets `share` of cell; at is moved so that its taps lie within the side. */
static void lerp_add(lerp *l, size_t i, size_t first, size_t cell, double share) {
    size_t last_start = l->from > LERP_TAPS ? l->from - LERP_TAPS : 0;
    l->at[i] = (uint32_t)at_most(first, last_start);
    if (share != 0) l->w[i * LERP_TAPS + cell - l->at[i]] += (real)share;
}

bool lerp_make_twice(lerp *l, size_t from, size_t scale, size_t to, arena *memory, fault *f) {
    size_t between = from * scale;
    if (!lerp_new(l, from, to, memory, f)) return false;
    for (size_t i = 0; i < to; i++) {
        size_t pixel, first = 0;
        double next = lerp_at(between, to, i, &pixel);
        for (size_t k = 0; k < 2; k++) {
            size_t cell;
            double weight = k ? next : 1 - next, share = lerp_at(from, between, at_most(pixel + k, between - 1), &cell);
            if (k == 0) first = cell;
            lerp_add(l, i, first, cell, weight * (1 - share));
            lerp_add(l, i, first, cell + 1, weight * share);
        }
    }
    return true;
}

bool lerp_make(lerp *l, size_t from, size_t to, arena *memory, fault *f) {
    return lerp_make_twice(l, from, 1, to, memory, f);
}

void lerp_apply(const lerp *y, const lerp *x, const real *in, real *out) {
    size_t ty = at_most(LERP_TAPS, y->from), tx = at_most(LERP_TAPS, x->from);
    for (size_t i = 0; i < y->to; i++)
        for (size_t j = 0; j < x->to; j++) {
            real sum = 0;
            for (size_t k = 0; k < ty; k++) {
                const real *row = in + (y->at[i] + k) * x->from + x->at[j];
                real across = 0;
                for (size_t m = 0; m < tx; m++) across += x->w[j * LERP_TAPS + m] * row[m];
                sum += y->w[i * LERP_TAPS + k] * across;
            }
            out[i * x->to + j] = sum;
        }
}

void lerp_across(const lerp *x, const real *in, size_t rows, real *wide) {
    size_t taps = at_most(LERP_TAPS, x->from);
    for (size_t i = 0; i < rows; i++, in += x->from, wide += x->to)
        for (size_t j = 0; j < x->to; j++) {
            real sum = 0;
            for (size_t m = 0; m < taps; m++) sum += x->w[j * LERP_TAPS + m] * in[x->at[j] + m];
            wide[j] = sum;
        }
}

void lerp_row(const lerp *y, const real *wide, size_t width, size_t i, real *out) {
    size_t taps = at_most(LERP_TAPS, y->from);
    memset(out, 0, width * sizeof *out);
    for (size_t k = 0; k < taps; k++) k_axpy(y->w[i * LERP_TAPS + k], wide + (y->at[i] + k) * width, out, width);
}

void lerp_transpose(const lerp *y, const lerp *x, const real *out, real *in) {
    size_t ty = at_most(LERP_TAPS, y->from), tx = at_most(LERP_TAPS, x->from);
    memset(in, 0, y->from * x->from * sizeof *in);
    for (size_t i = 0; i < y->to; i++)
        for (size_t j = 0; j < x->to; j++)
            for (size_t k = 0; k < ty; k++) {
                real *row = in + (y->at[i] + k) * x->from + x->at[j], g = y->w[i * LERP_TAPS + k] * out[i * x->to + j];
                for (size_t m = 0; m < tx; m++) row[m] += x->w[j * LERP_TAPS + m] * g;
            }
}

/* Between four cells the enlarged map is bilinear, so it is largest in a corner: only pixels that are the first or
 * the last between their cells need be looked at. Cell k's first pixel is ceil(scale (k + 1/2) - 1/2). */
static size_t corner_count(size_t cells) { return 2 * cells + 2; }

static size_t corner(size_t cells, size_t scale, size_t i) {
    if (i == 0) return 0;
    if (i + 1 == corner_count(cells)) return cells * scale - 1;
    size_t first = scale * (2 * ((i - 1) / 2) + 1) / 2;
    return i % 2 && first ? first - 1 : first;
}

static real enlarged_at(const real *grid, size_t gh, size_t gw, size_t scale, size_t y, size_t x) {
    size_t r, c;
    real ty = (real)lerp_at(gh, gh * scale, y, &r), tx = (real)lerp_at(gw, gw * scale, x, &c);
    const real *top = grid + r * gw + c, *bottom = r + 1 < gh ? top + gw : top;
    size_t right = c + 1 < gw ? 1 : 0;
    return (1 - ty) * ((1 - tx) * top[0] + tx * top[right]) + ty * ((1 - tx) * bottom[0] + tx * bottom[right]);
}

real map_unit(real v, const extremes *e) { /* rounding may step over the ends by an ulp */
    v = (v - e->low) / (e->high - e->low);
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

extremes map_extremes(const real *grid, size_t gh, size_t gw, size_t scale) {
    extremes e = {.low = enlarged_at(grid, gh, gw, scale, 0, 0)};
    e.high = e.low;
    for (size_t i = 0; i < corner_count(gh); i++)
        for (size_t j = 0; j < corner_count(gw); j++) {
            size_t y = corner(gh, scale, i), x = corner(gw, scale, j);
            real v = enlarged_at(grid, gh, gw, scale, y, x);
            if (v < e.low) e.low = v, e.low_at[0] = y, e.low_at[1] = x;
            if (v > e.high) e.high = v, e.high_at[0] = y, e.high_at[1] = x;
        }
    return e;
}

void map_extremes_transpose(real *grid, size_t gh, size_t gw, size_t scale, const size_t at[2], real g) {
    size_t r, c;
    real ty = (real)lerp_at(gh, gh * scale, at[0], &r), tx = (real)lerp_at(gw, gw * scale, at[1], &c);
    grid[r * gw + c] += g * (1 - ty) * (1 - tx);
    if (tx > 0) grid[r * gw + c + 1] += g * (1 - ty) * tx;
    if (ty > 0) grid[(r + 1) * gw + c] += g * ty * (1 - tx);
    if (tx > 0 && ty > 0) grid[(r + 1) * gw + c + 1] += g * ty * tx;
}

bool map_range(const real *grid, size_t gh, size_t gw, size_t scale, size_t layers, extremes *e, fault *f) {
    *e = map_extremes(grid, gh, gw, scale);
    if (!k_finite(grid, gh * gw)) return fault_set(f, FAULT_NAN, "the map", NULL, 0);
    if (!(e->high > e->low)) return fault_set(f, FAULT_FLAT, "the map", &layers, 1);
    return true;
}

bool map_from_grid(const real *grid, size_t gh, size_t gw, size_t scale, size_t layers, real *map, arena *memory,
                   fault *f) {
    size_t mark = arena_mark(memory), pixels = gh * scale * gw * scale;
    extremes e;
    lerp y, x;
    bool ok = map_range(grid, gh, gw, scale, layers, &e, f) && lerp_make(&y, gh, gh * scale, memory, f) &&
              lerp_make(&x, gw, gw * scale, memory, f);
    if (ok) {
        lerp_apply(&y, &x, grid, map);
        for (size_t i = 0; i < pixels; i++) map[i] = map_unit(map[i], &e);
    }
    arena_reset(memory, mark);
    return ok;
}

bool map_unit_grid(const real *in, size_t gh, size_t gw, size_t layers, real *out, fault *f) {
    extremes e;
    if (!map_range(in, gh, gw, 1, layers, &e, f)) return false;
    for (size_t j = 0; j < gh * gw; j++) out[j] = map_unit(in[j], &e);
    return true;
}

bool map_from_unit_grid(const real *grid, size_t gh, size_t gw, size_t layers, real *map, size_t height, size_t width,
                        arena *memory, fault *f) {
    size_t mark = arena_mark(memory);
    real *unit = arena_numbers(memory, gh, gw, "map", f);
    bool ok = unit && map_unit_grid(grid, gh, gw, layers, unit, f) && map_fit(unit, gh, gw, map, height, width, memory, f);
    arena_reset(memory, mark);
    return ok;
}

bool map_fit(const real *in, size_t h, size_t w, real *out, size_t oh, size_t ow, arena *memory, fault *f) {
    size_t mark = arena_mark(memory);
    lerp y, x;
    bool ok = lerp_make(&y, h, oh, memory, f) && lerp_make(&x, w, ow, memory, f);
    if (ok) lerp_apply(&y, &x, in, out);
    arena_reset(memory, mark);
    return ok;
}
