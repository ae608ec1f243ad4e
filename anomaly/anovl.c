/* anovl.c - AnoVL's tokens, map, views and score of a picture (see anovl.h; MODEL.md 11). */
#include "anomaly/anovl.h"
#include "methods.h"
#include "sys/random.h"
#include <math.h>
#include <string.h>

enum { BLOCKS = 12 }; /* the second path's, of models that have as many */

/* ---- tokens (11.1): CLIP Surgery's two paths --------------------------------------------------------------- */
static method two_paths(const clip_model *m) {
    method how = *method_find("surgery");
    how.position = POSITION_BICUBIC;
    how.blocks = m->config.vision.layers < BLOCKS ? m->config.vision.layers : BLOCKS;
    return how;
}

bool anovl_tokens(const clip_model *m, const real *pixels, size_t side, arena *memory, pool *cores, real *class_token,
                  real *patches, err *e) {
    size_t mark = arena_mark(memory), E = m->config.embed;
    method how = two_paths(m);
    explainer x;
    fault f = {0};
    bool ok = method_open(&x, &how, m, pixels, side, side, &(method_options){0}, memory, cores, &f) || err_fault(e, &f);
    if (ok) memcpy(class_token, x.tokens, E * sizeof *class_token);
    if (ok) memcpy(patches, x.tokens + E, (x.n - 1) * E * sizeof *patches);
    arena_reset(memory, mark);
    return ok;
}

/* ---- map (11.3) ---------------------------------------------------------------------------------------------- */
void anovl_shares(const real *rows, size_t n, size_t embed, const real *pair, real *out) {
    for (size_t i = 0; i < n; i++) {
        double length = 0, logit = 0;
        for (size_t k = 0; k < embed; k++) {
            double v = (double)rows[i * embed + k];
            length += v * v, logit += v * ((double)pair[embed + k] - (double)pair[k]);
        }
        out[i] = (real)(1 / (1 + exp(-logit / sqrt(length))));
    }
}

static double mean_around(const real *grid, size_t gh, size_t gw, size_t y, size_t x) {
    double sum = 0;
    for (size_t k = 0; k < 9; k++) {
        size_t r = y + k / 3, c = x + k % 3; /* one more than it is */
        r = r < 1 ? 0 : r > gh ? gh - 1 : r - 1, c = c < 1 ? 0 : c > gw ? gw - 1 : c - 1;
        sum += (double)grid[r * gw + c];
    }
    return sum / 9;
}

/* Pixel i of n lies at cell *low, and by *part at the next. */
static void corner_cell(size_t i, size_t n, size_t cells, size_t *low, size_t *high, double *part) {
    double at = n > 1 ? (double)i * (double)(cells - 1) / (double)(n - 1) : 0;
    *low = (size_t)at, *high = *low + 1 < cells ? *low + 1 : *low, *part = at - floor(at);
}

void anovl_map(const real *grid, size_t gh, size_t gw, real *map, size_t h, size_t w) {
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            size_t r[2], c[2];
            double a, b;
            corner_cell(y, h, gh, &r[0], &r[1], &a), corner_cell(x, w, gw, &c[0], &c[1], &b);
            double up = (1 - b) * mean_around(grid, gh, gw, r[0], c[0]) + b * mean_around(grid, gh, gw, r[0], c[1]);
            double down = (1 - b) * mean_around(grid, gh, gw, r[1], c[0]) + b * mean_around(grid, gh, gw, r[1], c[1]);
            map[y * w + x] = (real)((1 - a) * up + a * down);
        }
}

/* ---- views ------------------------------------------------------------------------------------------------------ */
/* A coordinate reflected about the centres of the first and the last pixel. */
static double reflected(double x, double span) {
    double t = fmod(fabs(x), 2 * span);
    return t > span ? 2 * span - t : t;
}

