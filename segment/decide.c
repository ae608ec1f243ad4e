/* decide.c - from cosines at the input's size to a class for every pixel of the photograph (see segment.h; MODEL.md 6.7).
 *
 * p = softmax over the queries of scale * logit, a class's value the largest of its queries', is never written down: one query
 * at a time is enlarged, refined and met with each pixel's best so far, so memory does not grow with the number of names.
 */
#include "segment/segment.h"
#include "kernels.h"
#include <math.h>
#include <string.h>

enum { BAND = 16 };

typedef struct {
    const segmenter *s;
    enlarging up;
    size_t q;            /* the query in hand */
    bool excluded;       /* its class may not win (area threshold) */
    bool again;          /* second time over the queries: top and sum are known */
    real *wide;          /* [h,W] */
    const pamr *refine;  /* NULL: logits stay as they are */
    size_t mask;         /* ... else the query's place among those that are refined side by side */
    real *scratch;       /* [bands, 3, W] */
    real *best;          /* [H,W] the winner's logit */
    real *top, *sum;     /* [H,W] the largest logit, and sum exp(scale (l - top)); sum NULL: nobody asks */
    uint16_t *label;     /* [H,W] */
} decision;

/* sum <- sum exp(scale (top - top')) + exp(scale (l - top')), top' = max(top, l) */
static void add_exponentials(const decision *d, const real *l, real *top, real *sum, real *a, real *b) {
    real scale = (real)d->s->settings.scale;
    size_t W = d->up.ow;
    for (size_t x = 0; x < W; x++) {
        real most = l[x] > top[x] ? l[x] : top[x];
        a[x] = scale * (top[x] - most), b[x] = scale * (l[x] - most);
        top[x] = most;
    }
    k_exp(a, a, W);
    k_exp(b, b, W);
    for (size_t x = 0; x < W; x++) sum[x] = sum[x] * a[x] + b[x];
}

static void meet_row(const decision *d, size_t y, const real *l, real *scratch) {
    size_t W = d->up.ow;
    real *best = d->best + y * W;
    uint16_t *label = d->label + y * W, mine = (uint16_t)d->s->classes->owner[d->q];
    if (!d->excluded)
        for (size_t x = 0; x < W; x++) {
            bool wins = l[x] > best[x] || (l[x] == best[x] && mine < label[x]); /* equal ones: the first class */
            best[x] = wins ? l[x] : best[x];
            label[x] = wins ? mine : label[x];
        }
    if (d->sum && !d->again) add_exponentials(d, l, d->top + y * W, d->sum + y * W, scratch, scratch + W);
}

static void enlarge_band(void *arg, size_t band) { /* to be refined */
    const decision *d = arg;
    for (size_t y = band * BAND; y < d->up.oh && y < (band + 1) * BAND; y++)
        enlarge_row(&d->up, d->wide, y, pamr_row(d->refine, d->mask, y), false);
}

static void meet_band(void *arg, size_t band) {
    const decision *d = arg;
    size_t W = d->up.ow;
    real *scratch = d->scratch + band * 3 * W, *row = scratch + 2 * W;
    for (size_t y = band * BAND; y < d->up.oh && y < (band + 1) * BAND; y++) {
        const real *l = d->refine ? pamr_row(d->refine, d->mask, y) : row;
        if (!d->refine) enlarge_row(&d->up, d->wide, y, row, false);
        meet_row(d, y, l, scratch);
    }
}

/* The next query that is looked at, from q on; their number: none is left. out_class [count]: classes that may not win, or NULL. */
static size_t next_query(decision *d, size_t q, const bool *out_class) {
    const segment_classes *c = d->s->classes;
    for (; q < c->query_count; q++) {
        d->excluded = out_class && out_class[c->owner[q]];
        if (!d->excluded || !d->again) break;
    }
    return d->q = q;
}

/* All queries, one after the other. */
static void meet_all(decision *d, const real *cosines, const bool *out_class, pool *cores) {
    size_t bands = (d->up.oh + BAND - 1) / BAND, input = d->up.h * d->up.w;
    for (size_t q = 0; next_query(d, q, out_class) < d->s->classes->query_count; q = d->q + 1) {
        enlarge_across(&d->up, cosines + d->q * input, d->wide);
        spread(cores, bands, meet_band, d);
    }
}

/* The same with PAMR between, as many side by side as there is room for. */
static void meet_refined(decision *d, pamr *refine, const real *cosines, const bool *out_class, pool *cores) {
    size_t bands = (d->up.oh + BAND - 1) / BAND, input = d->up.h * d->up.w, all = d->s->classes->query_count, query[PAMR_TOGETHER];
    for (size_t q = 0; q < all;) {
        size_t count = 0;
        for (; count < refine->together && (q = next_query(d, q, out_class)) < all; q++) {
            query[d->mask = count++] = q;
            enlarge_across(&d->up, cosines + q * input, d->wide);
            spread(cores, bands, enlarge_band, d);
        }
        pamr_run(refine, count, d->s->settings.pamr);
        for (d->mask = 0; d->mask < count; d->mask++) {
            (void)next_query(d, query[d->mask], out_class);
            spread(cores, bands, meet_band, d);
        }
    }
}

