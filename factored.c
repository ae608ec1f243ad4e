/* factored.c - LeGrad's gradient in closed form, for CLIP's own blocks (see gradient.h; MODEL.md 4).
 *
 * (4.6)-(4.13): with gz = (e - (e.z)z)/|z|, u = LN_post^T(P gz)/n, a = W2^T u,
 *   g_i = W_o^T (u + LN2^T_i(W1^T (act'(h_i) . a))),   G^h = g^h (v^h)^T,   R_j = 1/(Hn) sum_h sum_i relu(G^h_ij).
 * LN2^T_i(b) = (I - 11^T/D - xhat_i xhat_i^T/D) gamma b / sigma_i, of which gamma and the mean go into W1 once
 * (`up`), 1/sigma_i into act', and xhat_i^T gamma W1^T = h_i - b1 - W1 beta is `h`:
 *   q_i = act'(h_i)/sigma_i . a,   m_i = h_i . q_i / D,   g_i = W_o^T u + q_i up [W_o] - m_i W_o^T xhat_i.
 * Each step is followed by its transpose. */
#include "gradient.h"
#include "simd.h"
#include <string.h>

/* ---- what is kept --------------------------------------------------------------------------------------------------- */
typedef struct {     /* scratch, shared by the layers and by all embeddings */
    real *a, *out_u; /* [F]; [D] */
    real *q;         /* [n,F] act'(h) . a, and its derivative */
    real *g, *y;     /* [n,D] dz/d(heads' output); before W_o, where not joined */
    real *m2;        /* [n] */
} scratch;

/* Joining W1 and W_o costs one F x D x D product and saves an n x D x D one in each pass. */
static bool joining_pays(const explained *x) {
    size_t passes = x->options.steps ? 2 * x->options.steps : 1;
    return passes * x->n > x->tower->mlp;
}

void explain_factored_take(explained *x, size_t layer, factored_layer *own, bool joined, fault *f) {
    size_t n = x->n, D = x->tower->width, F = x->tower->mlp;
    const clip_block_weights *w = &x->model->blocks[layer];
    own->joined = joined;
    own->act = explain_take(x, n, F, f);
    own->h = explain_take(x, n, F, f);
    own->up = explain_take(x, F, D, f);
    own->v = explain_take(x, n, D, f);
    own->xo = explain_take(x, n, D, f);
    own->out = explain_weight(x, &w->out, f);
    own->fc2 = explain_weight(x, &w->fc2, f);
}

static void take(explained *x, fault *f) {
    size_t n = x->n, D = x->tower->width, F = x->tower->mlp;
    bool joined = joining_pays(x);
    factored_layer *own = explain_own(x, sizeof *own, f);
    for (size_t i = 0; i < x->options.layers && !f->code; i++)
        explain_factored_take(x, x->layers[i].index, &own[i], joined, f);
    explain_take_pieces(x, pieces_of(n, BLOCK_ROWS) * (F + D), f);
    scratch *s = explain_scratch(x, sizeof *s, f);
    if (!s) return;
    s->a = explain_take(x, 1, F, f);
    s->out_u = explain_take(x, 1, D, f);
    s->q = explain_take(x, n, F, f);
    s->g = explain_take(x, n, D, f);
    s->y = joined ? NULL : explain_take(x, n, D, f);
    s->m2 = explain_take(x, 1, n, f);
}

typedef struct {
    explained *x;
    factored_layer *own;
    const real *h, *rstd, *shift;
} kept_h;

static void keep_h_rows(void *arg, size_t block) {
    const kept_h *k = arg;
    size_t F = k->x->tower->mlp, from = block * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, k->x->n - from);
    for (size_t i = from; i < to; i++) {
        const real *h = k->h + i * F;
        real *act = k->own->act + i * F, *centred = k->own->h + i * F;
        k_act(k->x->model->config.act_vision, 1, h, act, F);
        for (size_t j = 0; j < F; j++) {
            act[j] *= k->rstd[i];
            centred[j] = h[j] - k->shift[j];
        }
    }
}

