/* clip_resnet.c - a ResNet's convolutions as products (see clip.h; MODEL.md 1.21).
 *
 * Cells lie as rows of channels, [h*w, C], so that a 1x1 convolution is a product as it stands. A 3x3 one is sixteen, of
 * tiles of 4x4 cells (Winograd; Lavin and Gray 2015), or one product of rows that hold nine cells each, where it has a
 * stride. Batch norm with running statistics is a factor and a shift of the convolution's results, taken into its kernel
 * and a bias. Nothing here is recorded: explainers begin at the cells.
 */
#include "clip.h"
#include <math.h>
#include <string.h>
#include "simd.h"

typedef struct {
    real *x; /* [h*w, C] */
    size_t h, w, C;
} cells;

static real *take(ag_tape *t, size_t rows, size_t cols) {
    ag_tensor *x = ag_new(t, 1, rows, cols);
    return x ? x->data : NULL;
}

enum {
    WIDE = GEMM_GROUP, /* outputs of a panel: what a product's tile has beside each other */
    PARTS = 16,        /* products of a convolution by tiles: one for each of 4x4 */
    CHANNELS = 32,     /* of a kernel, put in order at a time */
    TAPS = 9
};

/* ---- kernels ------------------------------------------------------------------------------------------------------- */
/* (1.21a)  kernel times f = gamma/sqrt(var + eps), bias = beta - mean f; in panels [O/WIDE][parts][C or 9C][WIDE] */
typedef enum { POINT, NINE, TILED } conv_kind; /* 1x1; rows of nine cells; tiles of 4x4 cells */
typedef struct {
    const clip_conv_weights *w;
    clip_conv at;
    conv_kind kind;
    const real *gamma, *beta, *mean, *variance;
    real *kernel, *bias; /* [panels][panel], [panels][WIDE] */
    size_t panel;        /* its numbers */
} folding;

/* Some outputs' numbers beside each other, each times its factor: first close together, which compilers turn in registers. */
enum { BESIDE = 8 };
SIMD_LOCAL static void turn_rows(real (*restrict rows)[CHANNELS * TAPS], const real *restrict factor, size_t count,
                                 real *restrict to) {
    real close[CHANNELS * TAPS * BESIDE];
#pragma omp simd
    for (size_t i = 0; i < count; i++)
        for (size_t r = 0; r < BESIDE; r++) close[i * BESIDE + r] = factor[r] * rows[r][i];
    for (size_t i = 0; i < count; i++) memcpy(to + i * WIDE, close + i * BESIDE, BESIDE * sizeof *to);
}

/* taps of some channels, [WIDE][count] -> [count][WIDE] */
static void turn(const folding *f, size_t first, size_t from, size_t count, const real *factor, real *to) {
    const clip_weight *w = &f->w->kernel;
    real rows[BESIDE][CHANNELS * TAPS];
    for (size_t j = 0; j < WIDE; j += BESIDE) {
        for (size_t r = 0; r < BESIDE; r++) {
            if (first + j + r < f->at.out) clip_numbers(w, (first + j + r) * w->cols + from, count, rows[r]);
            else memset(rows[r], 0, sizeof rows[r]);
        }
        turn_rows(rows, factor + j, count, to + j);
    }
}

/* (1.21b)  U = G g G^T of one channel's nine taps g: G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1] */
SIMD_LOCAL static void tile_kernel(const real *g, real *to, size_t apart) {
#pragma omp simd
    for (size_t j = 0; j < WIDE; j++) {
        real half[4][3];
        UNROLLED
        for (size_t x = 0; x < 3; x++) {
            real a = g[x * WIDE + j], b = g[(3 + x) * WIDE + j], c = g[(6 + x) * WIDE + j];
            half[0][x] = a, half[1][x] = (a + b + c) * (real)0.5, half[2][x] = (a - b + c) * (real)0.5, half[3][x] = c;
        }
        UNROLLED
        for (size_t y = 0; y < 4; y++) {
            real a = half[y][0], b = half[y][1], c = half[y][2], *row = to + 4 * y * apart + j;
            row[0] = a, row[apart] = (a + b + c) * (real)0.5, row[2 * apart] = (a - b + c) * (real)0.5, row[3 * apart] = c;
        }
    }
}

