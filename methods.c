/* methods.c - the explainers (see methods.h; formulas and sources: MODEL.md, "Explainers"). */
#include "methods.h"
#include <math.h>
#include <string.h>

enum { TAPE_NODES = 16384 };

/* ---- the list -------------------------------------------------------------------------------------- */
static const method METHODS[] = {
    {"legrad", "relu of the score's gradient by attention, each layer alone", "LeGrad, eq. 5-8", FAMILY_LEGRAD, 2},
    {"attention", "how the pooled token attends in the last layer, no text", "DINO, fig. 1", FAMILY_ATTENTION, 1},
    {"rollout", "attention multiplied through the layers, no text", "Abnar & Zuidema 2020, sec. 3", FAMILY_ATTENTION, 0},
    {"gradcam", "heads weighted by their mean gradient", "Chefer et al., generate_cam_attn", FAMILY_GRADIENT, 1},
    {"chefer", "relu(gradient x attention) propagated through the layers", "Transformer-MM-Explainability, eq. 5-6",
     FAMILY_GRADIENT, 1},
    {"similarity", "cosine of patch and text", "raw CLIP", FAMILY_FEATURES, 0},
    {"maskclip", "values instead of attention in the last block", "MaskCLIP, sec. 3.2", FAMILY_FEATURES, 1},
    {"surgery", "a second path of v-v attention, redundant features removed", "CLIP Surgery, eq. 3-8", FAMILY_FEATURES, 6},
    {"sclip", "q-q plus k-k attention in the last block", "SCLIP, eq. 4", FAMILY_FEATURES, 1},
    {"clearclip", "q-q attention, no residual, no MLP", "ClearCLIP, eq. 6", FAMILY_FEATURES, 1},
    {"gem", "normalised self-self attention of q, k and v, a second path", "GEM, eq. 4-6", FAMILY_FEATURES, 6},
    {"naclip", "k-k attention pulled to the neighbourhood, no residual, no MLP", "NACLIP, eq. 5-7", FAMILY_FEATURES, 1},
};

size_t method_count(void) { return sizeof METHODS / sizeof *METHODS; }
const method *method_at(size_t i) { return i < method_count() ? &METHODS[i] : NULL; }
const method *method_find(const char *name) {
    for (size_t i = 0; i < method_count(); i++)
        if (strcmp(METHODS[i].name, name) == 0) return &METHODS[i];
    return NULL;
}
static bool is(const method *how, const char *name) { return strcmp(how->name, name) == 0; }

/* ---- features: the attention that takes the place of softmax(q k^T / sqrt d) ---------------------------- */
typedef struct { /* one block, ready for an attention of its own */
    ag_tape *t;
    const clip_tower *tower;
    ag_tensor *y;       /* [1,n,D] LN1(x) */
    ag_tensor *q, *k, *v;
    size_t gh, gw;
    real factor;        /* 1/sqrt(d) */
} head_inputs;

static ag_tensor *self_attention(const head_inputs *in, ag_tensor *a) { /* softmax(a a^T / sqrt d) */
    return ag_softmax(in->t, ag_scores(in->t, a, a, in->tower->heads, in->factor), false);
}

static ag_tensor *attend_vv(const head_inputs *in) { return self_attention(in, in->v); }
static ag_tensor *attend_qq(const head_inputs *in) { return self_attention(in, in->q); }

static ag_tensor *attend_qq_kk(const head_inputs *in) { /* SCLIP eq. 4: the sum, not the mean */
    return ag_add(in->t, self_attention(in, in->q), self_attention(in, in->k));
}

/* NACLIP eq. 6: omega_ij = exp(-|i-j|^2 / (2 sigma^2)) between patches, 0 to and from the class token; sigma 5 */
static ag_tensor *neighbourhood(const head_inputs *in) {
    size_t g = in->gh * in->gw, n = g + 1;
    ag_tensor *omega = ag_new(in->t, 1, n, n);
    if (!omega) return NULL;
    memset(omega->data, 0, n * n * sizeof(real));
    for (size_t i = 0; i < g; i++)
        for (size_t j = 0; j < g; j++) {
            double dy = (double)(i / in->gw) - (double)(j / in->gw), dx = (double)(i % in->gw) - (double)(j % in->gw);
            omega->data[(1 + i) * n + 1 + j] = (real)exp(-(dy * dy + dx * dx) / (2 * 5.0 * 5.0));
        }
    return omega;
}

