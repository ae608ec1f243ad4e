/* clip_image.c - from pixels to an embedding (see clip.h). Equations: MODEL.md 1.
 *
 * Read it downwards: pixels -> patches -> tokens, then (clip_block.c) the blocks, then the ways in which families pool.
 */
#include "clip.h"
#include <math.h>
#include <string.h>

/* ---- pixels -> patches --------------------------------------------------------------------------- */
/* The convolution of kernel = stride = patch is a product of these rows with W_patch (1.1). A ResNet's patches are but a
 * way to hold its pixels. */
ag_tensor *clip_patches_alpha(ag_tape *t, const clip_model *m, const real *pixels, const real *alpha, size_t height,
                              size_t width) {
    size_t p = m->config.patch, gh, gw, planes = m->config.alpha ? 4 : 3;
    const real whole = (real)((1 - 0.5) / 0.26); /* (1.15) */
    if (!clip_grid(&m->config, height, width, &gh, &gw)) {
        fault_set(&t->fault, FAULT_SHAPE, "patches", (size_t[]){3, height, width, 3, p, p}, 6);
        return NULL;
    }
    ag_tensor *x = ag_new(t, 1, gh * gw, planes * p * p);
    if (!x) return NULL;
    real *row = x->data;
    for (size_t y = 0; y < gh; y++)
        for (size_t q = 0; q < gw; q++)
            for (size_t c = 0; c < planes; c++)
                for (size_t i = 0; i < p; i++, row += p) {
                    size_t at = (y * p + i) * width + q * p;
                    if (c < 3) memcpy(row, pixels + c * height * width + at, p * sizeof *row);
                    else if (alpha) memcpy(row, alpha + at, p * sizeof *row);
                    else for (size_t k = 0; k < p; k++) row[k] = whole;
                }
    return x;
}

ag_tensor *clip_patches(ag_tape *t, const clip_model *m, const real *pixels, size_t height, size_t width) {
    return clip_patches_alpha(t, m, pixels, NULL, height, width);
}

/* ---- position embedding --------------------------------------------------------------------------- */
static double cubic_of(double x, double a) { /* Keys' kernel */
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return a * (((x - 5) * x + 8) * x - 4);
    return 0;
}
static double cubic(double x) { return cubic_of(x, -0.5); }

/* (1.2)  x = (i + 1/2) in/(out + more) - 1/2, four taps clamped at the border; more is 0.1 in NACLIP's and its relatives' code. */
static size_t clamped_taps(size_t in, size_t out, double more, size_t i, size_t *first, real *w) {
    double x = ((double)i + 0.5) * (double)in / ((double)out + more) - 0.5;
    long at = (long)floor(x), low = at - 1 < 0 ? 0 : at - 1, last = at + 2 < (long)in ? at + 2 : (long)in - 1;
    if (low > (long)in - 1) low = (long)in - 1;
    for (long j = low; j <= last; j++) w[j - low] = 0;
    for (long k = at - 1; k <= at + 2; k++) {
        long j = k < low ? low : k > last ? last : k;
        w[j - low] += (real)cubic_of(x - (double)k, -0.75);
    }
    *first = (size_t)low;
    return (size_t)(last - low + 1);
}

/* (1.2)  Output cell i of `out` reads input cells *first.. of `in` with weights w; returns their number (<= in). */
static size_t resize_taps(size_t in, size_t out, size_t i, position_resize how, size_t *first, real *w) {
    if (how == POSITION_CLAMPED || how == POSITION_CUBIC) return clamped_taps(in, out, how == POSITION_CUBIC ? 0 : 0.1, i, first, w);
    double scale = (double)in / (double)out, centre = ((double)i + 0.5) * scale, sum = 0;
    if (how == POSITION_BILINEAR) { /* not antialiased */
        double x = centre - 0.5 < 0 ? 0 : centre - 0.5;
        *first = (size_t)x;
        w[1] = (real)(x - (double)*first);
        w[0] = 1 - w[1];
        if (*first + 1 < in) return 2;
        w[0] = 1; /* the last cell has no neighbour */
        return 1;
    }
    double stretch = scale > 1 ? scale : 1, low = centre - 2 * stretch + 0.5, high = centre + 2 * stretch + 0.5;
    size_t from = low < 0 ? 0 : (size_t)low, to = (size_t)high < in ? (size_t)high : in;
    for (size_t j = from; j < to; j++) sum += cubic(((double)j - centre + 0.5) / stretch);
    for (size_t j = from; j < to; j++) w[j - from] = (real)(cubic(((double)j - centre + 0.5) / stretch) / sum);
    *first = from;
    return to - from;
}

