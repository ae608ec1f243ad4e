/* chained.c - LeGrad's closed form step by step, for blocks that are not CLIP's and for poolers (see gradient.h).
 *
 * (4.21)  With p the derivative by what the block (or the pooler) gives, the same for every row,
 *     c = LN2^T(p) (post-norm) or s2.p;   a = LN_mlp^T(c W2);   b = (a.dh) W1 + (a.dgate) W_gate;   b = LN2^T(b) (pre-norm)
 *     t = LN1^T(p + b) (post-norm) or s1.(p + b);   g = LN_heads^T(t W_o)
 * where every LN^T is a row's own and is left out where the family has no such norm, and dh = act'(h), or for swiglu
 * dh = silu(gate), dgate = h silu'(gate). All of it is linear in p, so that make_g_transpose reads it backwards: with
 * LN^T(c) = J(gamma.c) and J symmetric, the transpose of LN^T is gamma.(J c).
 */
#include "gradient.h"
#include <string.h>

/* ---- what is kept --------------------------------------------------------------------------------------------------- */
typedef struct { /* a layer norm that the chain went through: what its derivative needs */
    const real *gamma;
    real *x, *mean, *rstd; /* [rows,cols], [rows], [rows]; x NULL: there is none */
    size_t cols;
} norm;
typedef struct {
    norm heads, ln1, ln2, mlp;          /* of the merged heads; LN1 of post-norm blocks; LN2; of the MLP */
    const real *out, *fc1, *fc2, *gate; /* [O,D], [F,D], [D,F], [F,D] */
    const real *scale1, *scale2;        /* [D]; NULL: none */
    real *dh, *dgate;                   /* [rows,F] what h's and the gate's derivatives are multiplied by */
    real *v;                            /* [n,D] values */
} chain;
typedef struct { /* shared by the layers and by all embeddings */
    real *g;       /* [rows,D] */
    real *a;       /* [F] */
    real *rows[3]; /* [rows,F], [rows,F], [rows,O] */
} scratch;
static const scratch *scratch_of(const explained *x) { return x->scratch; }

static size_t out_rows(const explained *x) { /* O: what W_o gives */
    const clip_config *c = &x->model->config;
    return c->pool == CLIP_POOL_CELLS ? c->embed : x->tower->width;
}

static const clip_block_weights *weights_of(const explained *x, const explain_layer *l) {
    return clip_has_pooler(&x->model->config) ? x->model->pooler : &x->model->blocks[l->index];
}

static bool has_mlp(const explained *x) { return x->tower->mlp > 0; }

static void take_norm(explained *x, norm *n, const clip_weight *gamma, size_t cols, fault *f) {
    if (!clip_there(gamma) || f->code) return;
    n->gamma = explain_weight(x, gamma, f);
    n->cols = cols;
    n->x = explain_take(x, x->rows, cols, f);
    n->mean = explain_take(x, 1, x->rows, f);
    n->rstd = explain_take(x, 1, x->rows, f);
}

static void take_layer(explained *x, explain_layer *l, fault *f) {
    const clip_block_weights *w = weights_of(x, l);
    const clip_tower *t = x->tower;
    chain *c = l->own;
    c->v = explain_take(x, x->n, t->width, f);
    take_norm(x, &c->heads, &w->heads_gamma, t->width, f);
    c->out = f->code ? NULL : explain_weight(x, &w->out, f);
    if (t->post_norm) take_norm(x, &c->ln1, &w->ln1_gamma, t->width, f);
    if (clip_there(&w->scale1) && !f->code) c->scale1 = explain_weight(x, &w->scale1, f);
    if (!has_mlp(x) || f->code) return;
    take_norm(x, &c->ln2, &w->ln2_gamma, t->width, f);
    take_norm(x, &c->mlp, &w->mlp_gamma, t->mlp, f);
    c->fc1 = f->code ? NULL : explain_weight(x, &w->fc1, f);
    c->fc2 = f->code ? NULL : explain_weight(x, &w->fc2, f);
    c->dh = explain_take(x, x->rows, t->mlp, f);
    if (clip_there(&w->scale2) && !f->code) c->scale2 = explain_weight(x, &w->scale2, f);
    if (!t->swiglu || f->code) return;
    c->gate = explain_weight(x, &w->gate, f);
    c->dgate = explain_take(x, x->rows, t->mlp, f);
}

