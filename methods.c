/* methods.c - the explainers (see methods.h; formulas and sources: MODEL.md 6). */
#include "methods.h"
#include <math.h>
#include <string.h>

enum { TAPE_NODES = 16384 };

/* ---- features: the attention that takes the place of softmax(q k^T / sqrt d) ---------------------------- */
ag_tensor *method_self_attention(const head_inputs *in, ag_tensor *a) { /* softmax(a a^T / sqrt d) */
    return ag_softmax(in->t, ag_scores(in->t, a, a, in->tower->heads, in->factor), false);
}

static ag_tensor *attend_vv(const head_inputs *in) { return method_self_attention(in, in->v); }
static ag_tensor *attend_qq(const head_inputs *in) { return method_self_attention(in, in->q); }

static ag_tensor *attend_qq_kk(const head_inputs *in) { /* SCLIP eq. 4: the sum, not the mean */
    return ag_add(in->t, method_self_attention(in, in->q), method_self_attention(in, in->k));
}

/* NACLIP eq. 6: omega_ij = exp(-|i-j|^2 / (2 sigma^2)) between patches, 0 to and from the class token; sigma 5 */
ag_tensor *method_neighbourhood(const head_inputs *in) {
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
    return ag_softmax(in->t, ag_add(in->t, logits, method_neighbourhood(in)), false);
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

/* Picture b of a batch. */
static ag_tensor *picture_of(const head_inputs *in, const ag_tensor *a, size_t b) {
    return a ? ag_constant(in->t, a->data + b * a->rows * a->cols, 1, a->rows, a->cols) : NULL;
}

/* Of one picture: tau is its own. y [n,D] = LN1(x). */
static ag_tensor *gem_attention(const head_inputs *in, const real *y, size_t b) {
    size_t rows = in->x->rows, cols = in->x->cols;
    double length = 0;
    for (size_t i = 0; i < rows; i++) length += sqrt((double)k_dot(y + i * cols, y + i * cols, cols));
    real tau = (real)(length / (double)rows) * in->factor;
    ag_tensor *sum = ag_add(in->t, gem_of(in, picture_of(in, in->q, b), tau), gem_of(in, picture_of(in, in->k, b), tau));
    return ag_scale(in->t, ag_add(in->t, sum, gem_of(in, picture_of(in, in->v, b), tau)), (real)(1.0 / 3), 0);
}

static ag_tensor *attend_gem(const head_inputs *in) {
    ag_tensor *y = in->tower->post_norm ? in->x : clip_norm(in->t, &in->w->ln1_gamma, &in->w->ln1_beta, in->tower->eps, in->x);
    size_t n = in->x->rows, one = in->tower->heads * n * n;
    ag_tensor *all = y ? ag_new(in->t, in->x->batch * in->tower->heads, n, n) : NULL;
    for (size_t b = 0; all && b < in->x->batch; b++) {
        ag_mark mark = ag_tape_mark(in->t);
        ag_tensor *A = gem_attention(in, y->data + b * n * in->x->cols, b);
        if (!A) return NULL;
        memcpy(all->data + b * one, A->data, one * sizeof(real));
        ag_tape_reset(in->t, mark);
    }
    return all;
}

/* ---- features: the second path --------------------------------------------------------------------------- */
head_inputs method_inputs(explainer *x, const clip_block_weights *w, ag_tensor *in) {
    const clip_tower *tower = &x->model->config.vision;
    head_inputs h = {.t = &x->tape, .tower = tower, .w = w, .x = in, .gh = x->gh, .gw = x->gw};
    h.factor = clip_attention_factor(tower);
    clip_qkv(&x->tape, &x->run, w, in, &h.q, &h.k, &h.v);
    return h;
}

method_settings method_defaults(void) {
    return (method_settings){(real)2, (real).3, (real)2.2, (real).7, (real).5, BASE_NACLIP};
}

ag_tensor *method_second_path(explainer *x, const clip_block_weights *w, ag_tensor *in) {
    const method *r = x->how;
    const clip_tower *tower = &x->model->config.vision;
    ag_tape *t = &x->tape;
    head_inputs h = method_inputs(x, w, in);
    ag_tensor *mixed = r->attend ? ag_mix(t, r->attend(&h), NO_T, h.v, tower->heads, 1) : h.v;
    ag_tensor *y = clip_merge(t, &x->run, w, mixed, NULL);
    if (r->residual) y = ag_add(t, in, y);
    if (r->mlp) y = ag_add(t, y, clip_mlp(t, &x->run, w, y, NULL));
    return y;
}

/* plain and second [batch,n,D] walk through the last blocks side by side, in place. */
static bool walk_both(explainer *x, ag_tensor *plain, ag_tensor *second) {
    size_t layers = x->model->config.vision.layers, numbers = ag_size(plain);
    for (size_t i = layers - x->blocks; i < layers; i++) {
        ag_mark mark = ag_tape_mark(&x->tape);
        ag_tensor *add = method_second_path(x, &x->model->blocks[i], plain);
        if (!add) return false;
        k_axpy(1, add->data, second->data, numbers);
        ag_tape_reset(&x->tape, mark);
        if (x->patches_only && i + 1 == layers) break; /* only the image embedding would come of it */
        ag_tensor *next = clip_blocks(&x->tape, &x->run, x->model->blocks, plain, i, i + 1);
        if (!next) return false;
        memcpy(plain->data, next->data, numbers * sizeof(real));
        ag_tape_reset(&x->tape, mark);
    }
    return true;
}

/* What the model pools: its class token, or the mean of all. [n,D] -> [D] */
static void pooled_token(const explainer *x, const real *tokens, real *out) {
    size_t D = x->model->config.vision.width;
    memcpy(out, tokens, D * sizeof(real));
    bool patches = x->model->config.pool == CLIP_POOL_PATCHES; /* without the class token */
    if (x->model->config.pool != CLIP_POOL_MEAN && !patches) return;
    if (patches) memset(out, 0, D * sizeof(real));
    for (size_t i = 1; i < x->n; i++) k_axpy(1, tokens + i * D, out, D);
    for (size_t i = 0; i < D; i++) out[i] /= (real)(patches ? x->n - 1 : x->n);
}

static bool open_features(explainer *x, ag_tensor *patches) {
    const method *r = x->how;
    size_t E = x->model->config.embed, D = x->model->config.vision.width;
    size_t rows = x->batch * x->n;
    ag_tensor *kept = ag_new(&x->tape, x->batch, x->n, E);
    ag_mark mark = ag_tape_mark(&x->tape);
    ag_tensor *in = clip_embed(&x->tape, x->model, patches, x->gh, x->gw, r->position);
    ag_tensor *plain =
        clip_blocks(&x->tape, &x->run, x->model->blocks, in, 0, x->model->config.vision.layers - x->blocks);
    ag_tensor *second = ag_new(&x->tape, x->batch, x->n, D);
    if (!kept || !plain || !second) return false;
    if (r->chain) memcpy(second->data, plain->data, rows * D * sizeof(real));
    else memset(second->data, 0, rows * D * sizeof(real));
    if (!walk_both(x, plain, second)) return false;
    for (size_t b = 0; b < x->batch; b++) pooled_token(x, plain->data + b * x->n * D, second->data + b * x->n * D);
    ag_tensor *out = clip_project(&x->tape, x->model, second);
    if (!out) return false;
    memcpy(kept->data, out->data, rows * E * sizeof(real));
    x->tokens = kept->data;
    ag_tape_reset(&x->tape, mark);
    return true;
}

/* A ResNet's pooler in the blocks' place (6.3, 6.4): F = W_c A v + b_c over [mean; cells], every row its own query; A is
 * CLIP Surgery's softmax(v v^T/sqrt d), or MaskCLIP's I. */
static bool open_cells(explainer *x, ag_tensor *patches) {
    const clip_model *m = x->model;
    const clip_tower *pooler = &m->config.pooler;
    ag_tape *t = &x->tape;
    clip_run run = {.tower = pooler};
    head_inputs h = {.t = t, .tower = pooler, .w = m->pooler, .gh = x->gh, .gw = x->gw};
    ag_tensor *kept = ag_new(t, x->batch, x->n, m->config.embed);
    ag_mark mark = ag_tape_mark(t);
    h.factor = clip_attention_factor(pooler);
    h.x = x->how->cells == CELLS_BARE ? clip_cells(t, m, patches, x->gh, x->gw)
                                      : clip_embed(t, m, patches, x->gh, x->gw, x->how->position);
    h.v = clip_linear(t, &h.w->v, &h.w->v_bias, h.x);
    ag_tensor *mixed = x->how->attend ? ag_mix(t, x->how->attend(&h), NO_T, h.v, pooler->heads, 1) : h.v;
    ag_tensor *out = clip_merge(t, &run, h.w, mixed, NULL);
    if (!kept || !out) return false;
    memcpy(kept->data, out->data, ag_size(kept) * sizeof(real));
    x->tokens = kept->data;
    ag_tape_reset(t, mark);
    return true;
}

/* ---- features: tokens and texts -> grids ------------------------------------------------------------------ */
/* (6.1), CLIP Surgery eq. 7-8: w = softmax_c(2 cls.t_c) / its mean; S_ic = w_c F_i.t_c - mean_c'(w_c' F_i.t_c') */
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

/* F.t of every patch and text, [batch n,count], each picture's class token first. */
static ag_tensor *cosines(explainer *x, ag_tensor *t) {
    ag_tensor *F = ag_normalize(&x->tape, ag_constant(&x->tape, x->tokens, x->batch, x->n, x->model->config.embed));
    return ag_matmul(&x->tape, F, NO_T, t, T);
}

static bool give_grids(const explainer *x, const ag_tensor *cosine, size_t count, real *grids) {
    size_t cells = x->n - 1;
    if (!cosine) return false;
    for (size_t b = 0; b < x->batch; b++)
        for (size_t c = 0; c < count; c++)
            for (size_t i = 0; i < cells; i++) *grids++ = cosine->data[(b * x->n + 1 + i) * count + c];
    return true;
}

bool method_cosine_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids) {
    (void)empty;
    return give_grids(x, cosines(x, ag_constant(&x->tape, texts, 1, count, x->model->config.embed)), count, grids);
}

