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

enum { ROWS = 512 }; /* rows of nine cells made at a time */

static real *take(ag_tape *t, size_t rows, size_t cols) {
    ag_tensor *x = ag_new(t, 1, rows, cols);
    return x ? x->data : NULL;
}

/* (1.21)  kernel [O,k,k,C] times gamma/sqrt(var + eps), bias [O] = beta - mean gamma/sqrt(var + eps) */
static bool fold(ag_tape *t, const clip_conv_weights *w, const clip_conv *at, real *kernel, real *bias) {
    size_t taps = at->side * at->side, C = at->in;
    ag_tensor *k = clip_use(t, &w->kernel), *gamma = clip_use(t, &w->gamma), *beta = clip_use(t, &w->beta);
    ag_tensor *mean = clip_use(t, &w->mean), *variance = clip_use(t, &w->variance);
    if (!k || !gamma || !beta || !mean || !variance) return false;
    for (size_t o = 0; o < at->out; o++) {
        real factor = gamma->data[o] / (real)sqrt((double)variance->data[o] + 1e-5);
        bias[o] = beta->data[o] - mean->data[o] * factor;
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < taps; i++) kernel[(o * taps + i) * C + c] = factor * k->data[(o * C + c) * taps + i];
    }
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
    real *rows, *out;                   /* rows [lanes, ROWS, 9C] */
    size_t ow, count, O, stride, lanes, taps;
    bool relu;
} convolution;

static void finish(const convolution *v, size_t first, size_t count) {
    real *out = v->out + first * v->O;
    const real *beside = v->beside ? v->beside + first * v->O : NULL;
    for (size_t i = 0; i < count * v->O && beside; i++) out[i] += beside[i];
    for (size_t i = 0; i < count * v->O && v->relu; i++) out[i] = out[i] < 0 ? 0 : out[i]; /* NaN stays NaN */
}

static void convolve_lane(void *arg, size_t lane) {
    const convolution *v = arg;
    size_t K = v->taps * v->in->C;
    real *rows = v->rows ? v->rows + lane * ROWS * K : NULL;
    for (size_t first = lane * ROWS; first < v->count; first += v->lanes * ROWS) {
        size_t count = v->count - first < ROWS ? v->count - first : ROWS;
        for (size_t i = 0; i < count && rows; i++)
            nine(v->in, (first + i) / v->ow * v->stride, (first + i) % v->ow * v->stride, rows + i * K);
        k_fill_rows(v->bias, v->out + first * v->O, count, v->O);
        gemm(NO_T, T, count, v->O, K, 1, rows ? rows : v->in->x + first * K, K, v->kernel, K, 1,
             v->out + first * v->O, v->O);
        finish(v, first, count);
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
    convolution v = {in, kernel, bias, beside, rows, out->x, out->w, out->h * out->w, at.out, stride, lanes, taps, relu};
    spread(t->cores, lanes, convolve_lane, &v);
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