static void fold_panel(const folding *f, size_t panel, real *to) {
    size_t taps = f->at.side * f->at.side, C = f->at.in, first = panel * WIDE;
    real factor[WIDE] = {0}, turned[CHANNELS * TAPS * WIDE];
    for (size_t j = 0; j < WIDE; j++) {
        size_t o = first + j;
        if (o < f->at.out) factor[j] = f->gamma[o] / (real)sqrt((double)f->variance[o] + 1e-5);
        f->bias[o] = o < f->at.out ? f->beta[o] - f->mean[o] * factor[j] : 0;
    }
    for (size_t c = 0, most = CHANNELS * TAPS / taps; c < C; c += most) {
        size_t some = C - c < most ? C - c : most;
        turn(f, first, c * taps, some * taps, factor, f->kind == POINT ? to + c * WIDE : turned);
        for (size_t i = 0; i < some && f->kind == TILED; i++) tile_kernel(turned + i * TAPS * WIDE, to + (c + i) * WIDE, C * WIDE);
        for (size_t i = 0; i < some * TAPS && f->kind == NINE; i++)
            memcpy(to + (i % TAPS * C + c + i / TAPS) * WIDE, turned + i * WIDE, WIDE * sizeof *to);
    }
}

static void fold_one(void *arg, size_t panel) {
    const folding *f = arg;
    fold_panel(f, panel, f->kernel + panel * f->panel);
}

/* all: of all panels now */
static bool fold(ag_tape *t, const clip_conv_weights *w, folding *f, bool all) {
    ag_tensor *gamma = clip_use(t, &w->gamma), *beta = clip_use(t, &w->beta);
    ag_tensor *mean = clip_use(t, &w->mean), *variance = clip_use(t, &w->variance);
    if (!gamma || !beta || !mean || !variance || !f->kernel || !f->bias) return false;
    f->w = w, f->gamma = gamma->data, f->beta = beta->data, f->mean = mean->data, f->variance = variance->data;
    if (all) spread(t->cores, (f->at.out + WIDE - 1) / WIDE, fold_one, f);
    return true;
}

/* ---- a convolution ----------------------------------------------------------------------------------------------------- */
/* Its rows are cut into blocks, its outputs into panels; each core takes its share of the pairs. */
typedef struct {
    const cells *in;
    cells out;
    const folding *f;
    const real *beside, *nothing; /* beside: added before the relu; NULL: nothing. nothing: [C] zeros */
    real *room; /* of a core: what is multiplied, [parts][rows][depth], and sums, [parts][rows][WIDE] */
    size_t stride, parts, depth, lanes;
    size_t rows, each, blocks, most, panels; /* each: rows of a block; the last one has the rest, the most */
    conv_kind kind;
    bool relu;
} convolution;
typedef struct { size_t first, count; } block;

/* The cell at (y,x), zeros outside; y and x wrap below 0: too large. */
static const real *cell(const convolution *v, size_t y, size_t x) {
    const cells *in = v->in;
    return y < in->h && x < in->w ? in->x + (y * in->w + x) * in->C : v->nothing;
}

/* (1.21c)  V = B^T d B of 4x4 cells d, channel by channel: B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1] */
SIMD_LOCAL static void tile_cells(const real *const *d, size_t C, real *to, size_t apart) {
#pragma omp simd
    for (size_t c = 0; c < C; c++) {
        real half[4][4];
        UNROLLED
        for (size_t x = 0; x < 4; x++) {
            real p = d[x][c], q = d[4 + x][c], r = d[8 + x][c], s = d[12 + x][c];
            half[0][x] = p - r, half[1][x] = q + r, half[2][x] = r - q, half[3][x] = q - s;
        }
        UNROLLED
        for (size_t y = 0; y < 4; y++) {
            real p = half[y][0], q = half[y][1], r = half[y][2], s = half[y][3], *row = to + 4 * y * apart + c;
            row[0] = p - r, row[apart] = q + r, row[2 * apart] = r - q, row[3 * apart] = q - s;
        }
    }
}

