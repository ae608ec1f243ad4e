/* clip_block.c - one block of a tower, in pieces that explainers can cut into (see clip.h; MODEL.md 1). */
#include "clip.h"
#include <math.h>
#include <string.h>

/* (1.4), (1.17): post-norm blocks read x itself; (1.20): patches turn with their place */
void clip_qkv(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, ag_tensor **q, ag_tensor **k,
              ag_tensor **v) {
    const clip_tower *tower = run->tower;
    ag_tensor *y = tower->post_norm ? x : clip_norm(t, &w->ln1_gamma, &w->ln1_beta, tower->eps, x);
    if (q) *q = clip_linear(t, &w->q, &w->q_bias, y);
    if (k) *k = clip_linear(t, &w->k, &w->k_bias, y);
    if (v) *v = clip_linear(t, &w->v, &w->v_bias, y);
    if (q && run->turn) *q = ag_turn(t, *q, run->turn, run->first);
    if (k && run->turn) *k = ag_turn(t, *k, run->turn, run->first);
}

real clip_attention_factor(const clip_tower *tower) { return (real)(1 / sqrt((double)(tower->width / tower->heads))); }

/* (1.5)  A^h = softmax(q_h k_h^T / sqrt(d)) */
ag_tensor *clip_attention(ag_tape *t, const clip_run *run, ag_tensor *q, ag_tensor *k) {
    ag_tensor *logits = ag_scores(t, q, k, run->tower->heads, clip_attention_factor(run->tower));
    if (run->mask) logits = ag_add(t, logits, run->mask);
    return ag_softmax(t, logits, run->causal);
}

/* A branch's result as it is added: normed (1.17) or scaled (1.16). */
static ag_tensor *branch(ag_tape *t, const clip_tower *tower, const clip_weight *gamma, const clip_weight *beta,
                         const clip_weight *scale, ag_tensor *y) {
    if (tower->post_norm) y = clip_norm(t, gamma, beta, tower->eps, y);
    return clip_there(scale) ? ag_mul(t, y, clip_use(t, scale)) : y;
}

/* (1.6), (1.18)  W_o LN(mixed) + b_o */
ag_tensor *clip_merge(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *mixed, clip_taps *taps) {
    const clip_tower *tower = run->tower;
    ag_tensor *y = clip_norm(t, &w->heads_gamma, &w->heads_beta, tower->eps, mixed);
    y = clip_linear(t, &w->out, &w->out_bias, y);
    if (taps) taps->attended = y;
    return branch(t, tower, &w->ln1_gamma, &w->ln1_beta, &w->scale1, y);
}

/* (1.7), (1.8), (1.18), (1.19) */
ag_tensor *clip_mlp(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x1, clip_taps *taps) {
    const clip_tower *tower = run->tower;
    clip_taps local, *p = taps ? taps : &local;
    ag_tensor *y = tower->post_norm ? x1 : clip_norm(t, &w->ln2_gamma, &w->ln2_beta, tower->eps, x1);
    if (!taps && !tower->swiglu) {
        p->inner = clip_linear_act(t, &w->fc1, &w->fc1_bias, y, run->act);
    } else {
        p->h = clip_linear(t, &w->fc1, &w->fc1_bias, y);
        p->gate = tower->swiglu ? clip_linear(t, &w->gate, &w->gate_bias, y) : NULL;
        p->inner = tower->swiglu ? ag_mul(t, p->h, ag_act(t, p->gate, ACT_SILU, 0)) : ag_act(t, p->h, run->act, 0);
    }
    p->deep = clip_linear(t, &w->fc2, &w->fc2_bias, clip_norm(t, &w->mlp_gamma, &w->mlp_beta, tower->eps, p->inner));
    return branch(t, tower, &w->ln2_gamma, &w->ln2_beta, &w->scale2, p->deep);
}

/* ---- attention in little memory: (1.5), (1.6) as clip_attention and ag_mix compute them, some query rows at a time ------------- */
enum { QUERY_ROWS = 256 };

typedef struct {
    const real *q, *k, *v;
    real *out, *scratch;
    size_t batch, n, D, heads, rows, width;
    real factor;
    bool causal;
} lean;

static void lean_head(const lean *l, size_t item, real *s) {
    size_t d = l->D / l->heads, corner = item / l->heads * l->n * l->D + item % l->heads * d;
    for (size_t r = 0; r < l->n; r += l->rows) {
        size_t rows = l->n - r < l->rows ? l->n - r : l->rows, at = corner + r * l->D;
        gemm(NO_T, T, rows, l->n, d, l->factor, l->q + at, l->D, l->k + corner, l->D, 0, s, l->n);
        k_softmax(s, s, rows, l->n, l->causal);
        gemm(NO_T, NO_T, rows, d, l->n, 1, s, l->n, l->v + corner, l->D, 0, l->out + at, l->D);
    }
}