static ag_tensor *attend_kk_near(const head_inputs *in) {
    ag_tensor *logits = ag_scores(in->t, in->k, in->k, in->tower->heads, in->factor);
    return ag_softmax(in->t, ag_add(in->t, logits, neighbourhood(in)), false);
}

/* Every head's part of every token to unit length. */
static ag_tensor *unit_heads(const head_inputs *in, ag_tensor *a) {
    if (!a) return NULL;
    size_t n = a->rows, D = a->cols, H = in->tower->heads;
    return ag_reshape(in->t, ag_normalize(in->t, ag_reshape(in->t, a, n, H, D / H)), 1, n, D);
}

/* GEM eq. 4-5: a <- softmax(tau a a^T) a once, a of unit length per head, then its attention; tau is the mean length
 * of the tokens / sqrt(d) */
static ag_tensor *gem_of(const head_inputs *in, ag_tensor *a, real tau) {
    size_t H = in->tower->heads;
    a = unit_heads(in, a);
    a = ag_mix(in->t, ag_softmax(in->t, ag_scores(in->t, a, a, H, tau), false), NO_T, a, H, 1);
    a = unit_heads(in, a);
    return ag_softmax(in->t, ag_scores(in->t, a, a, H, tau), false);
}

static ag_tensor *attend_gem(const head_inputs *in) {
    if (!in->y) return NULL;
    double length = 0;
    for (size_t i = 0; i < in->y->rows; i++) {
        const real *row = in->y->data + i * in->y->cols;
        length += sqrt((double)k_dot(row, row, in->y->cols));
    }
    real tau = (real)(length / (double)in->y->rows) * in->factor;
    ag_tensor *sum = ag_add(in->t, gem_of(in, in->q, tau), gem_of(in, in->k, tau));
    return ag_scale(in->t, ag_add(in->t, sum, gem_of(in, in->v, tau)), (real)(1.0 / 3), 0);
}

/* ---- features: the recipes ------------------------------------------------------------------------------ */
typedef struct {
    const char *name;
    ag_tensor *(*attend)(const head_inputs *); /* NULL: every token attends to itself alone */
    bool chain;    /* the second path starts as the first block's input, and each block adds to it; else: at zero */
    bool residual; /* each block adds its input too */
    bool mlp;      /* ... and its MLP */
    position_resize position;
} recipe;

static const recipe RECIPES[] = {
    {"similarity", NULL, true, false, false, POSITION_BICUBIC}, /* no block is changed */
    {"maskclip", NULL, false, true, true, POSITION_BICUBIC},
    {"surgery", attend_vv, true, false, false, POSITION_BILINEAR},
    {"sclip", attend_qq_kk, false, true, true, POSITION_BICUBIC},
    {"clearclip", attend_qq, false, false, false, POSITION_BICUBIC},
    {"gem", attend_gem, true, false, false, POSITION_BICUBIC},
    {"naclip", attend_kk_near, false, false, false, POSITION_BICUBIC},
};

static const recipe *recipe_of(const method *how) {
    for (size_t i = 0; i < sizeof RECIPES / sizeof *RECIPES; i++)
        if (is(how, RECIPES[i].name)) return &RECIPES[i];
    return NULL;
}

/* What one changed block adds to the second path, from the plain path's x [1,n,D]. */
static ag_tensor *second_path(explainer *x, const recipe *r, const clip_block_weights *w, ag_tensor *in) {
    const clip_tower *tower = &x->model->config.vision;
    ag_tape *t = &x->tape;
    head_inputs h = {.t = t, .tower = tower, .gh = x->gh, .gw = x->gw};
    h.factor = (real)(1 / sqrt((double)(tower->width / tower->heads)));
    clip_qkv(t, tower, w, in, &h.q, &h.k, &h.v);
    if (r->attend == attend_gem)
        h.y = ag_layernorm(t, in, clip_use(t, &w->ln1_gamma), clip_use(t, &w->ln1_beta), tower->eps);
    ag_tensor *mixed = r->attend ? ag_mix(t, r->attend(&h), NO_T, h.v, tower->heads, 1) : h.v;
    ag_tensor *y = ag_linear(t, mixed, clip_use(t, &w->out), clip_use(t, &w->out_bias));
    if (r->residual) y = ag_add(t, in, y);
    if (r->mlp) y = ag_add(t, y, clip_mlp(t, tower, w, x->model->config.act_vision, y, NULL));
    return y;
}