static bool surgery_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids) {
    size_t E = x->model->config.embed;
    if (count == 1 && !empty)
        return fault_set(&x->tape.fault, FAULT_RANGE, "texts beside the empty one", (size_t[]){1, 2, SIZE_MAX}, 3);
    ag_tensor *t = ag_constant(&x->tape, texts, 1, count, E);
    if (count == 1) t = ag_sub(&x->tape, t, ag_constant(&x->tape, empty, 1, 1, E)); /* (6.2) */
    ag_tensor *cosine = cosines(x, t);
    for (size_t b = 0; cosine && count > 1 && b < x->batch; b++)
        feature_surgery(cosine->data + b * x->n * count, x->n - 1, count);
    return give_grids(x, cosine, count, grids);
}

/* ---- attention and gradient: the last layers with their A in hand -------------------------------------------- */
static bool wants_gradient(const explainer *x) { return x->steered || x->how->family == FAMILY_GRADIENT; }

static bool pools(const explainer *x) { return clip_has_pooler(&x->model->config); }

static ag_tensor *mean_heads(explainer *x, ag_tensor *A) { /* [H,rows,n] -> [1,rows,n] */
    return A ? ag_scale(&x->tape, ag_fit(&x->tape, A, 1, A->rows, x->n), 1 / (real)A->batch, 0) : NULL;
}