static void take(explained *x, fault *f) {
    size_t D = x->tower->width, F = has_mlp(x) ? x->tower->mlp : 1, O = explain_pooled_width(x);
    explain_own(x, sizeof(chain), f);
    for (size_t i = 0; i < x->options.layers && !f->code; i++) take_layer(x, &x->layers[i], f);
    explain_take_pieces(x, 0, f);
    scratch *s = explain_scratch(x, sizeof *s, f);
    if (!s) return;
    s->g = explain_take(x, x->rows, D, f);
    for (int i = 0; i < 3; i++) s->rows[i] = explain_take(x, x->rows, i < 2 ? F : O > D ? O : D, f);
    s->a = explain_take(x, 1, F, f);
}

/* Mean and 1/sigma of the rows that the norm read. */
static void keep_norm(const explained *x, norm *n, const ag_tensor *read) {
    if (!n->x) return;
    real eps = clip_has_pooler(&x->model->config) ? x->model->config.pooler.eps : x->model->config.vision.eps;
    k_layernorm(read->data, NULL, NULL, eps, n->x, n->mean, n->rstd, x->rows, n->cols);
    memcpy(n->x, read->data, x->rows * n->cols * sizeof(real));
}

static void keep(explained *x, explain_layer *l, const clip_taps *taps, ag_tensor *z, fault *f) {
    (void)z, (void)f;
    chain *c = l->own;
    bool post = x->tower->post_norm;
    memcpy(c->v, taps->v->data, x->n * x->tower->width * sizeof(real));
    keep_norm(x, &c->heads, taps->mixed);
    keep_norm(x, &c->ln1, taps->attended);
    if (!has_mlp(x)) return;
    keep_norm(x, &c->ln2, post ? taps->deep : taps->x1);
    keep_norm(x, &c->mlp, taps->inner);
    size_t count = x->rows * x->tower->mlp;
    if (!c->dgate) {
        k_act(x->model->config.act_vision, 1, taps->h->data, c->dh, count);
        return;
    }
    k_act(ACT_SILU, 0, taps->gate->data, c->dh, count);
    k_act(ACT_SILU, 1, taps->gate->data, c->dgate, count);
    k_mul(c->dgate, taps->h->data, c->dgate, count);
}

/* ---- the steps ------------------------------------------------------------------------------------------- */
/* rows <- LN^T(rows) = J(gamma.rows), or its transpose gamma.(J rows); where there is no such norm they stay. */
static void norm_step(const explained *x, const norm *n, real *rows, bool backwards) {
    if (!n->x) return;
    k_layernorm_grad(n->x, n->mean, n->rstd, backwards ? NULL : n->gamma, rows, rows, NULL, NULL, x->rows, n->cols);
    for (size_t r = 0; r < x->rows && backwards; r++) k_mul(rows + r * n->cols, n->gamma, rows + r * n->cols, n->cols);
}

static void scale_rows(real *rows, const real *scale, size_t count, size_t cols) {
    for (size_t r = 0; r < count && scale; r++) k_mul(rows + r * cols, scale, rows + r * cols, cols);
}

/* p [D] -> a [rows,F]: back through W2 and the norms around it */
static void into_mlp(explained *x, const explain_layer *l, real *a) {
    const chain *c = l->own;
    size_t D = x->tower->width, F = x->tower->mlp;
    real *wide = scratch_of(x)->rows[2];
    if (x->tower->post_norm) {
        k_fill_rows(x->work.u, wide, x->rows, D);
        norm_step(x, &c->ln2, wide, false);
        gemm_spread(x->cores, NO_T, NO_T, x->rows, F, D, 1, wide, D, c->fc2, F, 0, a, F);
    } else {
        memcpy(wide, x->work.u, D * sizeof(real));
        scale_rows(wide, c->scale2, 1, D);
        gemm_spread(x->cores, NO_T, NO_T, 1, F, D, 1, wide, D, c->fc2, F, 0, scratch_of(x)->a, F);
        k_fill_rows(scratch_of(x)->a, a, x->rows, F);
    }
    norm_step(x, &c->mlp, a, false);
}

static void into_mlp_transpose(explained *x, const explain_layer *l, real *a) {
    const chain *c = l->own;
    size_t D = x->tower->width, F = x->tower->mlp;
    real *wide = scratch_of(x)->rows[2];
    norm_step(x, &c->mlp, a, true);
    if (x->tower->post_norm) {
        gemm_spread(x->cores, NO_T, T, x->rows, D, F, 1, a, F, c->fc2, F, 0, wide, D);
        norm_step(x, &c->ln2, wide, true);
        k_sum_rows(wide, x->work.u, x->rows, D);
        return;
    }
    memset(scratch_of(x)->a, 0, F * sizeof(real));
    k_sum_rows(a, scratch_of(x)->a, x->rows, F);
    gemm_spread(x->cores, NO_T, T, 1, D, F, 1, scratch_of(x)->a, F, c->fc2, F, 0, wide, D);
    scale_rows(wide, c->scale2, 1, D);
    k_axpy(1, wide, x->work.u, D);
}

