/* compact.c - LeGrad's closed form where memory is short: on a microcontroller, or for a very large picture (gradient.h).
 *
 * The equations are factored.c's, (4.6) to (4.13). But of a layer only x1 and v [n,D] stay, weights are unpacked SLICE
 * rows or columns at a time, and what is [n,F] there exists here for SLICE hidden units at a time, made again in each
 * pass: b_i = sum over slices of (act'(h_i) . a) W1. That is three products where factored has two, and a fraction of
 * its memory (docs/PORTING.md). The blocks of the forward pass are run the same way. */
#include "gradient.h"
#include <string.h>

enum { SLICE = 64, QUERY_ROWS = 64 };

typedef struct {       /* of an explained layer */
    real *x1, *v;      /* [n,D] after the attention; values */
    real *mean, *rstd; /* [n] of x1's rows */
} kept;
typedef struct {              /* shared by all layers, by the blocks before them, and by all embeddings */
    real *y, *g, *k, *v;      /* [n,D] */
    real *h, *q;              /* [n,SLICE] */
    real *w[2];               /* [SLICE,D] weights as they are used */
    real *row;                /* [D], or SLICE if that is more */
    real *gamma, *beta;       /* [D] */
    real *scores;             /* [QUERY_ROWS,n] */
} scratch;

static void take(explained *x, fault *f) {
    size_t n = x->n, D = x->tower->width;
    kept *own = explain_own(x, sizeof *own, f);
    for (size_t i = 0; i < x->options.layers && !f->code; i++)
        own[i] = (kept){explain_take(x, n, D, f), explain_take(x, n, D, f), explain_take(x, 1, n, f),
                        explain_take(x, 1, n, f)};
    explain_take_pieces(x, 0, f);
    scratch *s = explain_scratch(x, sizeof *s, f);
    if (!s) return;
    real **tokens[] = {&s->y, &s->g, &s->k, &s->v}, **rows[] = {&s->gamma, &s->beta};
    for (size_t i = 0; i < 4; i++) *tokens[i] = explain_take(x, n, D, f);
    for (size_t i = 0; i < 2; i++) *rows[i] = explain_take(x, 1, D, f);
    s->row = explain_take(x, 1, D > SLICE ? D : SLICE, f);
    s->h = explain_take(x, n, SLICE, f);
    s->q = explain_take(x, n, SLICE, f);
    for (size_t i = 0; i < 2; i++) s->w[i] = explain_take(x, SLICE, D, f);
    s->scores = explain_take(x, QUERY_ROWS, n, f);
}

/* ---- weights, a slice at a time ---------------------------------------------------------------------------------- */
typedef struct {
    const real *at; /* [rows, cols], a row every `stride` */
    size_t stride;
} slice;

/* Rows r.. and columns c.. of a weight, where they lie or unpacked into `room`. */
static slice unpack(explained *x, const clip_weight *w, size_t r, size_t rows, size_t c, size_t cols, real *room) {
    const real *whole = clip_in_place(w);
    if (whole && !w->transposed) return (slice){whole + r * w->cols + c, w->cols};
    if (!w->transposed) {
        for (size_t i = 0; i < rows; i++) clip_numbers(w, (r + i) * w->cols + c, cols, room + i * cols);
        return (slice){room, cols};
    }
    real *line = ((scratch *)x->scratch)->row;
    for (size_t j = 0; j < cols; j++) {
        clip_numbers(w, (c + j) * w->rows + r, rows, line);
        for (size_t i = 0; i < rows; i++) room[i * cols + j] = line[i];
    }
    return (slice){room, cols};
}

static void vector(const clip_weight *w, size_t from, size_t count, real *out) {
    if (clip_there(w)) clip_numbers(w, from, count, out);
    else memset(out, 0, count * sizeof *out);
}

static void add_row(real *y, size_t stride, size_t rows, const real *row, size_t count) {
    for (size_t i = 0; i < rows; i++) k_axpy(1, row, y + i * stride, count);
}