/* Recorded from the first A on, which is cut off from what made it; all of it stays. */
static bool record_layers(explainer *x, ag_tensor *in, size_t first) {
    const clip_model *m = x->model;
    ag_tape *t = &x->tape;
    size_t blocks = m->config.vision.layers - first;
    clip_taps pooler = {0};
    t->recording = true;
    for (size_t i = 0; i < blocks; i++) {
        clip_taps taps = {0};
        in = clip_block(t, &x->run, &m->blocks[first + i], in, &taps, i == 0);
        x->A[i] = taps.A;
    }
    x->z = clip_head_taps(t, m, in, &pooler, blocks == 0);
    if (pools(x)) x->A[blocks] = pooler.A;
    x->z_unit = ag_normalize(t, x->z);
    return x->z_unit != NULL;
}

/* Only the heads' mean of each layer stays. */
static bool keep_attention(explainer *x, ag_tensor *in, size_t first) {
    const clip_model *m = x->model;
    ag_tape *t = &x->tape;
    size_t blocks = m->config.vision.layers - first;
    for (size_t i = 0; i < x->blocks; i++) x->A[i] = ag_new(t, 1, i < blocks ? x->n : 1, x->n);
    for (size_t i = 0; i < x->blocks; i++) {
        ag_mark mark = ag_tape_mark(t);
        clip_taps taps = {0};
        ag_tensor *out = i < blocks ? clip_block(t, &x->run, &m->blocks[first + i], in, &taps, false)
                                    : clip_head_taps(t, m, in, &taps, false);
        ag_tensor *mean = mean_heads(x, taps.A);
        if (!out || !mean || !x->A[i]) return false;
        memcpy(x->A[i]->data, mean->data, ag_size(mean) * sizeof(real));
        if (i < blocks) memcpy(in->data, out->data, ag_size(in) * sizeof(real));
        ag_tape_reset(t, mark);
    }
    return true;
}

