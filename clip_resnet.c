/* clip_resnet.c - a ResNet's convolutions as products (see clip.h; MODEL.md 1.21).
 *
 * Cells lie as rows of channels, [side*side, C], so that a 1x1 convolution is a product as it stands, and a 3x3 one a
 * product of rows that hold nine cells each. Batch norm with running statistics is a factor and a shift of the
 * convolution's results, taken into its kernel and a bias. Nothing here is recorded: explainers begin at the cells.
 */
#include "clip.h"
#include <math.h>
#include <string.h>

typedef struct {
    real *x; /* [h*w, C] */
    size_t h, w, C;
} cells;

enum { ROWS = 512 }; /* rows of nine cells made at a time, by each core */

static real *take(ag_tape *t, size_t rows, size_t cols) {
    ag_tensor *x = ag_new(t, 1, rows, cols);
    return x ? x->data : NULL;
}

/* (1.21)  kernel [O,k,k,C] times gamma/sqrt(var + eps), bias [O] = beta - mean gamma/sqrt(var + eps) */
enum { FOLDED = 32 }; /* outputs at a time */
typedef struct {
    const clip_conv *at;
    const real *k, *gamma, *beta, *mean, *variance;
    real *kernel, *bias;
} folding;

static void fold_outputs(void *arg, size_t piece) {
    const folding *f = arg;
    size_t taps = f->at->side * f->at->side, C = f->at->in, end = (piece + 1) * FOLDED;
    for (size_t o = piece * FOLDED; o < end && o < f->at->out; o++) {
        const real factor = f->gamma[o] / (real)sqrt((double)f->variance[o] + 1e-5), *k = f->k + o * C * taps;
        real *to = f->kernel + o * taps * C;
        f->bias[o] = f->beta[o] - f->mean[o] * factor;
        for (size_t i = 0; i < taps; i++)
            for (size_t c = 0; c < C; c++) to[i * C + c] = factor * k[c * taps + i];
    }
}

static bool fold(ag_tape *t, const clip_conv_weights *w, const clip_conv *at, real *kernel, real *bias) {
    ag_tensor *k = clip_use(t, &w->kernel), *gamma = clip_use(t, &w->gamma), *beta = clip_use(t, &w->beta);
    ag_tensor *mean = clip_use(t, &w->mean), *variance = clip_use(t, &w->variance);
    if (!k || !gamma || !beta || !mean || !variance) return false;
    folding f = {at, k->data, gamma->data, beta->data, mean->data, variance->data, kernel, bias};
    spread(t->cores, (at->out + FOLDED - 1) / FOLDED, fold_outputs, &f);
    return true;
}

/* Row of nine cells around (y,x), zeros outside. */
static void nine(const cells *in, size_t y, size_t x, real *row) {
    for (size_t dy = 0; dy < 3; dy++)
        for (size_t dx = 0; dx < 3; dx++, row += in->C) {
            size_t iy = y + dy - 1, ix = x + dx - 1; /* wraps below 0: too large */
            if (iy < in->h && ix < in->w) memcpy(row, in->x + (iy * in->w + ix) * in->C, in->C * sizeof *row);
            else memset(row, 0, in->C * sizeof *row);
        }
}

typedef struct {
    const cells *in;
    const real *kernel, *bias, *beside; /* beside: added before the relu; NULL: nothing */
    real *rows, *out;                   /* rows [lanes ROWS, 9C]: of the piece at hand */
    size_t ow, O, stride, taps;
    size_t first, count, each; /* the piece: rows first.. of out, `each` of them a lane */
    bool relu;
} convolution;

/* A lane's rows of nine cells, and the bias below its results. */
static void gather_lane(void *arg, size_t lane) {
    const convolution *v = arg;
    size_t K = v->taps * v->in->C, end = (lane + 1) * v->each < v->count ? (lane + 1) * v->each : v->count;
    for (size_t i = lane * v->each; i < end; i++) {
        size_t at = v->first + i;
        if (v->rows) nine(v->in, at / v->ow * v->stride, at % v->ow * v->stride, v->rows + i * K);
        memcpy(v->out + at * v->O, v->bias, v->O * sizeof(real));
    }
}

static void finish_lane(void *arg, size_t lane) {
    const convolution *v = arg;
    size_t begin = lane * v->each, end = (lane + 1) * v->each < v->count ? (lane + 1) * v->each : v->count;
    size_t from = (v->first + begin) * v->O, n = begin < end ? (end - begin) * v->O : 0;
    real *out = v->out + from;
    for (size_t i = 0; i < n && v->beside; i++) out[i] += v->beside[from + i];
    for (size_t i = 0; i < n && v->relu; i++) out[i] = out[i] < 0 ? 0 : out[i]; /* NaN stays NaN */
}