/* in [.., n, stride] -> out [.., m, stride] along the middle dimension, `outer` times */
static void resize_axis(const real *in, real *out, size_t outer, size_t n, size_t m, size_t stride, position_resize how,
                        real *w) {
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < m; i++) {
            size_t first, taps = resize_taps(n, m, i, how, &first, w);
            real *row = out + (o * m + i) * stride;
            memset(row, 0, stride * sizeof *row);
            for (size_t j = 0; j < taps; j++) k_axpy(w[j], in + (o * n + first + j) * stride, row, stride);
        }
}

ag_tensor *clip_position(ag_tape *t, const clip_model *m, size_t gh, size_t gw, position_resize how) {
    size_t g = m->config.image / m->config.patch, D = m->config.vision.width, first = clip_first(&m->config);
    if (clip_is_resnet(&m->config)) how = POSITION_BILINEAR; /* only CLIP Surgery runs them at another size */
    if (gh == g && gw == g) return clip_use(t, &m->position);
    ag_tensor *out = ag_new(t, 1, first + gh * gw, D);
    ag_mark mark = ag_tape_mark(t);
    ag_tensor *own = clip_use(t, &m->position), *wide = ag_new(t, g, gw, D);
    real *w = arena_alloc(t->memory, g + 4, sizeof *w);
    if (!out || !own || !wide || !w) {
        fault_memory(&t->fault, "position", t->memory, (g + 4) * sizeof *w);
        return NULL;
    }
    memcpy(out->data, own->data, first * D * sizeof(real)); /* the class token's stays */
    resize_axis(own->data + first * D, wide->data, g, g, gw, D, how, w);
    resize_axis(wide->data, out->data + first * D, 1, g, gh, gw * D, how, w);
    ag_tape_reset(t, mark);
    return out;
}

/* ---- patches -> tokens ---------------------------------------------------------------------------- */
/* W_patch [D,3pp] with the alpha plane's [D,pp] beside it: one product for both (1.15). */
static ag_tensor *patch_weight(ag_tape *t, const clip_model *m) {
    ag_tensor *w = clip_use(t, &m->patch), *a = clip_use(t, &m->patch_alpha);
    if (!w || !a) return NULL;
    size_t all = w->cols + a->cols;
    return ag_add(t, ag_between(t, w, 0, all), ag_between(t, a, w->cols, all));
}

/* Patches [B,g,D] below `first` rows of zeros: [B,first+g,D] */
static ag_tensor *below_class(ag_tape *t, ag_tensor *x, size_t first) {
    if (!x || !first) return x;
    size_t B = x->batch, g = x->rows;
    uint32_t *rows = clip_index(t, B * g);
    if (!rows) return NULL;
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < g; i++) rows[b * g + i] = (uint32_t)(b * (g + first) + first + i);
    return ag_scatter_rows(t, x, rows, B, g + first);
}

/* The cells' mean stands before them, as the query of (1.14). [B,g,D] -> [B,1+g,D] */
static ag_tensor *mean_and_cells(ag_tape *t, ag_tensor *cells) {
    if (!cells) return NULL;
    uint32_t *zero = clip_index(t, cells->batch);
    if (!zero) return NULL;
    for (size_t b = 0; b < cells->batch; b++) zero[b] = (uint32_t)(b * (cells->rows + 1));
    ag_tensor *mean = ag_scale(t, ag_fit(t, cells, cells->batch, 1, cells->cols), 1 / (real)cells->rows, 0);
    return ag_add(t, below_class(t, cells, 1), ag_scatter_rows(t, mean, zero, cells->batch, cells->rows + 1));
}

ag_tensor *clip_cells(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw) {
    return mean_and_cells(t, clip_resnet(t, m, patches, gh, gw));
}