static bool open_attention(explainer *x, ag_tensor *patches) {
    size_t first = x->model->config.vision.layers + pools(x) - x->blocks; /* a pooler is the last of them */
    ag_tape *t = &x->tape;
    x->A = arena_alloc(x->memory, x->blocks, sizeof *x->A);
    if (!x->A)
        return fault_memory(&t->fault, "layers", x->memory, x->blocks * sizeof *x->A);
    ag_tensor *in = clip_embed(t, x->model, patches, x->gh, x->gw, POSITION_BICUBIC);
    in = clip_blocks(t, &x->run, x->model->blocks, in, 0, first);
    if (!in) return false;
    return wants_gradient(x) ? record_layers(x, in, first) : keep_attention(x, in, first);
}

/* The row of the token that the model pools: the class token's, or the mean of all; a pooler's only one. A [b,rows,n] ->
 * [1,b,n] */
static ag_tensor *pooled_row(explainer *x, ag_tensor *A) {
    ag_tape *t = &x->tape;
    if (!A) return NULL;
    if (A->rows == 1) return ag_reshape(t, A, 1, A->batch, x->n);
    if (x->model->config.pool == CLIP_POOL_MEAN)
        return ag_reshape(t, ag_scale(t, ag_fit(t, A, A->batch, 1, x->n), 1 / (real)x->n, 0), 1, A->batch, x->n);
    ag_tensor *first = ag_reshape(t, ag_some_rows(t, A, 0, 1), 1, A->batch, x->n);
    if (x->model->config.pool != CLIP_POOL_PATCHES || !first) return first;
    ag_tensor *all = ag_reshape(t, ag_fit(t, A, A->batch, 1, x->n), 1, A->batch, x->n); /* but for the class token's */
    return ag_scale(t, ag_sub(t, all, first), 1 / (real)(x->n - 1), 0);
}

/* [1,1,n] -> the patches' part as [1,gh,gw] */
static ag_tensor *as_grid(explainer *x, ag_tensor *row) {
    ag_tape *t = &x->tape;
    size_t cells = x->gh * x->gw;
    return ag_reshape(t, ag_some_rows(t, ag_reshape(t, row, 1, x->n, 1), x->n - cells, cells), 1, x->gh, x->gw);
}

static ag_tensor *unit_row(explainer *x) { /* the pooled token's row of the identity, [1,1,n] */
    ag_tensor *r = ag_new(&x->tape, 1, 1, x->n);
    bool mean = x->model->config.pool == CLIP_POOL_MEAN, patches = x->model->config.pool == CLIP_POOL_PATCHES;
    for (size_t i = 0; r && i < x->n; i++)
        r->data[i] = mean ? 1 / (real)x->n : !patches ? i == 0 : i ? 1 / (real)(x->n - 1) : 0;
    return r;
}

/* rollout: the row of prod_l (A_l/2 + I/2), A_l the mean over heads, last layer leftmost; a pooler's row stands before them as
 * it is, since its query is no token of the picture */
static ag_tensor *rollout(explainer *x) {
    ag_tape *t = &x->tape;
    size_t blocks = x->blocks - pools(x);
    ag_tensor *r = pools(x) ? mean_heads(x, x->A[blocks]) : unit_row(x);
    for (size_t l = blocks; l-- > 0;) {
        ag_tensor *through = ag_matmul(t, r, NO_T, x->A[l], NO_T);
        r = ag_scale(t, ag_add(t, r, through), (real)0.5, 0);
    }
    return r;
}

static ag_tensor *last_attention(explainer *x) { return pooled_row(x, x->A[x->blocks - 1]); }