/* a -> b [rows,D]: back through the activation and W1 */
static void through_mlp(explained *x, const explain_layer *l, real *a, real *spare, real *b) {
    const chain *c = l->own;
    size_t D = x->tower->width, F = x->tower->mlp, count = x->rows * F;
    if (c->dgate) {
        k_mul(a, c->dgate, spare, count);
        gemm_spread(x->cores, NO_T, NO_T, x->rows, D, F, 1, spare, F, c->gate, D, 0, b, D);
    }
    k_mul(a, c->dh, a, count);
    gemm_spread(x->cores, NO_T, NO_T, x->rows, D, F, 1, a, F, c->fc1, D, c->dgate ? 1 : 0, b, D);
    if (!x->tower->post_norm) norm_step(x, &c->ln2, b, false);
}

static void through_mlp_transpose(explained *x, const explain_layer *l, real *b, real *a, real *spare) {
    const chain *c = l->own;
    size_t D = x->tower->width, F = x->tower->mlp, count = x->rows * F;
    if (!x->tower->post_norm) norm_step(x, &c->ln2, b, true);
    gemm_spread(x->cores, NO_T, T, x->rows, F, D, 1, b, D, c->fc1, D, 0, a, F);
    k_mul(a, c->dh, a, count);
    if (!c->dgate) return;
    gemm_spread(x->cores, NO_T, T, x->rows, F, D, 1, b, D, c->gate, D, 0, spare, F);
    k_mul(spare, c->dgate, spare, count);
    k_axpy(1, spare, a, count);
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */
/* u, in work.u -> d(e.z)/d(heads' output) [rows,D] in g */
static void make_g(explained *x, const explain_layer *l) {
    const chain *c = l->own;
    const scratch *w = scratch_of(x);
    size_t D = x->tower->width, O = out_rows(x);
    real *t = w->rows[2];
    if (has_mlp(x)) {
        into_mlp(x, l, w->rows[0]);
        through_mlp(x, l, w->rows[0], w->rows[1], t);
        for (size_t r = 0; r < x->rows; r++) k_axpy(1, x->work.u, t + r * O, O);
    } else {
        k_fill_rows(x->work.u, t, x->rows, O);
    }
    norm_step(x, &c->ln1, t, false);
    scale_rows(t, c->scale1, x->rows, O);
    gemm_spread(x->cores, NO_T, NO_T, x->rows, D, O, 1, t, O, c->out, D, 0, w->g, D);
    norm_step(x, &c->heads, w->g, false);
}

/* g = dL/dg -> work.u = dL/du */
static void make_g_transpose(explained *x, const explain_layer *l) {
    const chain *c = l->own;
    const scratch *w = scratch_of(x);
    size_t D = x->tower->width, O = out_rows(x);
    real *t = w->rows[2];
    norm_step(x, &c->heads, w->g, true);
    gemm_spread(x->cores, NO_T, T, x->rows, O, D, 1, w->g, D, c->out, D, 0, t, O);
    norm_step(x, &c->ln1, t, true);
    scale_rows(t, c->scale1, x->rows, O);
    memset(x->work.u, 0, O * sizeof(real));
    k_sum_rows(t, x->work.u, x->rows, O);
    if (!has_mlp(x)) return;
    through_mlp_transpose(x, l, t, w->rows[0], w->rows[1]);
    into_mlp_transpose(x, l, w->rows[0]);
}

static void forward(explain_pass *p) {
    explain_pooled(p->x, p->l);
    make_g(p->x, p->l);
    explain_relevance(p, scratch_of(p->x)->g, ((const chain *)p->l->own)->v);
}

static void transposed(explain_pass *p) {
    explain_relevance_transpose(p, scratch_of(p->x)->g, ((const chain *)p->l->own)->v);
    make_g_transpose(p->x, p->l);
    explain_pooled_transpose(p->x, p->l);
}

const struct explain_gradient explain_chained = {
    .name = "factored", .take = take, .keep = keep, .forward = forward, .transposed = transposed};