/* plain and second [1,n,D] walk through the last blocks side by side, in place. */
static bool walk_both(explainer *x, const recipe *r, ag_tensor *plain, ag_tensor *second) {
    size_t layers = x->model->config.vision.layers, numbers = ag_size(plain);
    for (size_t i = layers - x->blocks; i < layers; i++) {
        ag_mark mark = ag_tape_mark(&x->tape);
        ag_tensor *add = second_path(x, r, &x->model->blocks[i], plain);
        if (!add) return false;
        k_axpy(1, add->data, second->data, numbers);
        ag_tape_reset(&x->tape, mark);
        ag_tensor *next = clip_blocks(&x->tape, x->model, plain, i, i + 1);
        if (!next) return false;
        memcpy(plain->data, next->data, numbers * sizeof(real));
        ag_tape_reset(&x->tape, mark);
    }
    return true;
}

static bool open_features(explainer *x, ag_tensor *patches) {
    const recipe *r = recipe_of(x->how);
    size_t E = x->model->config.embed, D = x->model->config.vision.width;
    ag_tensor *kept = ag_new(&x->tape, 1, x->n, E);
    ag_mark mark = ag_tape_mark(&x->tape);
    ag_tensor *in = clip_embed(&x->tape, x->model, patches, x->gh, x->gw, r->position);
    ag_tensor *plain = clip_blocks(&x->tape, x->model, in, 0, x->model->config.vision.layers - x->blocks);
    ag_tensor *second = ag_new(&x->tape, 1, x->n, D);
    if (!kept || !plain || !second) return false;
    if (r->chain) memcpy(second->data, plain->data, x->n * D * sizeof(real));
    else memset(second->data, 0, x->n * D * sizeof(real));
    if (!walk_both(x, r, plain, second)) return false;
    memcpy(second->data, plain->data, D * sizeof(real)); /* the class token */
    ag_tensor *out = clip_project(&x->tape, x->model, second);
    if (!out) return false;
    memcpy(kept->data, out->data, x->n * E * sizeof(real));
    x->tokens = kept->data;
    ag_tape_reset(&x->tape, mark);
    return true;
}

/* ---- features: tokens and texts -> grids ------------------------------------------------------------------ */
/* CLIP Surgery eq. 7-8: w = softmax_c(2 cls.t_c) / its mean; S_ic = w_c F_i.t_c - mean_c'(w_c' F_i.t_c') */
static void feature_surgery(real *cosine, size_t cells, size_t texts) { /* [1+cells,texts], row 0 the class token */
    real *w = cosine, mean = 1 / (real)texts;
    for (size_t c = 0; c < texts; c++) w[c] *= 2;
    k_softmax(w, w, 1, texts, false);
    for (size_t i = 1; i <= cells; i++) {
        real *row = cosine + i * texts, redundant = 0;
        for (size_t c = 0; c < texts; c++) {
            row[c] *= w[c] / mean;
            redundant += row[c] * mean;
        }
        for (size_t c = 0; c < texts; c++) row[c] -= redundant;
    }
}

static bool feature_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids) {
    size_t E = x->model->config.embed, cells = x->n - 1;
    bool surgery = is(x->how, "surgery");
    if (surgery && count == 1 && !empty)
        return fault_set(&x->tape.fault, FAULT_RANGE, "texts beside the empty one", (size_t[]){1, 2, SIZE_MAX}, 3);
    ag_tensor *F = ag_normalize(&x->tape, ag_constant(&x->tape, x->tokens, 1, x->n, E));
    ag_tensor *t = ag_constant(&x->tape, texts, 1, count, E);
    if (surgery && count == 1) t = ag_sub(&x->tape, t, ag_constant(&x->tape, empty, 1, 1, E)); /* F.(t - t_empty) */
    ag_tensor *cosine = ag_matmul(&x->tape, F, NO_T, t, T); /* [n,count] */
    if (!cosine) return false;
    if (surgery && count > 1) feature_surgery(cosine->data, cells, count);
    for (size_t c = 0; c < count; c++)
        for (size_t i = 0; i < cells; i++) grids[c * cells + i] = cosine->data[(1 + i) * count + c];
    return true;
}