/* ---- gradient ----------------------------------------------------------------------------------------------- */
/* GradCAM on attention: w_h = mean_j G^h_0j over patches, cam_j = relu(mean_h w_h A^h_0j) */
static ag_tensor *gradcam(explainer *x) {
    ag_tape *t = &x->tape;
    ag_tensor *A = x->A[x->blocks - 1];
    ag_tensor *patches = ag_new(t, 1, 1, x->n), *a = pooled_row(x, A), *g = pooled_row(x, A ? A->grad : NULL);
    size_t cells = x->gh * x->gw;
    if (!patches || !a || !g) return NULL;
    for (size_t i = 0; i < x->n; i++) patches->data[i] = i >= x->n - cells;
    ag_tensor *w = ag_scale(t, ag_fit(t, ag_mul(t, g, patches), 1, g->rows, 1), 1 / (real)cells, 0);
    ag_tensor *sum = ag_fit(t, ag_mul(t, a, w), 1, 1, x->n);
    return ag_relu(t, ag_scale(t, sum, 1 / (real)a->rows, 0));
}

/* C_l = mean_h relu(G^h . A^h) */
static ag_tensor *relevance(explainer *x, ag_tensor *A) {
    return A ? mean_heads(x, ag_relu(&x->tape, ag_mul(&x->tape, A, A->grad))) : NULL;
}

/* chefer: R <- R + C_l R from the first layer up, read along the pooled row: r <- r + r C_l from the last down.
 * rollout weighted by the gradient: the same with the rows of I + C_l made to sum to 1. A pooler's C is where r starts. */
static ag_tensor *propagate(explainer *x, bool rows_to_one) {
    ag_tape *t = &x->tape;
    size_t blocks = x->blocks - pools(x);
    ag_tensor *r = pools(x) ? relevance(x, x->A[blocks]) : unit_row(x);
    for (size_t l = blocks; l-- > 0;) {
        ag_tensor *C = relevance(x, x->A[l]);
        if (rows_to_one) {
            ag_tensor *length = ag_reshape(t, ag_scale(t, ag_fit(t, C, 1, x->n, 1), 1, 1), 1, 1, x->n);
            r = ag_mul(t, r, ag_pow(t, length, -1));
        }
        r = ag_add(t, r, ag_matmul(t, r, NO_T, C, NO_T));
    }
    return r;
}

static ag_tensor *chefer(explainer *x) { return propagate(x, false); }
static ag_tensor *rollout_weighted(explainer *x) { return propagate(x, true); }

/* The score is the logit, exp(logit_scale) cos(e, z), as in the authors' code: in I + C its size matters. */
ag_tensor *method_tape_grid(explainer *x, ag_tensor *e_unit, int flags) {
    ag_tape *t = &x->tape;
    ag_tensor *score = ag_scale(t, ag_dot(t, e_unit, x->z_unit), clip_logit_scale(x->model), 0);
    if (!score || !ag_grad(t, score, NULL, x->A, x->blocks, flags)) return NULL;
    bool on = t->recording;
    if (!(flags & AG_DIFFERENTIABLE)) t->recording = false;
    ag_tensor *grid = as_grid(x, (x->steered ? x->how->steer : x->how->row)(x));
    t->recording = on;
    return grid;
}

/* ---- a grid becomes a map ------------------------------------------------------------------------------------- */
static bool legrad_map(explainer *x, const real *grid, real *map, fault *f) {
    return explain_map(&x->legrad, grid, map, f);
}

/* Enlarged, then min-max. */
static bool map_of_grid(explainer *x, const real *grid, real *map, fault *f) {
    return map_from_grid(grid, x->gh, x->gw, x->model->config.patch, x->blocks, map, x->memory, f);
}

/* Min-max, then enlarged, as CLIP Surgery's code has it. */
static bool map_of_unit_grid(explainer *x, const real *grid, real *map, fault *f) {
    return map_from_unit_grid(grid, x->gh, x->gw, x->blocks, map, x->height, x->width, x->memory, f);
}

/* ---- the table ------------------------------------------------------------------------------------------------- */
static const method METHODS[] = {
#define ROW(name, what, source, family, blocks, free, ...) {name, what, source, FAMILY_##family, blocks, free, __VA_ARGS__},
    METHOD_LIST(ROW)
#undef ROW
};