/* (1.1)  tokens = LN_pre([class; W_patch patches] + position) */
ag_tensor *clip_embed(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw, position_resize how) {
    if (!patches) return NULL;
    size_t first = clip_first(&m->config), n = first + gh * gw;
    uint32_t *zero = clip_index(t, 1);
    if (!zero) return NULL;
    zero[0] = 0;
    ag_tensor *position = clip_position(t, m, gh, gw, how);
    if (clip_is_resnet(&m->config)) return ag_add(t, clip_cells(t, m, patches, gh, gw), position);
    ag_tensor *x = m->config.alpha ? ag_linear(t, patches, patch_weight(t, m), clip_use(t, &m->patch_bias))
                                   : clip_linear(t, &m->patch, &m->patch_bias, patches);
    x = below_class(t, x, first);
    ag_tensor *start = position;
    if (first) start = ag_add(t, ag_scatter_rows(t, clip_use(t, &m->class_token), zero, 1, n), position);
    return clip_norm(t, &m->pre_gamma, &m->pre_beta, m->config.vision.eps, ag_add(t, x, start));
}

/* (1.20)  pair i of a head's first half turns by y·10000^(-i/(d/4)), of its second by x (PE-Core: x first), where
 * coordinates run over `side` cells whatever the grid, so that positions stretch with it. [1,gh*gw,d]: cos, sin a pair */
static ag_tensor *rotary(ag_tape *t, const clip_model *m, size_t gh, size_t gw) {
    const clip_config *c = &m->config;
    size_t d = c->vision.width / c->vision.heads, quarter = d / 4;
    ag_tensor *turn = ag_new(t, 1, gh * gw, d);
    for (size_t cell = 0; turn && cell < gh * gw; cell++) {
        double y = ((double)(cell / gw) + (double)c->rope.offset) / (double)gh * (double)c->rope.side;
        double x = ((double)(cell % gw) + (double)c->rope.offset) / (double)gw * (double)c->rope.side;
        for (size_t half = 0; half < 2; half++)
            for (size_t i = 0; i < quarter; i++) {
                double along = (half == 0) == c->rope.x_first ? x : y;
                double angle = along * pow(10000, -(double)i / (double)quarter);
                real *pair = turn->data + cell * d + half * 2 * quarter + 2 * i;
                pair[0] = (real)cos(angle);
                pair[1] = (real)sin(angle);
            }
    }
    return turn;
}

clip_run clip_image_run(ag_tape *t, const clip_model *m, size_t gh, size_t gw) {
    clip_run run = {.tower = &m->config.vision, .act = m->config.act_vision, .first = clip_first(&m->config)};
    if (m->config.rope.side) run.turn = rotary(t, m, gh, gw);
    return run;
}

/* ---- the pooler: an attention of its own ------------------------------------------------------------- */
/* (1.12)-(1.14)  A = softmax(q k^T/sqrt d), y = W_o concat_h(A^h v^h) + b_o; a probe's y goes through an MLP too */
ag_tensor *clip_pooled(ag_tape *t, const clip_model *m, ag_tensor *x, size_t rows, clip_taps *taps, bool cut) {
    const clip_config *c = &m->config;
    const clip_block_weights *w = m->pooler;
    clip_run run = {.tower = &c->pooler, .act = c->act_pooler};
    clip_taps local, *p = taps ? taps : &local;
    if (!x) return NULL;
    p->x0 = cut ? ag_detach(t, x) : x;
    ag_tensor *asks = c->pool == CLIP_POOL_CELLS ? ag_some_rows(t, p->x0, 0, rows) : clip_use(t, &m->query);
    asks = clip_norm(t, &w->ln1_gamma, &w->ln1_beta, c->pooler.eps, asks);
    ag_tensor *seen = clip_norm(t, &w->other_gamma, &w->other_beta, c->pooler.eps, p->x0);
    p->q = clip_linear(t, &w->q, &w->q_bias, asks);
    if (c->pool != CLIP_POOL_CELLS) /* every picture is asked the same */
        p->q = ag_fit(t, ag_some_rows(t, p->q, 0, rows), x->batch, rows, c->pooler.width);
    p->k = clip_linear(t, &w->k, &w->k_bias, seen);
    p->v = clip_linear(t, &w->v, &w->v_bias, seen);
    p->A = clip_attention(t, &run, p->q, p->k);
    if (cut) p->A = ag_cut(t, p->A);
    p->mixed = ag_mix(t, p->A, NO_T, p->v, c->pooler.heads, 1);
    p->x1 = clip_merge(t, &run, w, p->mixed, taps);
    return p->x2 = c->pool == CLIP_POOL_PROBE ? ag_add(t, p->x1, clip_mlp(t, &run, w, p->x1, taps)) : p->x1;
}