/* out [n,D] = in [n,D] W^T + b, or out += it; W [D,D]. */
static void linear(explained *x, const clip_weight *w, const clip_weight *bias, const real *in, bool add, real *out) {
    const scratch *s = x->scratch;
    size_t n = x->n, D = x->tower->width;
    real b[SLICE];
    for (size_t r = 0, rows; r < D; r += rows) {
        rows = at_most(SLICE, D - r);
        slice part = unpack(x, w, r, rows, 0, D, s->w[0]);
        gemm_spread(x->cores, NO_T, T, n, rows, D, 1, in, D, part.at, part.stride, add ? 1 : 0, out + r, D);
        vector(bias, r, rows, b);
        add_row(out + r, D, n, b, rows);
    }
}

static void norm(explained *x, const clip_weight *gamma, const clip_weight *beta, const real *in, real *out) {
    const scratch *s = x->scratch;
    vector(gamma, 0, x->tower->width, s->gamma);
    vector(beta, 0, x->tower->width, s->beta);
    k_layernorm(in, s->gamma, s->beta, x->tower->eps, out, NULL, NULL, x->n, x->tower->width);
}

/* h [n,units] = y W1^T + b1 of hidden units j.. ; returns that slice of W1 */
static slice hidden(explained *x, const clip_block_weights *w, const real *y, size_t j, size_t units) {
    const scratch *s = x->scratch;
    size_t n = x->n, D = x->tower->width;
    real b[SLICE];
    slice up = unpack(x, &w->fc1, j, units, 0, D, s->w[0]);
    gemm_spread(x->cores, NO_T, T, n, units, D, 1, y, D, up.at, up.stride, 0, s->h, units);
    vector(&w->fc1_bias, j, units, b);
    add_row(s->h, units, n, b, units);
    return up;
}

/* ---- a block, in place ---------------------------------------------------------------------------------------------- */
/* (1.5)  mixed = concat_h softmax(q k^T/sqrt d) v, some query rows at a time; q becomes it. */
static void attend(explained *x, real *q, const real *k, const real *v) {
    real *s = ((scratch *)x->scratch)->scores;
    size_t n = x->n, D = x->tower->width, d = D / x->tower->heads;
    real factor = 1 / k_sqrt((real)d);
    for (size_t h = 0; h < x->tower->heads; h++)
        for (size_t r = 0, rows; r < n; r += rows) {
            rows = at_most(QUERY_ROWS, n - r);
            gemm_spread(x->cores, NO_T, T, rows, n, d, factor, q + r * D + h * d, D, k + h * d, D, 0, s, n);
            k_softmax(s, s, rows, n, false);
            gemm_spread(x->cores, NO_T, NO_T, rows, d, n, 1, s, n, v + h * d, D, 0, q + r * D + h * d, D);
        }
}

/* (1.7), (1.8)  x += W2 act(W1 LN2(x) + b1) + b2 */
static void mlp(explained *x, const clip_block_weights *w, real *tokens) {
    const scratch *s = x->scratch;
    size_t n = x->n, D = x->tower->width, F = x->tower->mlp;
    norm(x, &w->ln2_gamma, &w->ln2_beta, tokens, s->y);
    for (size_t j = 0, units; j < F; j += units) {
        units = at_most(SLICE, F - j);
        hidden(x, w, s->y, j, units);
        k_act(x->model->config.act_vision, 0, s->h, s->h, n * units);
        slice down = unpack(x, &w->fc2, 0, D, j, units, s->w[1]);
        gemm_spread(x->cores, NO_T, T, n, D, units, 1, s->h, units, down.at, down.stride, 1, tokens, D);
    }
    vector(&w->fc2_bias, 0, D, s->row);
    add_row(tokens, D, n, s->row, D);
}

static void block(explained *x, size_t index, explain_layer *l, real *tokens) {
    const scratch *s = x->scratch;
    const clip_block_weights *w = &x->model->blocks[index];
    size_t n = x->n, D = x->tower->width;
    norm(x, &w->ln1_gamma, &w->ln1_beta, tokens, s->y);
    linear(x, &w->q, &w->q_bias, s->y, false, s->g);
    linear(x, &w->k, &w->k_bias, s->y, false, s->k);
    linear(x, &w->v, &w->v_bias, s->y, false, s->v);
    attend(x, s->g, s->k, s->v);
    linear(x, &w->out, &w->out_bias, s->g, true, tokens); /* x1 (1.6) */
    if (l) {
        kept *own = l->own;
        memcpy(own->v, s->v, n * D * sizeof(real));
        memcpy(own->x1, tokens, n * D * sizeof(real));
        k_layernorm(tokens, NULL, NULL, x->tower->eps, s->y, own->mean, own->rstd, n, D);
    }
    mlp(x, w, tokens);
}