size_t method_count(void) { return sizeof METHODS / sizeof *METHODS; }
const method *method_at(size_t i) { return i < method_count() ? &METHODS[i] : NULL; }
const method *method_find(const char *name) {
    for (size_t i = 0; i < method_count(); i++)
        if (strcmp(METHODS[i].name, name) == 0) return &METHODS[i];
    return NULL;
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */
static bool open_legrad(explainer *x, const real *pixels, const method_options *how, fault *f) {
    explain_options o = {.layers = x->blocks, .gradient = GRADIENT_FACTORED, .usual = how ? how->usual : NULL,
                         .alpha = how ? how->alpha : NULL};
    return explain_open(&x->legrad, x->model, pixels, x->height, x->width, &o, x->memory, x->cores, f);
}

/* Patches [batch,gh*gw,..] of pixels [batch,3,height,width]; what is beyond the last whole patch is left out. */
static ag_tensor *whole_patches(explainer *x, const real *pixels, const real *alpha) {
    size_t p = x->model->config.patch, h = x->gh * p, w = x->gw * p, side = x->height * x->width;
    ag_tape *t = &x->tape;
    if (x->batch == 1 && h == x->height && w == x->width) return clip_patches_alpha(t, x->model, pixels, alpha, h, w);
    ag_tensor *all = NULL;
    real *whole = arena_alloc(x->memory, 3 * h, w * sizeof *whole);
    if (!whole) fault_memory(&t->fault, "patches", x->memory, 3 * h * w * sizeof *whole);
    for (size_t b = 0; whole && b < x->batch; b++) {
        for (size_t row = 0; row < 3 * h; row++)
            memcpy(whole + row * w, pixels + (3 * b + row / h) * side + row % h * x->width, w * sizeof *whole);
        if (b == 0 && !(all = ag_new(t, x->batch, x->gh * x->gw, (x->model->config.alpha ? 4 : 3) * p * p))) break;
        ag_mark mark = ag_tape_mark(t);
        ag_tensor *one = clip_patches(t, x->model, whole, h, w);
        if (!one) return NULL;
        memcpy(all->data + b * ag_size(one), one->data, ag_size(one) * sizeof(real));
        ag_tape_reset(t, mark);
    }
    return all;
}

/* Why a family has no map of a method that compares tokens with texts. */
#define OTHERWISE "; legrad explains every model"
static const char *lacks_tokens(const clip_config *c) {
    if (clip_is_resnet(c)) return "no map of a ResNet: it has no blocks whose attention could be changed" OTHERWISE;
    if (clip_is_siglip(c)) return "no map of SigLIP: a learned query pools its tokens, none lies among the texts" OTHERWISE;
    if (c->pool == CLIP_POOL_PROBE) return "no map of PE-Core: a learned query pools its tokens, none lies among the texts" OTHERWISE;
    if (c->pool == CLIP_POOL_QUERIES) return "no map of CoCa: learned queries pool its tokens, none lies among the texts" OTHERWISE;
    return c->no_class_token ? "no map of a model without a class token" OTHERWISE : NULL;
}

size_t method_depth(const method *how, const clip_config *c) {
    bool pooler = clip_has_pooler(c) && (how->family == FAMILY_ATTENTION || how->family == FAMILY_GRADIENT);
    return pooler ? c->vision.layers + 1 : clip_depth(c);
}

static bool has_meaning(const method *how, const clip_config *c, fault *f) {
    if (how->family != FAMILY_FEATURES || (clip_is_resnet(c) && how->cells)) return true;
    const char *why = lacks_tokens(c);
    return !why || fault_family(f, how->name, why);
}

static bool open_row(explainer *x, const method *how, bool steered, const clip_model *m, const real *pixels, size_t height,
                     size_t width, const method_options *o, arena *memory, pool *cores, fault *f) {
    size_t p = m->config.patch, layers = method_depth(how, &m->config), asked = o ? o->blocks : 0;
    *x = (explainer){.how = how, .steered = steered, .model = m, .memory = memory, .cores = cores, .height = height, .width = width,
                     .batch = o && o->batch ? o->batch : 1, .gh = height / p, .gw = width / p,
                     .patches_only = o && o->patches_only && !how->together};
    x->n = clip_first(&m->config) + x->gh * x->gw;
    if (!has_meaning(how, &m->config, f)) return false;
    if (x->batch > 1 && how->family != FAMILY_FEATURES)
        return fault_set(f, FAULT_RANGE, "pictures at once", (size_t[]){x->batch, 1, 1}, 3);
    if (how->family != FAMILY_LEGRAD && (height < p || width < p))
        return fault_set(f, FAULT_SHAPE, "patches", (size_t[]){3, height, width, 3, p, p}, 6);
    size_t own = how->blocks || how->family == FAMILY_FEATURES ? how->blocks : layers;
    if (asked > layers) return fault_set(f, FAULT_RANGE, "blocks", (size_t[]){asked, 1, layers}, 3);
    x->blocks = asked ? asked : own < layers ? own : layers; /* a model with fewer layers has all of them changed */
    if (!how->free) x->blocks = own;
    if (how->family == FAMILY_LEGRAD) return open_legrad(x, pixels, o, f);
    bool ok = ag_tape_init(&x->tape, memory, cores, wants_gradient(x) ? TAPE_NODES : 1);
    x->tape.recording = false;
    if (ok) x->run = clip_image_run(&x->tape, m, x->gh, x->gw);
    ag_tensor *patches = ok ? whole_patches(x, pixels, o ? o->alpha : NULL) : NULL;
    x->settings = o && o->settings ? *o->settings : method_defaults();
    if (patches && clip_is_resnet(&m->config) && how->cells) ok = open_cells(x, patches);
    else if (patches && how->open) ok = how->open(x, patches, pixels);
    else if (patches && how->family == FAMILY_FEATURES) ok = open_features(x, patches);
    else if (patches) ok = open_attention(x, patches);
    if (x->tape.fault.code) *f = x->tape.fault;
    return ok && x->tape.fault.code == FAULT_NONE;
}

bool method_open(explainer *x, const method *how, const clip_model *m, const real *pixels, size_t height, size_t width,
                 const method_options *o, arena *memory, pool *cores, fault *f) {
    return open_row(x, how, false, m, pixels, height, width, o, memory, cores, f);
}

static bool each_grid(explainer *x, const real *texts, size_t count, real *grids) {
    size_t E = x->model->config.embed, cells = x->gh * x->gw;
    bool gradient = wants_gradient(x);
    for (size_t c = 0; c < count; c++) {
        if (gradient && explain_silent(texts + c * E, x->z_unit->data, E)) {
            memset(grids + c * cells, 0, cells * sizeof(real));
            continue;
        }
        ag_mark mark = ag_tape_mark(&x->tape);
        ag_tensor *e = gradient ? ag_constant(&x->tape, texts + c * E, 1, 1, E) : NULL;
        ag_tensor *grid = gradient ? method_tape_grid(x, e, 0) : as_grid(x, x->how->row(x));
        if (!grid) return false;
        memcpy(grids + c * cells, grid->data, cells * sizeof(real));
        ag_tape_reset(&x->tape, mark);
    }
    return true;
}

bool method_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids, fault *f) {
    size_t E = x->model->config.embed, cells = x->gh * x->gw;
    if (x->how->family == FAMILY_LEGRAD) {
        for (size_t c = 0; c < count; c++)
            if (!explain_grid(&x->legrad, texts + c * E, grids + c * cells, f)) return false;
        return true;
    }
    ag_mark mark = ag_tape_mark(&x->tape);
    bool ok = x->how->score ? x->how->score(x, texts, count, empty, grids) : each_grid(x, texts, count, grids);
    if (x->tape.fault.code) *f = x->tape.fault;
    x->tape.fault.code = FAULT_NONE;
    ag_tape_reset(&x->tape, mark);
    return ok;
}