static void lean_task(void *arg, size_t i) { /* every width-th head, in a scratch of its own */
    const lean *l = arg;
    for (size_t item = i; item < l->batch * l->heads; item += l->width)
        lean_head(l, item, l->scratch + i * l->rows * l->n);
}

static ag_tensor *attend_lean(ag_tape *t, const clip_run *run, ag_tensor *q, ag_tensor *k, ag_tensor *v) {
    if (!q || !k || !v) return NULL;
    size_t n = q->rows, rows = run->causal || n < QUERY_ROWS ? n : QUERY_ROWS, width = t->cores ? t->cores->width : 1;
    ag_tensor *out = ag_new(t, q->batch, n, q->cols), *scratch = ag_new(t, width, rows, n);
    if (!out || !scratch) return NULL;
    lean l = {.q = q->data, .k = k->data, .v = v->data, .out = out->data, .scratch = scratch->data, .batch = q->batch, .n = n,
              .D = q->cols, .heads = run->tower->heads, .rows = rows, .width = width,
              .factor = clip_attention_factor(run->tower), .causal = run->causal};
    spread(t->cores, width, lean_task, &l);
    return out;
}

/* ---- the block ------------------------------------------------------------------------------------- */
/* x1 = x0 + W_o concat_h(A^h v^h) + b_o ;  x2 = x1 + W2 act(W1 LN2(x1) + b1) + b2   (1.6)-(1.8) */
ag_tensor *clip_block(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, clip_taps *taps,
                      bool cut) {
    clip_taps local, *p = taps ? taps : &local;
    p->x0 = cut ? ag_detach(t, x) : x;
    clip_qkv(t, run, w, p->x0, &p->q, &p->k, &p->v);
    if (!taps && !t->recording && !run->mask) {
        p->mixed = attend_lean(t, run, p->q, p->k, p->v);
    } else {
        p->A = clip_attention(t, run, p->q, p->k);
        if (cut) p->A = ag_cut(t, p->A);
        p->mixed = ag_mix(t, p->A, NO_T, p->v, run->tower->heads, 1);
    }
    p->x1 = ag_add(t, p->x0, clip_merge(t, run, w, p->mixed, taps));
    p->x2 = ag_add(t, p->x1, clip_mlp(t, run, w, p->x1, taps));
    return p->x2;
}

ag_tensor *clip_blocks(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, size_t first,
                       size_t last) {
    if (t->recording) {
        for (size_t i = first; i < last; i++) x = clip_block(t, run, &w[i], x, NULL, false);
        return x;
    }
    if (!x) return NULL;
    ag_tensor *out = ag_new(t, x->batch, x->rows, x->cols);
    if (!out) return NULL;
    memcpy(out->data, x->data, ag_size(x) * sizeof(real));
    for (size_t i = first; i < last; i++) {
        ag_mark mark = ag_tape_mark(t);
        ag_tensor *y = clip_block(t, run, &w[i], out, NULL, false);
        if (!y) return NULL;
        memcpy(out->data, y->data, ag_size(y) * sizeof(real));
        ag_tape_reset(t, mark);
    }
    return out;
}

/* ---- the last block, where one row of each picture or text is read ------------------------------------------- */
/* The other rows give it k and v; their queries and MLPs would be for nobody. (1.4)-(1.8) for the row alone */
static ag_tensor *block_of_rows(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, const uint32_t *rows) {
    if (!x) return NULL;
    ag_tensor *row = ag_reshape(t, ag_rows(t, x, rows, x->batch), x->batch, 1, x->cols), *q, *k, *v;
    clip_run still = *run;
    still.turn = NULL; /* a class token has no place */
    clip_qkv(t, &still, w, row, &q, NULL, NULL);
    clip_qkv(t, run, w, x, NULL, &k, &v);
    still.causal = false;
    ag_tensor *A = clip_attention(t, &still, q, k);
    ag_tensor *x1 = ag_add(t, row, clip_merge(t, run, w, ag_mix(t, A, NO_T, v, run->tower->heads, 1), NULL));
    return ag_add(t, x1, clip_mlp(t, run, w, x1, NULL));
}

/* Do these rows see all others? A mask may hide some; so may order, but for the last row. */
static bool sees_all(const clip_run *run, const ag_tensor *x, const uint32_t *rows) {
    for (size_t b = 0; b < x->batch; b++)
        if (run->causal && rows[b] % x->rows != x->rows - 1) return false;
    return !run->mask && (!run->turn || run->first);
}

ag_tensor *clip_blocks_read(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, const uint32_t *rows) {
    size_t layers = run->tower->layers;
    if (!x || !rows) return NULL;
    if (!t->recording && layers && sees_all(run, x, rows))
        return block_of_rows(t, run, &w[layers - 1], clip_blocks(t, run, w, x, 0, layers - 1), rows);
    size_t batch = x->batch;
    x = clip_blocks(t, run, w, x, 0, layers);
    return x ? ag_reshape(t, ag_rows(t, x, rows, batch), batch, 1, x->cols) : NULL;
}