/* Output (x, y) in -1..1, corner pixels at +-1, samples input m (x, y, 1), bilinear. */
static void warp(const real *in, size_t side, const double m[6], real *out) {
    double span = (double)(side - 1);
    for (size_t i = 0; i < side * side; i++) {
        double x = 2 * (double)(i % side) / span - 1, y = 2 * (double)(i / side) / span - 1;
        double u = reflected((m[0] * x + m[1] * y + m[2] + 1) / 2 * span, span);
        double v = reflected((m[3] * x + m[4] * y + m[5] + 1) / 2 * span, span);
        size_t c = (size_t)u, r = (size_t)v, right = c + 1 < side ? c + 1 : c, below = r + 1 < side ? r + 1 : r;
        double a = u - floor(u), b = v - floor(v);
        for (size_t k = 0; k < 3; k++) {
            const real *p = in + k * side * side;
            double up = (1 - a) * (double)p[r * side + c] + a * (double)p[r * side + right];
            double down = (1 - a) * (double)p[below * side + c] + a * (double)p[below * side + right];
            out[k * side * side + i] = (real)((1 - b) * up + b * down);
        }
    }
}

static const double half_pi = 1.57079632679489661923;
/* Pixel (y, x) of a quarter turn's result comes from here; turns 0: mirrored. */
static size_t turned(size_t turns, size_t y, size_t x, size_t side) {
    size_t last = side - 1;
    return turns == 0 ? y * side + last - x : turns == 1 ? x * side + last - y : turns == 2 ? (last - y) * side + last - x
                                                                                            : (last - x) * side + y;
}

void anovl_view(const real *pixels, size_t side, size_t k, real *out) {
    size_t plane = side * side;
    if (k == 0) {
        memcpy(out, pixels, 3 * plane * sizeof *out);
    } else if (k < 9) { /* turned by -4..4 sixteenths of a half turn */
        double a = ((double)k - (k < 5 ? 5 : 4)) * half_pi / 8;
        warp(pixels, side, (double[6]){cos(a), -sin(a), 0, sin(a), cos(a), 0}, out);
    } else if (k < 17) { /* shifted */
        double d = k < 13 ? .2 : .1, a = (k - 9) % 4 == 0 || (k - 9) % 4 == 3 ? d : -d, b = (k - 9) % 4 < 2 ? d : -d;
        warp(pixels, side, (double[6]){1, 0, a, 0, 1, b}, out);
    } else if (k == 18) { /* grey */
        for (size_t i = 0; i < plane; i++)
            out[i] = out[plane + i] = out[2 * plane + i] =
                (real)(.299 * (double)pixels[i] + .587 * (double)pixels[plane + i] + .114 * (double)pixels[2 * plane + i]);
    } else { /* mirrored, or turned by quarters */
        for (size_t i = 0; i < 3 * plane; i++)
            out[i] = pixels[i / plane * plane + turned(k == 17 ? 0 : k - 18, i % plane / side, i % side, side)];
    }
}

/* ---- a picture -------------------------------------------------------------------------------------------------------- */
typedef struct {
    const clip_model *m;
    const anovl_texts *t;
    const anovl_options *o;
    arena *memory;
    pool *cores;
    err *e;
    size_t E, patches, tiles;
    real *pixels, *seen; /* [tiles,3,side,side], [3,side,side] */
    real *class_token, *x;
} work;

static bool no_room(work *w) { return err_set(w->e, "--memory: %zu bytes are too little for the picture", w->memory->size); }

/* (11.6): the mean over the views, or over the tiles, of P(anomalous) of the class token. */
static bool score(work *w, double *out) {
    size_t views = w->o->views && w->tiles == 1 ? ANOVL_VIEWS : 1, numbers = 3 * w->o->side * w->o->side;
    double sum = 0;
    for (size_t i = 0; i < w->tiles; i++)
        for (size_t k = 0; k < views; k++) {
            real share;
            anovl_view(w->pixels + i * numbers, w->o->side, k, w->seen);
            real *patches = k ? NULL : w->x + i * w->patches * w->E;
            size_t mark = arena_mark(w->memory);
            if (!patches && !(patches = arena_alloc(w->memory, w->patches * w->E, sizeof *patches))) return no_room(w);
            if (!anovl_tokens(w->m, w->seen, w->o->side, w->memory, w->cores, w->class_token, patches, w->e)) return false;
            arena_reset(w->memory, mark);
            anovl_shares(w->class_token, 1, w->E, w->t->pair, &share);
            sum += (double)share;
        }
    *out = sum / (double)(views * w->tiles);
    return true;
}