/* up = W1 diag(gamma) (I - 11^T/D), and shift = b1 + W1 beta */
static void keep_up(explained *x, factored_layer *own, const real *fc1, const real *bias, const real *gamma,
                    const real *beta, real *up, real *shift) {
    size_t F = x->tower->mlp, D = x->tower->width;
    for (size_t i = 0; i < F; i++) {
        const real *w = fc1 + i * D;
        real *row = up + i * D;
        shift[i] = bias[i] + k_dot(w, beta, D);
        k_mul(w, gamma, row, D);
        real mean = k_sum(row, D) / (real)D;
        for (size_t j = 0; j < D; j++) row[j] -= mean;
    }
    if (own->joined) gemm_spread(x->cores, NO_T, NO_T, F, D, D, 1, up, D, own->out, D, 0, own->up, D);
}

void explain_factored_keep(explained *x, size_t layer, factored_layer *own, const clip_taps *taps, fault *f) {
    size_t n = x->n, D = x->tower->width, F = x->tower->mlp, mark = arena_mark(x->memory);
    const clip_block_weights *w = &x->model->blocks[layer];
    const real *gamma = explain_weight(x, &w->ln2_gamma, f), *beta = explain_weight(x, &w->ln2_beta, f);
    const real *fc1 = explain_weight(x, &w->fc1, f), *bias = explain_weight(x, &w->fc1_bias, f);
    real *shift = explain_take(x, 1, F, f), *rstd = explain_take(x, 1, n, f), *xhat = explain_take(x, n, D, f);
    real *up = own->joined ? explain_take(x, F, D, f) : own->up;
    if (!f->code) {
        memcpy(own->v, taps->v->data, n * D * sizeof(real));
        k_layernorm(taps->x1->data, NULL, NULL, x->tower->eps, xhat, NULL, rstd, n, D);
        gemm_spread(x->cores, NO_T, NO_T, n, D, D, 1, xhat, D, own->out, D, 0, own->xo, D);
        keep_up(x, own, fc1, bias, gamma, beta, up, shift);
        kept_h k = {x, own, taps->h->data, rstd, shift};
        spread(x->cores, pieces_of(n, BLOCK_ROWS), keep_h_rows, &k);
    }
    arena_reset(x->memory, mark);
}

static void keep(explained *x, explain_layer *l, const clip_taps *taps, ag_tensor *z, fault *f) {
    (void)z;
    explain_factored_keep(x, l->index, l->own, taps, f);
}

/* ---- (4.8): u -> a, W_o^T u: vectors, the same for every token; and (4.18) ------------------------------------------- */
static void make_vectors(explained *x, const explain_layer *l) {
    const factored_layer *own = l->own;
    const scratch *s = x->scratch;
    size_t D = x->tower->width;
    explain_pooled(x, l);
    explain_vec_mat(x->cores, x->work.u, own->fc2, D, x->tower->mlp, s->a);
    explain_vec_mat(x->cores, x->work.u, own->out, D, D, s->out_u);
}

/* a = dL/da and out_u = dL/d(W_o^T u) -> ez */
static void make_vectors_transpose(explained *x, const explain_layer *l) {
    const factored_layer *own = l->own;
    const scratch *s = x->scratch;
    size_t D = x->tower->width;
    memset(x->work.u, 0, D * sizeof(real));
    explain_mat_vec_add(x->cores, own->fc2, s->a, D, x->tower->mlp, x->work.u);
    explain_mat_vec_add(x->cores, own->out, s->out_u, D, D, x->work.u);
    explain_pooled_transpose(x, l);
}

/* ---- (4.12): a -> q, m ------------------------------------------------------------------------------ */
/* q = act . a; returns h . q */
SIMD_LOCAL static real times_act(const real *restrict act, const real *restrict h, const real *restrict a,
                                  real *restrict q, size_t n) {
    real along = 0;
#pragma omp simd reduction(+ : along)
    for (size_t i = 0; i < n; i++) {
        q[i] = act[i] * a[i];
        along += h[i] * q[i];
    }
    return along;
}

static void make_q(void *arg, size_t block) {
    const explain_pass *p = arg;
    const explained *x = p->x;
    const factored_layer *own = p->l->own;
    const scratch *s = x->scratch;
    size_t F = x->tower->mlp, D = x->tower->width;
    size_t from = block * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, x->n - from);
    for (size_t i = from; i < to; i++)
        s->m2[i] = times_act(own->act + i * F, own->h + i * F, s->a, s->q + i * F, F) / (real)D;
}

/* a += act . (q + m h) */
SIMD_LOCAL static void times_act_transpose(const real *restrict act, const real *restrict h, const real *restrict q,
                                            real m, real *restrict a, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) a[i] += act[i] * (q[i] + m * h[i]);
}