/* ---- attention and gradient: the last layers with their A in hand -------------------------------------------- */
static bool open_attention(explainer *x, ag_tensor *patches, bool with_gradient) {
    const clip_model *m = x->model;
    size_t layers = m->config.vision.layers, first = layers - x->blocks;
    ag_tape *t = &x->tape;
    x->A = arena_alloc(x->memory, x->blocks, sizeof *x->A);
    if (!x->A)
        return fault_set(&t->fault, FAULT_MEMORY, "layers",
                         (size_t[]){x->blocks * sizeof *x->A, arena_left(x->memory), x->memory->size}, 3);
    ag_tensor *in = clip_embed(t, m, patches, x->gh, x->gw, POSITION_BICUBIC);
    in = clip_blocks(t, m, in, 0, first);
    t->recording = with_gradient;
    for (size_t i = first; i < layers; i++) { /* nothing below the first A is wanted: it is cut off there */
        clip_taps taps = {0};
        in = clip_block(t, &m->config.vision, &m->blocks[i], m->config.act_vision, false, in, &taps,
                        with_gradient && i == first);
        x->A[i - first] = taps.A;
    }
    x->z_unit = with_gradient ? ag_normalize(t, clip_head(t, m, in)) : in;
    return x->z_unit != NULL;
}

/* The row of the token that the model pools: the class token's, or the mean of all. A [b,n,n] -> [1,b,n] */
static ag_tensor *pooled_row(explainer *x, ag_tensor *A) {
    ag_tape *t = &x->tape;
    if (!A) return NULL;
    if (x->model->config.pool == CLIP_POOL_MEAN)
        return ag_reshape(t, ag_scale(t, ag_fit(t, A, A->batch, 1, x->n), 1 / (real)x->n, 0), 1, A->batch, x->n);
    uint32_t *rows = arena_alloc(x->memory, A->batch, sizeof *rows);
    if (!rows) {
        fault_set(&t->fault, FAULT_MEMORY, "rows", (size_t[]){A->batch * sizeof *rows, arena_left(x->memory), 0}, 3);
        return NULL;
    }
    for (size_t b = 0; b < A->batch; b++) rows[b] = (uint32_t)(b * x->n);
    return ag_rows(t, A, rows, A->batch);
}

/* [1,1,n] -> the patches' part as [1,gh,gw] */
static ag_tensor *as_grid(explainer *x, ag_tensor *row) {
    ag_tape *t = &x->tape;
    uint32_t *cells = arena_alloc(x->memory, x->n - 1, sizeof *cells);
    if (!cells) return NULL;
    for (size_t i = 0; i + 1 < x->n; i++) cells[i] = (uint32_t)(i + 1);
    return ag_reshape(t, ag_rows(t, ag_reshape(t, row, 1, x->n, 1), cells, x->n - 1), 1, x->gh, x->gw);
}

static ag_tensor *mean_heads(explainer *x, ag_tensor *A) { /* [H,n,n] -> [1,n,n] */
    return A ? ag_scale(&x->tape, ag_fit(&x->tape, A, 1, x->n, x->n), 1 / (real)A->batch, 0) : NULL;
}

static ag_tensor *start_row(explainer *x) { /* the pooled token's row of the identity, [1,1,n] */
    ag_tensor *r = ag_new(&x->tape, 1, 1, x->n);
    bool mean = x->model->config.pool == CLIP_POOL_MEAN;
    for (size_t i = 0; r && i < x->n; i++) r->data[i] = mean ? 1 / (real)x->n : i == 0;
    return r;
}