/* Standard normal numbers in pairs (Box and Muller). */
static void draw_noise(rng *r, real *out, size_t n, double deviation) {
    for (size_t i = 0; i < n; i += 2) {
        double length = sqrt(-2 * log(1 - (double)rng_unit(r))), angle = 4 * half_pi * (double)rng_unit(r);
        out[i] = (real)(deviation * length * cos(angle));
        if (i + 1 < n) out[i + 1] = (real)(deviation * length * sin(angle));
    }
}

static bool adapt(work *w, const anovl_result *r) {
    size_t n = w->tiles * w->patches * w->E, rows = w->tiles > 1 ? w->E : w->t->count, steps = w->o->steps;
    anovl_problem p = {w->tiles, w->patches, w->E, r->gh, r->gw, w->x, w->t->pair, w->tiles > 1 ? NULL : w->t->all, rows,
                       w->o->side, r->shift};
    rng random = rng_start(w->o->seed, 0xA40);
    float bound = 1 / sqrtf((float)w->E);
    real *W = arena_alloc(w->memory, rows * w->E, sizeof *W), *b = arena_alloc(w->memory, rows, sizeof *b),
          *noise = arena_alloc(w->memory, steps * n, sizeof *noise), *out = arena_alloc(w->memory, n, sizeof *out);
    if (!W || !b || !noise || !out) return no_room(w);
    for (size_t i = 0; i < rows * w->E; i++) W[i] = rng_range(&random, -bound, bound);
    for (size_t i = 0; i < rows; i++) b[i] = rng_range(&random, -bound, bound);
    draw_noise(&random, noise, steps * n, .055);
    if (!anovl_adapt(&p, W, b, noise, steps, w->memory, w->cores, NULL, w->e) ||
        !anovl_adapted(&p, W, b, w->memory, w->cores, out, w->e))
        return false;
    memcpy(w->x, out, n * sizeof *out);
    return true;
}

/* Columns first.. of pixels [3,h,w] (upright: rows), as a square [3,side,side]. */
static void cut_tile(const real *pixels, size_t h, size_t w, size_t side, size_t first, bool upright, real *out) {
    for (size_t i = 0; i < 3 * side * side; i++) {
        size_t y = i / side % side, x = i % side;
        out[i] = pixels[i / (side * side) * h * w + (y + (upright ? first : 0)) * w + x + (upright ? 0 : first)];
    }
}

/* The square, or two tiles of the picture with its shorter side at `side`. */
static bool take_pixels(work *w, const picture *photo, anovl_result *r) {
    const clip_config *c = &w->m->config;
    size_t side = w->o->side, wide = side, high = side, numbers = 3 * side * side;
    r->upright = photo->height > photo->width;
    if (w->tiles > 1) {
        size_t longer = r->upright ? photo->height : photo->width, shorter = r->upright ? photo->width : photo->height;
        size_t across = (size_t)((double)side * (double)longer / (double)shorter);
        if (across > 2 * side)
            return err_set(w->e, "a picture of %zu x %zu pixels found, two tiles cover one at most twice as long as wide",
                           photo->width, photo->height);
        *(r->upright ? &high : &wide) = across;
        r->shift = across - side;
    }
    real *all = pixels_bilinear(photo, wide, high, c->mean, c->std, w->e);
    if (!all) return false;
    w->pixels = arena_alloc(w->memory, w->tiles * numbers, sizeof *w->pixels);
    for (size_t i = 0; w->pixels && i < w->tiles; i++)
        cut_tile(all, high, wide, side, i * r->shift, r->upright, w->pixels + i * numbers);
    mem_free(all);
    return w->pixels || no_room(w);
}