/* (1.21d)  Y = A^T M A, and the bias: [parts 4x4] -> 2x2 cells of a panel's outputs: A^T = [1 1 1 0; 0 1 -1 -1] */
SIMD_LOCAL static void tile_sums(const real *m, size_t apart, const real *bias, bool relu, real *to) {
#pragma omp simd
    for (size_t j = 0; j < WIDE; j++) {
        real half[2][4];
        UNROLLED
        for (size_t x = 0; x < 4; x++) {
            real p = m[x * apart + j], q = m[(4 + x) * apart + j], r = m[(8 + x) * apart + j], s = m[(12 + x) * apart + j];
            half[0][x] = p + q + r, half[1][x] = q - r - s;
        }
        UNROLLED
        for (size_t y = 0; y < 2; y++) {
            real p = half[y][0] + half[y][1] + half[y][2] + bias[j], q = half[y][1] - half[y][2] - half[y][3] + bias[j];
            to[2 * y * WIDE + j] = relu && p < 0 ? 0 : p;
            to[(2 * y + 1) * WIDE + j] = relu && q < 0 ? 0 : q; /* NaN stays NaN */
        }
    }
}

static size_t tiles_across(const cells *of) { return (of->w + 1) / 2; }

/* What is multiplied: a lane's rows [parts][count][depth]. */
static void gather(const convolution *v, block b, real *rows) {
    size_t C = v->in->C, across = tiles_across(v->in);
    for (size_t i = 0; i < b.count && v->kind == NINE; i++) {
        size_t y = (b.first + i) / v->out.w * v->stride, x = (b.first + i) % v->out.w * v->stride;
        for (size_t k = 0; k < TAPS; k++)
            memcpy(rows + i * v->depth + k * C, cell(v, y + k / 3 - 1, x + k % 3 - 1), C * sizeof *rows);
    }
    for (size_t i = 0; i < b.count && v->kind == TILED; i++) {
        const real *d[PARTS];
        size_t y = (b.first + i) / across * 2, x = (b.first + i) % across * 2;
        for (size_t k = 0; k < PARTS; k++) d[k] = cell(v, y + k / 4 - 1, x + k % 4 - 1);
        tile_cells(d, C, rows + i * v->depth, b.count * v->depth);
    }
}

/* Rows' sums [count][WIDE] with bias and what stands beside; n of WIDE are there. */
SIMD_LOCAL static void finish_rows(const real *sums, size_t count, const real *bias, const real *beside, bool relu, real *out,
                                   size_t n, size_t row) {
    for (size_t i = 0; i < count; i++, sums += WIDE, out += row) {
#pragma omp simd
        for (size_t j = 0; j < n; j++) {
            real y = sums[j] + bias[j] + (beside ? beside[i * row + j] : 0);
            out[j] = relu && y < 0 ? 0 : y; /* NaN stays NaN */
        }
    }
}

/* sums [parts][count][WIDE] of a panel -> its place among the outputs */
static void finish(const convolution *v, block b, size_t panel, const real *sums) {
    const cells *out = &v->out;
    size_t first = panel * WIDE, n = out->C - first < WIDE ? out->C - first : WIDE, across = tiles_across(out);
    if (v->kind != TILED) {
        size_t at = b.first * out->C + first;
        finish_rows(sums, b.count, v->f->bias + first, v->beside ? v->beside + at : NULL, v->relu, out->x + at, n, out->C);
        return;
    }
    for (size_t i = 0; i < b.count; i++) {
        real four[4 * WIDE];
        size_t y = (b.first + i) / across * 2, x = (b.first + i) % across * 2;
        tile_sums(sums + i * WIDE, b.count * WIDE, v->f->bias + first, v->relu, four);
        for (size_t k = 0; k < 4; k++)
            if (y + k / 2 < out->h && x + k % 2 < out->w)
                memcpy(out->x + ((y + k / 2) * out->w + x + k % 2) * out->C + first, four + k * WIDE, n * sizeof(real));
    }
}

static void convolve_lane(void *arg, size_t lane) {
    const convolution *v = arg;
    size_t pairs = v->blocks * v->panels, gathered = v->blocks, part = v->depth * WIDE;
    real *rows = v->room + lane * v->most * v->parts * (v->depth + WIDE), *sums = rows + v->most * v->parts * v->depth;
    for (size_t i = pairs * lane / v->lanes; i < pairs * (lane + 1) / v->lanes; i++) {
        size_t at = i / v->panels, panel = i % v->panels;
        block b = {at * v->each, at + 1 < v->blocks ? v->each : v->rows - at * v->each};
        real *kernel = v->f->kernel + (v->blocks == 1 ? lane : panel) * v->f->panel;
        if (v->blocks == 1) fold_panel(v->f, panel, kernel); /* it is used at once, out of the core's cache */
        if (at != gathered) gather(v, b, rows);
        gathered = at;
        const real *x = v->kind == POINT ? v->in->x + b.first * v->depth : rows;
        for (size_t k = 0; k < v->parts; k++)
            gemm_group(b.count, v->depth, x + k * b.count * v->depth, v->depth, 1, kernel + k * part, false,
                       sums + k * b.count * WIDE);
        finish(v, b, panel, sums);
    }
}