/* ---- e -> R, and its transpose ---------------------------------------------------------------------------------------- */
static const clip_block_weights *weights_of(const explained *x, const explain_layer *l) {
    return &x->model->blocks[l->index];
}

static void forward(explain_pass *p) {
    explained *x = p->x;
    const kept *own = p->l->own;
    const scratch *s = x->scratch;
    const clip_block_weights *w = weights_of(x, p->l);
    size_t n = x->n, D = x->tower->width, F = x->tower->mlp;
    real *b = s->k, a[SLICE];
    explain_pooled(x, p->l); /* u */
    norm(x, &w->ln2_gamma, &w->ln2_beta, own->x1, s->y);
    memset(b, 0, n * D * sizeof *b);
    for (size_t j = 0, units; j < F; j += units) { /* (4.8) a = W2^T u, (4.9) b_i = (act'(h_i) . a) W1 */
        units = at_most(SLICE, F - j);
        slice up = hidden(x, w, s->y, j, units), down = unpack(x, &w->fc2, 0, D, j, units, s->w[1]);
        memset(a, 0, sizeof a);
        for (size_t r = 0; r < D; r++) k_axpy(x->work.u[r], down.at + r * down.stride, a, units);
        k_act(x->model->config.act_vision, 1, s->h, s->h, n * units);
        for (size_t i = 0; i < n; i++) k_mul(s->h + i * units, a, s->h + i * units, units);
        gemm_spread(x->cores, NO_T, NO_T, n, D, units, 1, s->h, units, up.at, up.stride, 1, b, D);
    }
    vector(&w->ln2_gamma, 0, D, s->gamma);
    k_layernorm_grad(own->x1, own->mean, own->rstd, s->gamma, b, b, NULL, NULL, n, D);
    add_row(b, D, n, x->work.u, D);
    for (size_t r = 0, rows; r < D; r += rows) { /* (4.10) g = (u + LN2^T b) W_o */
        rows = at_most(SLICE, D - r);
        slice out = unpack(x, &w->out, r, rows, 0, D, s->w[0]);
        gemm_spread(x->cores, NO_T, NO_T, n, D, rows, 1, b + r, D, out.at, out.stride, r ? 1 : 0, s->g, D);
    }
    explain_relevance(p, s->g, own->v);
}

static void transposed(explain_pass *p) {
    explained *x = p->x;
    const kept *own = p->l->own;
    const scratch *s = x->scratch;
    const clip_block_weights *w = weights_of(x, p->l), none = {0};
    size_t n = x->n, D = x->tower->width, F = x->tower->mlp;
    real *b = s->k, a[SLICE], *u = x->work.u;
    explain_relevance_transpose(p, s->g, own->v);
    linear(x, &w->out, &none.out_bias, s->g, false, b); /* dL/d(u + LN2^T b), the same for both */
    memset(u, 0, D * sizeof *u);
    k_sum_rows(b, u, n, D);
    k_layernorm_grad(own->x1, own->mean, own->rstd, NULL, b, b, NULL, NULL, n, D);
    norm(x, &w->ln2_gamma, &w->ln2_beta, own->x1, s->y); /* leaves gamma in its place */
    for (size_t i = 0; i < n; i++) k_mul(b + i * D, s->gamma, b + i * D, D);
    for (size_t j = 0, units; j < F; j += units) {
        units = at_most(SLICE, F - j);
        slice up = hidden(x, w, s->y, j, units), down = unpack(x, &w->fc2, 0, D, j, units, s->w[1]);
        gemm_spread(x->cores, NO_T, T, n, units, D, 1, b, D, up.at, up.stride, 0, s->q, units);
        k_act(x->model->config.act_vision, 1, s->h, s->h, n * units);
        k_mul(s->h, s->q, s->q, n * units);
        memset(a, 0, sizeof a);
        k_sum_rows(s->q, a, n, units); /* dL/da */
        for (size_t r = 0; r < D; r++) u[r] += k_dot(down.at + r * down.stride, a, units);
    }
    explain_pooled_transpose(x, p->l);
}

const struct explain_gradient explain_compact = {.name = "compact", .own = true, .take = take, .block = block,
                                                 .forward = forward, .transposed = transposed};