/* (4.16)'s m, (4.17). q = dL/dq, g = dL/dg: a block's shares of dL/da [F] and of dL/d(W_o^T u) [D] */
static void make_q_transpose(void *arg, size_t block) {
    const explain_pass *p = arg;
    const explained *x = p->x;
    const factored_layer *own = p->l->own;
    const scratch *s = x->scratch;
    size_t F = x->tower->mlp, D = x->tower->width;
    size_t from = block * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, x->n - from);
    real *a = x->work.parts + block * (F + D), *out_u = a + F;
    memset(a, 0, (F + D) * sizeof(real));
    for (size_t i = from; i < to; i++) {
        real m = -k_dot(s->g + i * D, own->xo + i * D, D) / (real)D;
        times_act_transpose(own->act + i * F, own->h + i * F, s->q + i * F, m, a, F);
    }
    k_sum_rows(s->g + from * D, out_u, to - from, D);
}

/* ---- (4.13): q -> g ------------------------------------------------------------------------------------- */
SIMD_LOCAL static void add_vector_terms(real *restrict g, const real *restrict out_u, const real *restrict xo, real m,
                                         size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) g[i] += out_u[i] - m * xo[i];
}

static void add_vectors(void *arg, size_t block) {
    const explain_pass *p = arg;
    const factored_layer *own = p->l->own;
    const scratch *s = p->x->scratch;
    size_t D = p->x->tower->width, from = block * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, p->x->n - from);
    for (size_t i = from; i < to; i++) add_vector_terms(s->g + i * D, s->out_u, own->xo + i * D, s->m2[i], D);
}

static void make_g(explain_pass *p) {
    explained *x = p->x;
    const factored_layer *own = p->l->own;
    const scratch *s = x->scratch;
    size_t n = x->n, F = x->tower->mlp, D = x->tower->width;
    real *first = own->joined ? s->g : s->y;
    gemm_spread(x->cores, NO_T, NO_T, n, D, F, 1, s->q, F, own->up, D, 0, first, D);
    if (!own->joined) gemm_spread(x->cores, NO_T, NO_T, n, D, D, 1, s->y, D, own->out, D, 0, s->g, D);
    spread(x->cores, pieces_of(n, BLOCK_ROWS), add_vectors, p);
}

/* (4.16)'s q */
static void make_g_transpose(explain_pass *p) {
    explained *x = p->x;
    const factored_layer *own = p->l->own;
    const scratch *s = x->scratch;
    size_t n = x->n, F = x->tower->mlp, D = x->tower->width;
    const real *first = own->joined ? s->g : s->y;
    if (!own->joined) gemm_spread(x->cores, NO_T, T, n, D, D, 1, s->g, D, own->out, D, 0, s->y, D);
    gemm_spread(x->cores, NO_T, T, n, F, D, 1, first, D, own->up, D, 0, s->q, F);
}

/* ---- e -> R, and its transpose --------------------------------------------------------------------------------------- */
static void forward(explain_pass *p) {
    make_vectors(p->x, p->l);
    spread(p->x->cores, pieces_of(p->x->n, BLOCK_ROWS), make_q, p);
    make_g(p);
    explain_relevance(p, ((const scratch *)p->x->scratch)->g, ((const factored_layer *)p->l->own)->v);
}

static void transposed(explain_pass *p) {
    explained *x = p->x;
    const scratch *s = x->scratch;
    size_t F = x->tower->mlp, D = x->tower->width, blocks = pieces_of(x->n, BLOCK_ROWS);
    explain_relevance_transpose(p, s->g, ((const factored_layer *)p->l->own)->v);
    make_g_transpose(p);
    spread(x->cores, blocks, make_q_transpose, p);
    memset(s->a, 0, F * sizeof(real));
    memset(s->out_u, 0, D * sizeof(real));
    for (size_t b = 0; b < blocks; b++) {
        k_axpy(1, x->work.parts + b * (F + D), s->a, F);
        k_axpy(1, x->work.parts + b * (F + D) + F, s->out_u, D);
    }
    make_vectors_transpose(x, p->l);
}

const struct explain_gradient explain_factored = {.name = "factored", .instead = &explain_chained, .take = take,
                                                  .keep = keep, .forward = forward, .transposed = transposed};