/* Tiles one below the other are the same problem with the picture turned over its diagonal. */
static void swap_axes(real *x, size_t gh, size_t gw, size_t E, real *room) {
    for (size_t i = 0; i < gh * gw; i++) memcpy(room + (i % gw * gh + i / gw) * E, x + i * E, E * sizeof *x);
    memcpy(x, room, gh * gw * E * sizeof *x);
}

static bool measure(work *w, const picture *photo, anovl_result *r) {
    size_t numbers = 3 * w->o->side * w->o->side;
    if (!clip_grid(&w->m->config, w->o->side, w->o->side, &r->gh, &r->gw))
        return err_set(w->e, "--size: %zu found, a multiple of the model's patch, %zu, expected", w->o->side, w->m->config.patch);
    w->patches = r->gh * r->gw;
    if (!take_pixels(w, photo, r)) return false;
    size_t each = w->patches * w->E;
    w->seen = arena_alloc(w->memory, numbers, sizeof(real)), w->class_token = arena_alloc(w->memory, w->E, sizeof(real)),
    w->x = arena_alloc(w->memory, w->tiles * each, sizeof(real));
    real *room = arena_alloc(w->memory, each, sizeof(real));
    r->grid = mem_alloc(w->tiles * w->patches, sizeof *r->grid);
    if (!w->seen || !w->class_token || !w->x || !room || !r->grid) return no_room(w);
    bool turn = w->tiles > 1 && r->upright;
    if (!score(w, &r->score)) return false;
    for (size_t i = 0; turn && i < w->tiles; i++) swap_axes(w->x + i * each, r->gh, r->gw, w->E, room);
    if (w->o->steps && !adapt(w, r)) return false;
    for (size_t i = 0; turn && i < w->tiles; i++) swap_axes(w->x + i * each, r->gw, r->gh, w->E, room);
    anovl_shares(w->x, w->tiles * w->patches, w->E, w->t->pair, r->grid);
    return true;
}

bool anovl_measure(const clip_model *m, const anovl_texts *t, const picture *photo, const anovl_options *o, arena *memory,
                   pool *cores, anovl_result *r, err *e) {
    work w = {.m = m, .t = t, .o = o, .memory = memory, .cores = cores, .e = e, .E = m->config.embed, .tiles = o->tiled ? 2 : 1};
    size_t mark = arena_mark(memory);
    *r = (anovl_result){.side = o->side};
    bool ok = measure(&w, photo, r);
    arena_reset(memory, mark);
    if (!ok) anovl_free(r);
    return ok;
}

void anovl_sides(const anovl_result *r, size_t *h, size_t *w) {
    *h = r->side + (r->upright ? r->shift : 0), *w = r->side + (r->upright ? 0 : r->shift);
}

/* Two tiles: pixel by pixel, the mean where both lie. */
bool anovl_whole_map(const anovl_result *r, real *out) {
    size_t side = r->side, h, w;
    anovl_sides(r, &h, &w);
    if (h == side && w == side && !r->shift) return anovl_map(r->grid, r->gh, r->gw, out, side, side), true;
    real *tile = mem_alloc(2 * side * side, sizeof *tile);
    if (!tile) return false;
    for (size_t i = 0; i < 2; i++) anovl_map(r->grid + i * r->gh * r->gw, r->gh, r->gw, tile + i * side * side, side, side);
    for (size_t i = 0; i < h * w; i++) {
        size_t y = i / w, x = i % w, along = r->upright ? y : x, over = r->upright ? x : y;
        double sum = 0, n = 0;
        for (size_t k = 0; k < 2; k++) {
            size_t first = k * r->shift;
            if (along < first || along >= first + side) continue;
            size_t at = r->upright ? (along - first) * side + over : over * side + along - first;
            sum += (double)tile[k * side * side + at], n += 1;
        }
        out[i] = (real)(sum / n);
    }
    mem_free(tile);
    return true;
}

void anovl_free(anovl_result *r) {
    mem_free(r->grid);
    r->grid = NULL;
}