/* ---- the head: tokens -> embedding ------------------------------------------------------------------ */
ag_tensor *clip_proj(ag_tape *t, const clip_model *m, ag_tensor *x) {
    return m->config.no_proj ? x : clip_linear(t, &m->proj, &m->proj_bias, x);
}

static ag_tensor *post(ag_tape *t, const clip_model *m, ag_tensor *x) {
    bool queries = m->config.pool == CLIP_POOL_QUERIES;
    return clip_norm(t, &m->post_gamma, &m->post_beta, queries ? m->config.pooler.eps : m->config.vision.eps, x);
}

ag_tensor *clip_project(ag_tape *t, const clip_model *m, ag_tensor *x) { return clip_proj(t, m, post(t, m, x)); }

/* The mean of the patches of each picture. */
static ag_tensor *patches_mean(ag_tape *t, const clip_model *m, ag_tensor *x) {
    size_t first = clip_first(&m->config), g = x->rows - first;
    return ag_scale(t, ag_fit(t, ag_some_rows(t, x, first, g), x->batch, 1, x->cols), 1 / (real)g, 0);
}

ag_tensor *clip_head_taps(ag_tape *t, const clip_model *m, ag_tensor *x, clip_taps *taps, bool cut) {
    if (!x) return NULL;
    switch (m->config.pool) {
    case CLIP_POOL_MEAN: /* (1.10) */
        return clip_project(t, m, ag_scale(t, ag_fit(t, x, x->batch, 1, x->cols), 1 / (real)x->rows, 0));
    case CLIP_POOL_PATCHES: /* (1.11) */
        return m->config.ln_after_pool ? clip_project(t, m, patches_mean(t, m, x))
                                       : clip_proj(t, m, (x = post(t, m, x)) ? patches_mean(t, m, x) : NULL);
    case CLIP_POOL_PROBE: /* (1.12) */
        return clip_proj(t, m, clip_pooled(t, m, post(t, m, x), 1, taps, cut));
    case CLIP_POOL_QUERIES: /* (1.13): the image's is the first */
        return clip_project(t, m, clip_pooled(t, m, x, 1, taps, cut));
    case CLIP_POOL_CELLS: /* (1.14): its out projection is P */
        return clip_pooled(t, m, x, 1, taps, cut);
    default: /* (1.9) */
        return clip_project(t, m, ag_some_rows(t, x, 0, 1));
    }
}

ag_tensor *clip_head(ag_tape *t, const clip_model *m, ag_tensor *x) { return clip_head_taps(t, m, x, NULL, false); }

ag_tensor *clip_image(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw) {
    clip_run run = clip_image_run(t, m, gh, gw);
    ag_tensor *x = clip_embed(t, m, patches, gh, gw, POSITION_BICUBIC);
    if (m->config.pool != CLIP_POOL_CLASS || !x) return clip_head(t, m, clip_blocks(t, &run, m->blocks, x, 0, m->config.vision.layers));
    uint32_t *first = clip_index(t, x->batch);
    for (size_t b = 0; first && b < x->batch; b++) first[b] = (uint32_t)(b * x->rows);
    return clip_project(t, m, clip_blocks_read(t, &run, m->blocks, x, first)); /* (1.9) */
}

bool clip_image_embed(const clip_model *m, const real *pixels, const real *alpha, size_t height, size_t width, arena *memory,
                      pool *cores, real *out, fault *f) {
    size_t mark = arena_mark(memory), gh, gw;
    ag_tape t = {.recording = false};
    ag_tensor *z = NULL;
    if (!clip_grid(&m->config, height, width, &gh, &gw))
        return fault_set(f, FAULT_SHAPE, "pixels", (size_t[]){3, height, width, m->config.patch, m->config.patch, 1}, 6);
    if (ag_tape_init(&t, memory, cores, 64)) {
        t.recording = false;
        t.alike = true; /* a picture's bytes are those that it has in a batch */
        z = clip_image(&t, m, clip_patches_alpha(&t, m, pixels, alpha, height, width), gh, gw);
    }
    if (z) memcpy(out, z->data, m->config.embed * sizeof *out);
    else *f = t.fault;
    arena_reset(memory, mark);
    return z != NULL;
}