/* rollout: the row of prod_l (A_l/2 + I/2), A_l the mean over heads, last layer leftmost */
static ag_tensor *rollout(explainer *x) {
    ag_tape *t = &x->tape;
    ag_tensor *r = start_row(x);
    for (size_t l = x->blocks; l-- > 0;) {
        ag_tensor *through = ag_matmul(t, r, NO_T, mean_heads(x, x->A[l]), NO_T);
        r = ag_scale(t, ag_add(t, r, through), (real)0.5, 0);
    }
    return r;
}

static ag_tensor *attention_grid(explainer *x) {
    bool roll = is(x->how, "rollout");
    return as_grid(x, roll ? rollout(x) : pooled_row(x, mean_heads(x, x->A[x->blocks - 1])));
}

/* ---- gradient ----------------------------------------------------------------------------------------------- */
/* GradCAM on attention: w_h = mean_j G^h_0j over patches, cam_j = relu(mean_h w_h A^h_0j) */
static ag_tensor *gradcam(explainer *x, ag_tensor *A) {
    ag_tape *t = &x->tape;
    ag_tensor *patches = ag_new(t, 1, 1, x->n), *a = pooled_row(x, A), *g = pooled_row(x, A ? A->grad : NULL);
    if (!patches || !a || !g) return NULL;
    for (size_t i = 0; i < x->n; i++) patches->data[i] = i > 0;
    ag_tensor *w = ag_scale(t, ag_fit(t, ag_mul(t, g, patches), 1, g->rows, 1), 1 / (real)(x->n - 1), 0);
    ag_tensor *sum = ag_fit(t, ag_mul(t, a, w), 1, 1, x->n);
    return ag_relu(t, ag_scale(t, sum, 1 / (real)a->rows, 0));
}

/* C_l = mean_h relu(G^h . A^h) */
static ag_tensor *relevance(explainer *x, ag_tensor *A) {
    return A ? mean_heads(x, ag_relu(&x->tape, ag_mul(&x->tape, A, A->grad))) : NULL;
}

/* chefer: R <- R + C_l R from the first layer up, read along the pooled row: r <- r + r C_l from the last down.
 * rollout weighted by the gradient: the same with the rows of I + C_l made to sum to 1. */
static ag_tensor *propagate(explainer *x, bool rows_to_one) {
    ag_tape *t = &x->tape;
    ag_tensor *r = start_row(x);
    for (size_t l = x->blocks; l-- > 0;) {
        ag_tensor *C = relevance(x, x->A[l]);
        if (rows_to_one) {
            ag_tensor *length = ag_reshape(t, ag_scale(t, ag_fit(t, C, 1, x->n, 1), 1, 1), 1, 1, x->n);
            r = ag_mul(t, r, ag_pow(t, length, -1));
        }
        r = ag_add(t, r, ag_matmul(t, r, NO_T, C, NO_T));
    }
    return r;
}

