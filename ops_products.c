/* ops_products.c - matrix products and attention on the tape (see autograd.h; MODEL.md 8). */
#include "tape.h"

/* ---- products ------------------------------------------------------------------------------- */

static transpose flip(transpose t) { return t == T ? NO_T : T; }

/* x's gradient is op(a) op(b): into ->sum in one product, or as a tensor. */
static void give_product(ag_tape *t, ag_tensor *x, ag_tensor *a, transpose ta, ag_tensor *b, transpose tb) {
    real *sum = tape_straight(t, x);
    if (!tape_wants(x)) return;
    if (!sum) {
        tape_give(t, x, ag_matmul(t, a, ta, b, tb));
        return;
    }
    size_t m = ta == T ? a->cols : all_rows(a), k = ta == T ? all_rows(a) : a->cols;
    size_t n = tb == T ? all_rows(b) : b->cols;
    gemm_spread(t->cores, ta, tb, m, n, k, 1, a->data, a->cols, b->data, b->cols, 1, sum, n);
}

/* y = x W^T + b:  dx = g W,  dW = g^T x,  db = sum of g's rows */
static void linear_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    give_product(t, y->in[0], g, NO_T, y->in[1], NO_T);
    give_product(t, y->in[1], g, T, y->in[0], NO_T);
    if (tape_wants(y->in[2])) tape_give_row_sum(t, y->in[2], g);
}

static const struct ag_op op_linear = {"linear", linear_backward};

ag_tensor *ag_linear(ag_tape *t, ag_tensor *x, ag_tensor *W, ag_tensor *bias) {
    if (!x || !W) return NULL;
    if (W->batch != 1 || W->cols != x->cols) return tape_bad_shape(t, "linear", x, W);
    if (bias && (all_rows(bias) != 1 || bias->cols != W->rows)) return tape_bad_shape(t, "linear bias", W, bias);
    ag_tensor *y = tape_record(t, &op_linear, tape_make(t, x->batch, x->rows, W->rows, NULL), x, W, bias);
    if (!y) return NULL;
    if (bias) k_fill_rows(bias->data, y->data, all_rows(y), y->cols);
    gemm_spread(t->cores, NO_T, T, all_rows(y), y->cols, x->cols, 1, x->data, x->cols, W->data, W->cols, bias ? 1 : 0,
                y->data, y->cols);
    return y;
}

/* y = A B, A = op(a), B = op(b):  dA = g B^T,  dB = A^T g;  where a was transposed, so is its gradient */
static void matmul_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *a = y->in[0], *b = y->in[1];
    transpose ta = y->k[0] ? T : NO_T, tb = y->k[1] ? T : NO_T;
    if (ta == NO_T)
        give_product(t, a, g, NO_T, b, flip(tb));
    else
        give_product(t, a, b, tb, g, T);
    if (tb == NO_T)
        give_product(t, b, a, flip(ta), g, NO_T);
    else
        give_product(t, b, g, T, a, ta);
}

static const struct ag_op op_matmul = {"matmul", matmul_backward};

ag_tensor *ag_matmul(ag_tape *t, ag_tensor *a, transpose ta, ag_tensor *b, transpose tb) {
    if (!a || !b) return NULL;
    size_t m = ta == T ? a->cols : all_rows(a), k = ta == T ? all_rows(a) : a->cols;
    size_t n = tb == T ? all_rows(b) : b->cols;
    if (k != (tb == T ? b->cols : all_rows(b))) return tape_bad_shape(t, "matmul", a, b);
    ag_tensor *y = tape_record(t, &op_matmul, tape_make(t, 1, m, n, NULL), a, b, NULL);
    if (!y) return NULL;
    y->k[0] = ta == T, y->k[1] = tb == T;
    gemm_spread(t->cores, ta, tb, m, n, k, 1, a->data, a->cols, b->data, b->cols, 0, y->data, n);
    return y;
}

/* ---- attention: heads are columns h*d.. of [b,n,D], and stay where they lie ------------------------------- */

/* s_h = alpha a_h b_h^T:  da_h = alpha g_h b_h,  db_h = alpha g_h^T a_h */
static void scores_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *a = y->in[0], *b = y->in[1];
    if (tape_wants(a)) tape_give(t, a, ag_mix(t, g, NO_T, b, y->k[0], y->f[0]));
    if (tape_wants(b)) tape_give(t, b, ag_mix(t, g, T, a, y->k[0], y->f[0]));
}

static const struct ag_op op_scores = {"scores", scores_backward};

/* One head of one batch: i = batch * heads + head. */
static void scores_task(void *arg, size_t i) {
    const ag_tensor *s = arg, *a = s->in[0], *b = s->in[1];
    size_t heads = s->k[0], D = a->cols, d = D / heads;
    gemm(NO_T, T, s->rows, s->cols, d, s->f[0], a->data + i / heads * a->rows * D + i % heads * d, D,
         b->data + i / heads * b->rows * D + i % heads * d, D, 0, s->data + i * s->rows * s->cols, s->cols);
}

ag_tensor *ag_scores(ag_tape *t, ag_tensor *a, ag_tensor *b, size_t heads, real alpha) {
    size_t batches;
    if (!a || !b) return NULL;
    if (a->batch != b->batch || a->cols != b->cols || !heads || a->cols % heads || !size_mul(a->batch, heads, &batches))
        return tape_bad_shape(t, "scores", a, b);
    ag_tensor *s = tape_record(t, &op_scores, tape_make(t, batches, a->rows, b->rows, NULL), a, b, NULL);
    if (!s) return NULL;
    s->k[0] = heads;
    s->f[0] = alpha;
    spread(t->cores, batches, scores_task, s);
    return s;
}

/* y_h = alpha op(A_h) v_h:  dA_h = alpha g_h v_h^T (transposed: v_h g_h^T),  dv_h = alpha op(A_h)^T g_h */
static void mix_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *A = y->in[0], *v = y->in[1];
    transpose ta = y->k[1] ? T : NO_T;
    if (tape_wants(A)) tape_give(t, A, ta == T ? ag_scores(t, v, g, y->k[0], y->f[0]) : ag_scores(t, g, v, y->k[0], y->f[0]));
    if (tape_wants(v)) tape_give(t, v, ag_mix(t, A, flip(ta), g, y->k[0], y->f[0]));
}

static const struct ag_op op_mix = {"mix", mix_backward};

static void mix_task(void *arg, size_t i) {
    const ag_tensor *y = arg, *A = y->in[0], *v = y->in[1];
    size_t heads = y->k[0], D = v->cols, d = D / heads;
    gemm(y->k[1] ? T : NO_T, NO_T, y->rows, d, v->rows, y->f[0], A->data + i * A->rows * A->cols, A->cols,
         v->data + i / heads * v->rows * D + i % heads * d, D, 0, y->data + i / heads * y->rows * D + i % heads * d, D);
}

ag_tensor *ag_mix(ag_tape *t, ag_tensor *A, transpose ta, ag_tensor *v, size_t heads, real alpha) {
    if (!A || !v) return NULL;
    size_t inner = ta == T ? A->rows : A->cols, rows = ta == T ? A->cols : A->rows;
    if (!heads || A->batch / heads != v->batch || A->batch % heads || v->rows != inner || v->cols % heads)
        return tape_bad_shape(t, "mix", A, v);
    ag_tensor *y = tape_record(t, &op_mix, tape_make(t, v->batch, rows, v->cols, NULL), A, v, NULL);
    if (!y) return NULL;
    y->k[0] = heads, y->k[1] = ta == T;
    y->f[0] = alpha;
    spread(t->cores, A->batch, mix_task, y);
    return y;
}