/* A model's own side need be no multiple of its patch: the map of the grid is then stretched to it. */
bool method_map(explainer *x, const real *grid, real *map, fault *f) {
    size_t height = x->height, width = x->width, p = x->model->config.patch, mark = arena_mark(x->memory);
    size_t h = x->gh * p, w = x->gw * p;
    if (h == height && w == width) return x->how->map(x, grid, map, f);
    real *own = arena_alloc(x->memory, h * w, sizeof *own);
    if (!own) return fault_memory(f, "map", x->memory, h * w * sizeof *own);
    x->height = h, x->width = w;
    bool ok = x->how->map(x, grid, own, f);
    x->height = height, x->width = width;
    ok = ok && map_fit(own, h, w, map, height, width, x->memory, f);
    arena_reset(x->memory, mark);
    return ok;
}

/* ---- a gradient explainer in LeGrad's place (explain.h) ------------------------------------------------------ */
/* An inversion starts at e = z, where the cosine is at its best and its gradient 0: the first map would be rounding
 * noise. So here the score is e.z over a length that does not move (MODEL.md 6). */
static bool other_open(void *arg, explained *e, const real *pixels, fault *f) {
    explainer *x = arg;
    size_t E = e->model->config.embed;
    method_options o = {.blocks = e->options.layers};
    if (!open_row(x, x->how, true, e->model, pixels, e->sides[0], e->sides[1], &o, e->memory, e->cores, f)) return false;
    memcpy(e->embedding, x->z->data, E * sizeof(real));
    double length = sqrt((double)k_dot(x->z->data, x->z->data, E));
    for (size_t i = 0; i < E && e->model->config.unit_output; i++) e->embedding[i] /= (real)length;
    x->z_unit = ag_scale(&x->tape, x->z, (real)(1 / length), 0);
    if (!x->z_unit) {
        *f = x->tape.fault;
        return false;
    }
    e->options.layers = x->blocks;
    e->tape = x->tape; /* one tape: what e records follows what x recorded */
    return true;
}