/* Few rows (the last stages have 196 and 49) are cut by their outputs, many by themselves: gemm_spread knows. */
static void convolve_all(pool *cores, convolution *v, size_t rows, size_t lanes) {
    size_t K = v->taps * v->in->C, pieces = (rows + lanes * ROWS - 1) / (lanes * ROWS), most = (rows + pieces - 1) / pieces;
    for (v->first = 0; v->first < rows; v->first += most) {
        v->count = rows - v->first < most ? rows - v->first : most;
        v->each = (v->count + lanes - 1) / lanes;
        spread(cores, lanes, gather_lane, v);
        gemm_spread(cores, NO_T, T, v->count, v->O, K, 1, v->rows ? v->rows : v->in->x + v->first * K, K, v->kernel, K, 1,
                    v->out + v->first * v->O, v->O);
        if (v->beside || v->relu) spread(cores, lanes, finish_lane, v);
    }
}

/* in -> out: a convolution with its batch norm, relu where asked for; out->x is the caller's, or taken. */
static bool convolve(ag_tape *t, const clip_model *m, size_t index, const cells *in, size_t stride, const real *beside,
                     bool relu, cells *out) {
    clip_conv at = clip_conv_at(&m->config, index);
    size_t taps = at.side * at.side, lanes = t->cores ? t->cores->width : 1;
    *out = (cells){out->x, (in->h - 1) / stride + 1, (in->w - 1) / stride + 1, at.out};
    if (!out->x) out->x = take(t, out->h * out->w, at.out);
    ag_mark mark = ag_tape_mark(t);
    real *kernel = take(t, at.out, taps * at.in), *bias = take(t, 1, at.out);
    real *rows = at.side == 3 ? take(t, lanes * ROWS, taps * at.in) : NULL;
    if (!out->x || !kernel || !bias || (at.side == 3 && !rows) || !fold(t, &m->convs[index], &at, kernel, bias))
        return false;
    convolution v = {.in = in, .kernel = kernel, .bias = bias, .beside = beside, .rows = rows, .out = out->x, .ow = out->w,
                     .O = at.out, .stride = stride, .taps = taps, .relu = relu};
    convolve_all(t->cores, &v, out->h * out->w, lanes);
    ag_tape_reset(t, mark);
    return true;
}

/* Mean over 2x2 cells; an odd side's last is left out, as PyTorch does. */
static bool halve(ag_tape *t, const cells *in, cells *out) {
    *out = (cells){take(t, in->h / 2 * (in->w / 2), in->C), in->h / 2, in->w / 2, in->C};
    for (size_t i = 0; out->x && i < out->h * out->w; i++) {
        const real *a = in->x + (i / out->w * 2 * in->w + i % out->w * 2) * in->C, *b = a + in->w * in->C;
        for (size_t c = 0; c < in->C; c++)
            out->x[i * in->C + c] = (a[c] + a[in->C + c] + b[c] + b[in->C + c]) * (real)0.25;
    }
    return out->x != NULL;
}

/* 1x1 - 3x3 - mean over the stride - 1x1, beside it the input (or its own 1x1), relu of the sum */
static bool bottleneck(ag_tape *t, const clip_model *m, size_t index, bool beside, bool shrink, const cells *in,
                       real *out, cells *result) {
    cells a = {0}, b = {0}, c = {0}, small = *in, side = *in;
    *result = (cells){.x = out};
    if (!convolve(t, m, index, in, 1, NULL, true, &a) || !convolve(t, m, index + 1, &a, 1, NULL, true, &b)) return false;
    c = b;
    if (shrink && (!halve(t, &b, &c) || !halve(t, in, &small))) return false;
    side = small;
    if (beside) {
        side = (cells){0};
        if (!convolve(t, m, index + 3, &small, 1, NULL, false, &side)) return false;
    }
    return convolve(t, m, index + 2, &c, 1, side.x, true, result);
}

/* Pixels out of the patches' order: [3 or 4 planes of p*p, patch by patch] -> rows of channels. */
static void pixels_of(const real *patches, size_t gh, size_t gw, size_t p, size_t planes, real *out) {
    size_t each = planes * p * p, width = gw * p;
    for (size_t i = 0; i < gh * gw * each; i++) {
        size_t patch = i / each, c = i % each / (p * p), y = i % (p * p) / p, x = i % p;
        out[((patch / gw * p + y) * width + patch % gw * p + x) * planes + c] = patches[i];
    }
}

/* The stem: 3x3 convolutions of strides 2, 1, 1, then halved. x ends in memory of its own. */
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
    cells pixels = {take(t, h * w, 3), h, w, 3}, x, y;
    if (!pixels.x) return false;
    pixels_of(patches, gh, gw, p, 3, pixels.x);
    if (!stem(t, m, &pixels, &x)) return false;
    memcpy(room[0], x.x, x.h * x.w * x.C * sizeof(real));
    x.x = room[0];
    ag_tape_reset(t, mark);
    for (size_t s = 0; s < 4; s++)
        for (size_t b = 0; b < c->resnet[s]; b++) {
            if (!bottleneck(t, m, index, b == 0, s > 0 && b == 0, &x, x.x == room[0] ? room[1] : room[0], &y))
                return false;
            x = y;
            index += b ? 3 : 4;
            ag_tape_reset(t, mark);
        }
    memcpy(out, x.x, x.h * x.w * x.C * sizeof(real));
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