static void meet(decision *d, pamr *refine, const real *cosines, const bool *out_class, pool *cores) {
    size_t pixels = d->up.oh * d->up.ow;
    for (size_t i = 0; i < pixels; i++) d->best[i] = -INFINITY, d->label[i] = 0;
    for (size_t i = 0; d->sum && !d->again && i < pixels; i++) d->top[i] = -INFINITY, d->sum[i] = 0;
    if (refine) meet_refined(d, refine, cosines, out_class, cores);
    else meet_all(d, cosines, out_class, cores);
}

/* (6.31)  Foreground classes with area <= area_thd of all foreground. False: none has a pixel, nothing changes. */
static bool too_small(const decision *d, size_t *area, bool *out_class) {
    size_t pixels = d->up.oh * d->up.ow, count = d->s->classes->count, all = 0, out = 0;
    memset(area, 0, count * sizeof *area);
    for (size_t i = 0; i < pixels; i++) area[d->label[i]]++;
    for (size_t c = 1; c < count; c++) all += area[c];
    for (size_t c = 0; c < count; c++) {
        out_class[c] = c > 0 && !((double)area[c] > d->s->settings.area_thd * (double)all);
        if (out_class[c]) out += area[c];
    }
    return out > 0;
}

/* (6.30), (6.31)  p = exp(scale (best - top)) / sum; a pixel less sure than the threshold is class 0. */
static void be_sure(decision *d, real *sure) {
    const segment_settings *o = &d->s->settings;
    for (size_t i = 0; i < d->up.oh * d->up.ow; i++) {
        double p = exp(o->scale * ((double)d->best[i] - (double)d->top[i])) / (double)d->sum[i];
        sure[i] = (real)p;
        if (p < o->prob_thd) d->label[i] = 0;
    }
}

/* ---- rooms ----------------------------------------------------------------------------------------------------- */
static real *numbers(arena *memory, size_t rows, size_t cols, fault *f) {
    return arena_numbers(memory, rows, cols, "classes of all pixels", f);
}

/* PAMR is guided by the network's input, enlarged like the logits. */
static bool open_pamr(decision *d, const real *pixels, pamr *refine, arena *memory, pool *cores, fault *f) {
    const segment_settings *o = &d->s->settings;
    size_t H = d->up.oh, W = d->up.ow, input = d->up.h * d->up.w;
    real *guide = numbers(memory, 3 * H, W, f);
    if (!guide) return false;
    for (size_t c = 0; c < 3; c++) {
        enlarge_across(&d->up, pixels + c * input, d->wide);
        for (size_t y = 0; y < H; y++) enlarge_row(&d->up, d->wide, y, guide + (c * H + y) * W, false);
    }
    d->refine = refine;
    return pamr_open(refine, guide, 3, H, W, o->dilations, o->dilation_count, d->s->classes->query_count, memory, cores, f);
}

bool segment_decide(const segmenter *s, const real *cosines, const real *pixels, size_t h, size_t w, segmentation *out,
                    arena *memory, pool *cores, fault *f) {
    const segment_settings *o = &s->settings;
    size_t H = out->height, W = out->width, bands = (H + BAND - 1) / BAND, count = s->classes->count;
    bool exponentials = s->sure || o->prob_thd > 0;
    decision d = {.s = s};
    pamr refine;
    d.label = out->label = arena_alloc(memory, H * W, sizeof *d.label);
    out->sure = exponentials ? numbers(memory, H, W, f) : NULL;
    if (!d.label) return fault_memory(f, "classes of all pixels", memory, H * W * sizeof *d.label);
    size_t mark = arena_mark(memory);
    d.best = numbers(memory, H, W, f), d.wide = numbers(memory, h, W, f), d.scratch = numbers(memory, 3 * bands, W, f);
    if (exponentials) d.top = numbers(memory, H, W, f), d.sum = numbers(memory, H, W, f);
    size_t *area = arena_alloc(memory, count, sizeof *area);
    bool *out_class = arena_alloc(memory, count, sizeof *out_class);
    if (!area || !out_class) fault_memory(f, "classes", memory, count * sizeof *area);
    bool ok = f->code == FAULT_NONE && enlarging_make(&d.up, h, w, H, W, memory, f) &&
              (!o->pamr || open_pamr(&d, pixels, &refine, memory, cores, f));
    if (ok) {
        meet(&d, o->pamr ? &refine : NULL, cosines, NULL, cores);
        if (o->area_thd >= 0 && too_small(&d, area, out_class)) {
            d.again = true;
            meet(&d, o->pamr ? &refine : NULL, cosines, out_class, cores);
        }
        if (exponentials) be_sure(&d, out->sure);
    }
    arena_reset(memory, mark);
    return ok;
}