static ag_tensor *other_grid(void *arg, explained *e, ag_tensor *e_unit) {
    explainer *x = arg;
    x->tape = e->tape;
    ag_tensor *grid = method_tape_grid(x, e_unit, AG_DIFFERENTIABLE);
    e->tape = x->tape;
    return grid;
}

const explain_other *method_other(explainer *x, const char *name, explain_other *other) {
    const method *how = method_find(name);
    if (!how || !how->steer) return NULL;
    x->how = how;
    *other = (explain_other){x, other_open, other_grid};
    return other;
}

/* ---- points for SAM ---------------------------------------------------------------------------------------------- */
static bool rises(const real *value, uint32_t a, uint32_t b) { /* equal ones as they stand */
    return value[a] < value[b] || (value[a] == value[b] && a < b);
}

/* Cells in rising order of their value (Shell's sort: no memory, no recursion). */
static void rank_cells(const real *value, uint32_t *rank, size_t n) {
    size_t gap = 1;
    for (size_t i = 0; i < n; i++) rank[i] = (uint32_t)i;
    while (gap < n / 3) gap = 3 * gap + 1;
    for (; gap; gap /= 3)
        for (size_t i = gap; i < n; i++) {
            uint32_t cell = rank[i];
            size_t at = i;
            for (; at >= gap && rises(value, cell, rank[at - gap]); at -= gap) rank[at] = rank[at - gap];
            rank[at] = cell;
        }
}

static map_point point_at(size_t cell, size_t rows, size_t cols, size_t height, size_t width, bool positive) {
    size_t x = (size_t)(((double)(cell % cols) + 0.5) * (double)width / (double)cols);
    size_t y = (size_t)(((double)(cell / cols) + 0.5) * (double)height / (double)rows);
    return (map_point){x < width ? x : width - 1, y < height ? y : height - 1, positive};
}

bool method_points(explainer *x, const real *grid, size_t height, size_t width, map_point *points, size_t *count,
                   fault *f) {
    size_t rows = x->gh / 2 ? x->gh / 2 : 1, cols = x->gw / 2 ? x->gw / 2 : 1, n = rows * cols, most = 0;
    size_t mark = arena_mark(x->memory);
    real *small = arena_alloc(x->memory, n, sizeof *small);
    uint32_t *rank = arena_alloc(x->memory, n, sizeof *rank);
    if (!small || !rank) {
        arena_reset(x->memory, mark);
        return fault_memory(f, "points", x->memory, n * (sizeof *small + sizeof *rank));
    }
    bool ok = map_fit(grid, x->gh, x->gw, small, rows, cols, x->memory, f) && map_unit_grid(small, rows, cols, x->blocks, small, f);
    if (ok) rank_cells(small, rank, n);
    for (size_t i = 0; ok && i < n; i++) most += small[i] >= (real)0.8;
    if (most > n / 2) most = n / 2;
    for (size_t i = 0; ok && i < most; i++) {
        points[i] = point_at(rank[n - most + i], rows, cols, height, width, true);
        points[most + i] = point_at(rank[i], rows, cols, height, width, false);
    }
    *count = ok ? 2 * most : 0;
    arena_reset(x->memory, mark);
    return ok;
}