/* Blocks of whole tiles of the product (12 rows, 6, 4), whose rows stay in a core's cache. One, if they are few and the panels
 * are enough for the cores. */
enum { BLOCK_NUMBERS = 96 * 1024, BLOCK_ROWS = 192, TILE_ROWS = 12, FEW = 5 * BLOCK_NUMBERS };
static void cut(convolution *v) {
    size_t fit = BLOCK_NUMBERS / (v->parts * v->depth);
    v->each = (fit > BLOCK_ROWS ? BLOCK_ROWS : fit < TILE_ROWS ? TILE_ROWS : fit) / TILE_ROWS * TILE_ROWS;
    bool few = v->parts * v->rows * v->depth <= FEW && v->panels >= 4 * v->lanes;
    v->blocks = few || v->rows < v->each ? 1 : v->rows / v->each;
    v->most = v->rows - (v->blocks - 1) * v->each;
}

/* in -> out: a convolution with its batch norm, relu where asked for; out->x is the caller's, or taken. */
static bool convolve(ag_tape *t, const clip_model *m, size_t index, const cells *in, size_t stride, const real *beside,
                     bool relu, cells *out) {
    clip_conv at = clip_conv_at(&m->config, index);
    conv_kind kind = at.side == 1 ? POINT : stride == 1 && !beside ? TILED : NINE;
    size_t panels = (at.out + WIDE - 1) / WIDE, lanes = t->cores ? t->cores->width : 1;
    *out = (cells){out->x, (in->h - 1) / stride + 1, (in->w - 1) / stride + 1, at.out};
    if (!out->x) out->x = take(t, out->h * out->w, at.out);
    ag_mark mark = ag_tape_mark(t);
    convolution v = {.in = in, .out = *out, .beside = beside, .relu = relu, .stride = stride, .kind = kind, .lanes = lanes,
                     .panels = panels, .parts = kind == TILED ? PARTS : 1, .depth = kind == NINE ? TAPS * at.in : at.in,
                     .rows = kind == TILED ? (out->h + 1) / 2 * tiles_across(out) : out->h * out->w};
    cut(&v);
    folding f = {.at = at, .kind = kind, .bias = take(t, panels, WIDE), .panel = v.parts * v.depth * WIDE};
    f.kernel = take(t, v.blocks == 1 ? lanes : panels, f.panel);
    real *nothing = take(t, 1, at.in);
    v.room = take(t, lanes * v.most, v.parts * (v.depth + WIDE));
    if (!out->x || !nothing || !v.room || !fold(t, &m->convs[index], &f, v.blocks > 1)) return false;
    memset(nothing, 0, at.in * sizeof *nothing);
    v.f = &f, v.nothing = nothing;
    spread(t->cores, lanes, convolve_lane, &v);
    ag_tape_reset(t, mark);
    return true;
}

/* ---- the network ------------------------------------------------------------------------------------------------------- */
/* Mean over 2x2 cells; an odd side's last is left out, as PyTorch does. */
typedef struct { const cells *in, *out; } halving;
static void halve_row(void *arg, size_t y) {
    const cells *in = ((const halving *)arg)->in, *out = ((const halving *)arg)->out;
    for (size_t x = 0; x < out->w; x++) {
        const real *a = in->x + (2 * y * in->w + 2 * x) * in->C, *b = a + in->w * in->C;
        real *to = out->x + (y * out->w + x) * in->C;
        for (size_t c = 0; c < in->C; c++) to[c] = (a[c] + a[in->C + c] + b[c] + b[in->C + c]) * (real)0.25;
    }
}

/* out->x is the caller's, or taken. */
static bool halve(ag_tape *t, const cells *in, cells *out) {
    *out = (cells){out->x ? out->x : take(t, in->h / 2 * (in->w / 2), in->C), in->h / 2, in->w / 2, in->C};
    if (out->x) spread(t->cores, out->h, halve_row, &(halving){in, out});
    return out->x != NULL;
}