ag_tensor *method_tape_grid(explainer *x, const char *name, ag_tensor *e_unit, int flags) {
    ag_tensor *score = ag_dot(&x->tape, e_unit, x->z_unit);
    if (!score || !ag_grad(&x->tape, score, NULL, x->A, x->blocks, flags)) return NULL;
    bool on = x->tape.recording;
    if (!(flags & AG_DIFFERENTIABLE)) x->tape.recording = false;
    ag_tensor *row = strcmp(name, "gradcam") == 0 ? gradcam(x, x->A[x->blocks - 1])
                                                  : propagate(x, strcmp(name, "rollout") == 0);
    ag_tensor *grid = as_grid(x, row);
    x->tape.recording = on;
    return grid;
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */
static bool open_legrad(explainer *x, const real *pixels, fault *f) {
    explain_options o = {.layers = x->blocks, .gradient = GRADIENT_FACTORED};
    return explain_open(&x->legrad, x->model, pixels, x->height, x->width, &o, x->memory, x->cores, f);
}

bool method_open(explainer *x, const method *how, const clip_model *m, const real *pixels, size_t height, size_t width,
                 const method_options *o, arena *memory, pool *cores, fault *f) {
    size_t p = m->config.patch, layers = m->config.vision.layers, asked = o ? o->blocks : 0;
    *x = (explainer){.how = how, .model = m, .memory = memory, .cores = cores, .height = height, .width = width,
                     .gh = height / p, .gw = width / p, .n = 1 + (height / p) * (width / p)};
    size_t own = how->blocks ? how->blocks : how->family == FAMILY_FEATURES ? 0 : layers;
    if (asked > layers) return fault_set(f, FAULT_RANGE, "blocks", (size_t[]){asked, 1, layers}, 3);
    x->blocks = asked ? asked : own < layers ? own : layers; /* a model with fewer layers has all of them changed */
    if (is(how, "similarity")) x->blocks = 0;
    if (how->family == FAMILY_LEGRAD) return open_legrad(x, pixels, f);
    bool ok = ag_tape_init(&x->tape, memory, cores, how->family == FAMILY_GRADIENT ? TAPE_NODES : 1);
    x->tape.recording = false;
    ag_tensor *patches = ok ? clip_patches(&x->tape, m, pixels, height, width) : NULL;
    if (patches && how->family == FAMILY_FEATURES) ok = open_features(x, patches);
    else if (patches) ok = open_attention(x, patches, how->family == FAMILY_GRADIENT);
    if (x->tape.fault.code) *f = x->tape.fault;
    return ok && x->tape.fault.code == FAULT_NONE;
}

static bool each_grid(explainer *x, const real *texts, size_t count, real *grids) {
    size_t E = x->model->config.embed, cells = x->n - 1;
    for (size_t c = 0; c < count; c++) {
        ag_mark mark = ag_tape_mark(&x->tape);
        ag_tensor *e = x->how->family == FAMILY_GRADIENT ? ag_constant(&x->tape, texts + c * E, 1, 1, E) : NULL;
        ag_tensor *grid = e ? method_tape_grid(x, x->how->name, e, 0) : attention_grid(x);
        if (!grid) return false;
        memcpy(grids + c * cells, grid->data, cells * sizeof(real));
        ag_tape_reset(&x->tape, mark);
    }
    return true;
}

bool method_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids, fault *f) {
    size_t E = x->model->config.embed, cells = x->n - 1;
    if (x->how->family == FAMILY_LEGRAD) {
        for (size_t c = 0; c < count; c++)
            if (!explain_grid(&x->legrad, texts + c * E, grids + c * cells, f)) return false;
        return true;
    }
    ag_mark mark = ag_tape_mark(&x->tape);
    bool ok = x->how->family == FAMILY_FEATURES ? feature_grids(x, texts, count, empty, grids)
                                                : each_grid(x, texts, count, grids);
    if (x->tape.fault.code) *f = x->tape.fault;
    x->tape.fault.code = FAULT_NONE;
    ag_tape_reset(&x->tape, mark);
    return ok;
}

/* CLIP Surgery's code takes min-max on the grid and then enlarges; the others enlarge first. */
static bool map_of_unit_grid(explainer *x, const real *grid, real *map, fault *f) {
    size_t cells = x->n - 1, mark = arena_mark(x->memory);
    real low = grid[0], high = grid[0], *unit = arena_alloc(x->memory, cells, sizeof *unit);
    for (size_t i = 1; i < cells; i++) {
        low = grid[i] < low ? grid[i] : low;
        high = grid[i] > high ? grid[i] : high;
    }
    if (!unit) return fault_set(f, FAULT_MEMORY, "map", (size_t[]){cells * sizeof *unit, arena_left(x->memory), 0}, 3);
    bool ok = high > low || fault_set(f, FAULT_FLAT, "map", (size_t[]){x->blocks}, 1);
    for (size_t i = 0; ok && i < cells; i++) unit[i] = (grid[i] - low) / (high - low);
    lerp y, w;
    ok = ok && lerp_make(&y, x->gh, x->height, x->memory, f) && lerp_make(&w, x->gw, x->width, x->memory, f);
    if (ok) lerp_apply(&y, &w, unit, map);
    arena_reset(x->memory, mark);
    return ok;
}

bool method_map(explainer *x, const real *grid, real *map, fault *f) {
    if (is(x->how, "surgery")) return map_of_unit_grid(x, grid, map, f);
    return map_from_grid(grid, x->gh, x->gw, x->model->config.patch, x->blocks, map, x->memory, f);
}