/* 1x1 - 3x3 - mean over the stride - 1x1, beside it the input (or its own 1x1), relu of the sum */
static bool bottleneck(ag_tape *t, const clip_model *m, size_t index, bool beside, bool shrink, const cells *in,
                       real *out, cells *result) {
    cells a = {0}, b = {0}, c = {0}, small = {0}, side = *in;
    *result = (cells){.x = out};
    if (!convolve(t, m, index, in, 1, NULL, true, &a) || !convolve(t, m, index + 1, &a, 1, NULL, true, &b)) return false;
    if (shrink && (!halve(t, &b, &c) || !halve(t, in, &small))) return false;
    if (beside) {
        side = (cells){0};
        if (!convolve(t, m, index + 3, shrink ? &small : in, 1, NULL, false, &side)) return false;
    }
    return convolve(t, m, index + 2, shrink ? &c : &b, 1, side.x, true, result);
}

/* Pixels out of the patches' order: [3 planes of p*p, patch by patch] -> rows of channels. */
typedef struct { const real *patches; real *out; size_t gw, p; } unpatching;
static void pixels_of_row(void *arg, size_t row) {
    const unpatching *u = arg;
    const real *from = u->patches + row * u->gw * 3 * u->p * u->p;
    for (size_t patch = 0; patch < u->gw; patch++)
        for (size_t c = 0; c < 3; c++)
            for (size_t y = 0; y < u->p; y++, from += u->p) {
                real *to = u->out + (((row * u->p + y) * u->gw + patch) * u->p) * 3 + c;
                for (size_t x = 0; x < u->p; x++) to[3 * x] = from[x];
            }
}

/* The stem: 3x3 convolutions of strides 2, 1, 1, then halved into x. */
static bool stem(ag_tape *t, const clip_model *m, const cells *pixels, cells *x) {
    cells a = {0}, b = {0}, c = {0};
    return convolve(t, m, 0, pixels, 2, NULL, true, &a) && convolve(t, m, 1, &a, 1, NULL, true, &b) &&
           convolve(t, m, 2, &b, 1, NULL, true, &c) && halve(t, &c, x);
}

static bool trunk(ag_tape *t, const clip_model *m, const real *patches, size_t gh, size_t gw, real *out) {
    const clip_config *c = &m->config;
    size_t p = c->patch, h = gh * p, w = gw * p, wide = c->vision.width / 32 * 4, index = 3;
    /* two buffers, by turns: the widest cells are stage 1's */
    real *room[2] = {take(t, h / 4 * (w / 4), wide), take(t, h / 4 * (w / 4), wide)};
    if (!room[0] || !room[1]) return false;
    ag_mark mark = ag_tape_mark(t);
    cells pixels = {take(t, h * w, 3), h, w, 3}, x = {.x = room[0]}, y;
    if (!pixels.x) return false;
    spread(t->cores, gh, pixels_of_row, &(unpatching){patches, pixels.x, gw, p});
    if (!stem(t, m, &pixels, &x)) return false;
    ag_tape_reset(t, mark);
    for (size_t s = 0; s < 4; s++)
        for (size_t b = 0; b < c->resnet[s]; b++) {
            bool last = s == 3 && b + 1 == c->resnet[s];
            if (!bottleneck(t, m, index, b == 0, s > 0 && b == 0, &x, last ? out : x.x == room[0] ? room[1] : room[0], &y))
                return false;
            x = y;
            index += b ? 3 : 4;
            ag_tape_reset(t, mark);
        }
    return true;
}

ag_tensor *clip_resnet(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw) {
    if (!patches) return NULL;
    size_t each = patches->rows * patches->cols, D = m->config.vision.width;
    ag_tensor *out = ag_new(t, patches->batch, gh * gw, D);
    for (size_t b = 0; out && b < patches->batch; b++) {
        ag_mark mark = ag_tape_mark(t);
        bool on = t->recording, ok;
        t->recording = false;
        ok = trunk(t, m, patches->data + b * each, gh, gw, out->data + b * gh * gw * D);
        t->recording = on;
        if (!ok) return NULL;
        ag_tape_reset(t, mark);
    }
    return out;
}
