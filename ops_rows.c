/* ops_rows.c - what works on rows: softmax, layer norm, rows picked and put, rows turned (see autograd.h; MODEL.md 8). */
#include "tape.h"
#include <math.h>
#include <string.h>

/* ---- softmax -------------------------------------------------------------------------------- */

static ag_tensor *softmax_grad(ag_tape *t, ag_tensor *y, ag_tensor *g);

/* d = y (g - sum(g y)), the softmax's J^T g. J is symmetric, so dg = J h, and
 * dy = h (g - sum(g y)) - g sum(h y)  for an incoming h */
static void softmax_grad_backward(ag_tape *t, ag_tensor *d, ag_tensor *h) {
    ag_tensor *y = d->in[0], *g = d->in[1];
    if (tape_wants(g)) tape_give(t, g, softmax_grad(t, y, h));
    if (tape_wants(y)) {
        ag_tensor *left = ag_mul(t, h, ag_sub(t, g, tape_row_sum(t, ag_mul(t, g, y))));
        tape_give(t, y, ag_sub(t, left, ag_mul(t, g, tape_row_sum(t, ag_mul(t, h, y)))));
    }
}

static const struct ag_op op_softmax_grad = {"softmax_grad", softmax_grad_backward};

static void softmax_grad_rows(ag_tensor *d, size_t first, size_t last) {
    size_t at = first * d->cols;
    k_softmax_grad(d->in[0]->data + at, d->in[1]->data + at, d->data + at, last - first, d->cols);
}

static ag_tensor *softmax_grad(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *d = tape_like(t, &op_softmax_grad, y, g, NULL);
    return tape_run(t, d, all_rows(y), y->cols, softmax_grad_rows);
}

/* y_i = exp(s_i) / sum_j exp(s_j):  ds = y (g - sum(g y)).  What the causal mask hides has y = 0, and so ds = 0. */
static void softmax_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { tape_give(t, y->in[0], softmax_grad(t, y, g)); }

static const struct ag_op op_softmax = {"softmax", softmax_backward};

static void softmax_rows(ag_tensor *y, size_t first, size_t last) {
    size_t at = first * y->cols;
    k_softmax(y->in[0]->data + at, y->data + at, last - first, y->cols, false);
}

/* The causal mask starts anew in every matrix of the batch, so that these are the units here. */
static void softmax_causal(ag_tensor *y, size_t first, size_t last) {
    for (size_t i = first, size = y->rows * y->cols; i < last; i++)
        k_softmax(y->in[0]->data + i * size, y->data + i * size, y->rows, y->cols, true);
}

ag_tensor *ag_softmax(ag_tape *t, ag_tensor *s, bool causal) {
    if (!s) return NULL;
    if (causal && s->rows != s->cols) return tape_bad_shape(t, "causal softmax", s, s);
    ag_tensor *y = tape_like(t, &op_softmax, s, NULL, NULL);
    return causal ? tape_run(t, y, s->batch, s->rows * s->cols, softmax_causal)
                  : tape_run(t, y, all_rows(s), s->cols, softmax_rows);
}

/* y = s - log(sum exp(s)):  ds = g - exp(y) sum(g) */
static void logsoftmax_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_sub(t, g, ag_mul(t, ag_exp(t, y), tape_row_sum(t, g))));
}

static const struct ag_op op_logsoftmax = {"logsoftmax", logsoftmax_backward};

static void logsoftmax_rows(ag_tensor *y, size_t first, size_t last) {
    for (size_t r = first, n = y->cols; r < last; r++) {
        const real *s = y->in[0]->data + r * n;
        real *out = y->data + r * n, top = s[0];
        for (size_t i = 1; i < n; i++) top = s[i] > top ? s[i] : top;
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += exp((double)(s[i] - top));
        real shift = (real)log(sum);
        for (size_t i = 0; i < n; i++) out[i] = s[i] - top - shift;
    }
}

ag_tensor *ag_logsoftmax(ag_tape *t, ag_tensor *s) {
    ag_tensor *y = tape_like(t, &op_logsoftmax, s, NULL, NULL);
    return y ? tape_run(t, y, all_rows(y), y->cols, logsoftmax_rows) : NULL;
}

/* ---- layernorm ------------------------------------------------------------------------------ */

static ag_tensor *row_mean(ag_tape *t, ag_tensor *x) {
    return x ? ag_scale(t, tape_row_sum(t, x), 1 / (real)x->cols, 0) : NULL;
}

/* 1/sqrt(var + eps) of x's rows, [b,r,1]: as the forward kept it, or as ops when they are to be recorded. */
static ag_tensor *row_rstd(ag_tape *t, ag_tensor *x, real eps, const real *kept) {
    if (!t->recording) return ag_constant(t, kept, x->batch, x->rows, 1);
    ag_tensor *centred = ag_sub(t, x, row_mean(t, x));
    ag_tensor *var = row_mean(t, ag_mul(t, centred, centred));
    return ag_pow(t, ag_scale(t, var, 1, eps), (real)-0.5);
}

static ag_tensor *layernorm_grad(ag_tape *t, ag_tensor *x, ag_tensor *gamma, ag_tensor *g, const ag_tensor *y);

/* d = J u, u = gamma g, J = rstd (I - 1 1^T/n - xhat xhat^T/n), symmetric. For an incoming h:
 *     du = J h,  dx = -rstd (xhat mean(h d) + (J h) mean(u xhat) + d mean(h xhat))
 * (the first term is J's rstd changing with x, the other two its xhat) */
static void layernorm_grad_backward(ag_tape *t, ag_tensor *d, ag_tensor *h) {
    ag_tensor *x = d->in[0], *gamma = d->in[1], *g = d->in[2];
    ag_tensor *Jh = layernorm_grad(t, x, NULL, h, d);
    if (tape_wants(g)) tape_give(t, g, gamma ? ag_mul(t, Jh, gamma) : ag_scale(t, Jh, 1, 0));
    if (tape_wants(gamma)) tape_give_row_sum(t, gamma, ag_mul(t, Jh, g));
    if (!tape_wants(x)) return;
    ag_tensor *xhat = ag_layernorm(t, x, NULL, NULL, d->f[0]);
    ag_tensor *u = gamma ? ag_mul(t, g, gamma) : g;
    ag_tensor *dx = ag_mul(t, xhat, row_mean(t, ag_mul(t, h, d)));
    dx = ag_add(t, dx, ag_mul(t, Jh, row_mean(t, ag_mul(t, u, xhat))));
    dx = ag_add(t, dx, ag_mul(t, d, row_mean(t, ag_mul(t, h, xhat))));
    tape_give(t, x, ag_mul(t, dx, ag_scale(t, row_rstd(t, x, d->f[0], d->keep[1]), -1, 0)));
}

static const struct ag_op op_layernorm_grad = {"layernorm_grad", layernorm_grad_backward};

static void layernorm_grad_rows(ag_tensor *d, size_t first, size_t last) {
    const ag_tensor *x = d->in[0], *gamma = d->in[1], *g = d->in[2];
    size_t at = first * d->cols;
    k_layernorm_grad(x->data + at, d->keep[0] + first, d->keep[1] + first, gamma ? gamma->data : NULL, g->data + at,
                     d->data + at, NULL, NULL, last - first, d->cols);
}

/* y: the layernorm of x, or its gradient: the means and deviations it kept serve again. */
static ag_tensor *layernorm_grad(ag_tape *t, ag_tensor *x, ag_tensor *gamma, ag_tensor *g, const ag_tensor *y) {
    ag_tensor *d = tape_like(t, &op_layernorm_grad, x, gamma, g);
    if (!d) return NULL;
    d->f[0] = y->f[0];
    d->keep[0] = y->keep[0], d->keep[1] = y->keep[1];
    return tape_run(t, d, all_rows(x), x->cols, layernorm_grad_rows);
}

/* y = xhat gamma + beta, xhat = (x - mean) rstd:  dx = J(gamma g),  dgamma = sum of rows of g xhat,  dbeta = of g */
static void layernorm_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *x = y->in[0], *gamma = y->in[1], *beta = y->in[2];
    if (tape_wants(x)) tape_give(t, x, layernorm_grad(t, x, gamma, g, y));
    if (tape_straight(t, gamma) && tape_straight(t, beta)) {
        k_layernorm_grad(x->data, y->keep[0], y->keep[1], NULL, g->data, NULL, gamma->sum, beta->sum, all_rows(x),
                         x->cols);
        return;
    }
    if (tape_wants(gamma)) tape_give_row_sum(t, gamma, ag_mul(t, g, ag_layernorm(t, x, NULL, NULL, y->f[0])));
    if (tape_wants(beta)) tape_give_row_sum(t, beta, g);
}

static const struct ag_op op_layernorm = {"layernorm", layernorm_backward};

static void layernorm_rows(ag_tensor *y, size_t first, size_t last) {
    const ag_tensor *gamma = y->in[1], *beta = y->in[2];
    size_t at = first * y->cols;
    bool kept = y->keep[0];
    k_layernorm(y->in[0]->data + at, gamma ? gamma->data : NULL, beta ? beta->data : NULL, y->f[0], y->data + at,
                kept ? y->keep[0] + first : NULL, kept ? y->keep[1] + first : NULL, last - first, y->cols);
}

ag_tensor *ag_layernorm(ag_tape *t, ag_tensor *x, ag_tensor *gamma, ag_tensor *beta, real eps) {
    if (!x) return NULL;
    if (gamma && (all_rows(gamma) != 1 || gamma->cols != x->cols)) return tape_bad_shape(t, "layernorm", x, gamma);
    if (beta && (all_rows(beta) != 1 || beta->cols != x->cols)) return tape_bad_shape(t, "layernorm", x, beta);
    ag_tensor *y = tape_like(t, &op_layernorm, x, gamma, beta);
    if (!y) return NULL;
    y->f[0] = eps;
    if (y->op) /* only a backward asks for them */
        for (int i = 0; i < 2; i++)
            if (!(y->keep[i] = tape_take(t, all_rows(x), sizeof(real)))) return NULL;
    return tape_run(t, y, all_rows(x), x->cols, layernorm_rows);
}

/* ---- columns ------------------------------------------------------------------------------------ */

/* y = x's columns first..first+cols-1:  dx = g between zeros */
static void columns_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_between(t, g, y->k[0], y->in[0]->cols));
}

static const struct ag_op op_columns = {"columns", columns_backward};

static void columns_rows(ag_tensor *y, size_t first, size_t last) {
    const ag_tensor *x = y->in[0];
    for (size_t r = first; r < last; r++)
        memcpy(y->data + r * y->cols, x->data + r * x->cols + y->k[0], y->cols * sizeof *y->data);
}

ag_tensor *ag_columns(ag_tape *t, ag_tensor *x, size_t first, size_t cols) {
    if (!x) return NULL;
    if (first > x->cols || cols > x->cols - first) {
        fault_set(&t->fault, FAULT_RANGE, "columns", (size_t[]){first + cols, 1, x->cols}, 3);
        return NULL;
    }
    ag_tensor *y = tape_record(t, &op_columns, tape_make(t, x->batch, x->rows, cols, NULL), x, NULL, NULL);
    if (y) y->k[0] = first;
    return y ? tape_run(t, y, all_rows(y), cols, columns_rows) : NULL;
}

/* y = x between zeros:  dx = g's columns there */
static void between_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_columns(t, g, y->k[0], y->in[0]->cols));
}

static const struct ag_op op_between = {"between", between_backward};

static void between_rows(ag_tensor *y, size_t first, size_t last) {
    const ag_tensor *x = y->in[0];
    memset(y->data + first * y->cols, 0, (last - first) * y->cols * sizeof *y->data);
    for (size_t r = first; r < last; r++)
        memcpy(y->data + r * y->cols + y->k[0], x->data + r * x->cols, x->cols * sizeof *y->data);
}

ag_tensor *ag_between(ag_tape *t, ag_tensor *x, size_t first, size_t cols) {
    if (!x) return NULL;
    if (first > cols || x->cols > cols - first) {
        fault_set(&t->fault, FAULT_RANGE, "between", (size_t[]){first + x->cols, 1, cols}, 3);
        return NULL;
    }
    ag_tensor *y = tape_record(t, &op_between, tape_make(t, x->batch, x->rows, cols, NULL), x, NULL, NULL);
    if (y) y->k[0] = first;
    return y ? tape_run(t, y, all_rows(y), cols, between_rows) : NULL;
}

/* [a; b] along the rows, in each of the batch: both put in place and added. */
ag_tensor *ag_join(ag_tape *t, ag_tensor *a, ag_tensor *b) {
    if (!a || !b) return NULL;
    if (a->batch != b->batch || a->cols != b->cols) return tape_bad_shape(t, "join", a, b);
    size_t n = a->rows + b->rows, B = a->batch;
    uint32_t *index = tape_take(t, B * n, sizeof *index), *behind = index + B * a->rows;
    if (!index) return NULL;
    for (size_t i = 0; i < B; i++) {
        for (size_t r = 0; r < a->rows; r++) index[i * a->rows + r] = (uint32_t)(i * n + r);
        for (size_t r = 0; r < b->rows; r++) behind[i * b->rows + r] = (uint32_t)(i * n + a->rows + r);
    }
    return ag_add(t, ag_scatter_rows(t, a, index, B, n), ag_scatter_rows(t, b, behind, B, n));
}

/* ---- rows and places ---------------------------------------------------------------------------- */

/* y = x in another shape:  dx = g in x's shape, which tape_give sees to */
static void reshape_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { tape_give(t, y->in[0], g); }

static const struct ag_op op_reshape = {"reshape", reshape_backward};

ag_tensor *ag_reshape(ag_tape *t, ag_tensor *x, size_t batch, size_t rows, size_t cols) {
    if (!x || t->fault.code) return NULL;
    ag_tensor want = {.batch = batch, .rows = rows, .cols = cols};
    size_t size = 0;
    if (same_shape(x, &want)) return x;
    if (!size_mul(batch, rows, &size) || !size_mul(size, cols, &size) || size != ag_size(x))
        return tape_bad_shape(t, "reshape", x, &want);
    ag_tensor *y = tape_record(t, &op_reshape, tape_make(t, batch, rows, cols, x->data), x, NULL, NULL);
    if (y) y->shared = x->shared; /* the same buffer, the same rules for writing in it */
    return y;
}

/* A checked copy of index, in the arena. */
static const uint32_t *copy_index(ag_tape *t, const char *op, const uint32_t *index, size_t count, size_t rows) {
    uint32_t *copy = index ? tape_take(t, count, sizeof *copy) : NULL;
    for (size_t i = 0; copy && i < count; i++) {
        if (index[i] >= rows) {
            fault_set(&t->fault, FAULT_RANGE, op, (size_t[]){index[i], 0, rows - 1}, 3);
            return NULL;
        }
        copy[i] = index[i];
    }
    return copy;
}

static void add_at(const real *rows, const uint32_t *index, size_t count, size_t cols, real *out) {
    for (size_t i = 0; i < count; i++) k_axpy(1, rows + i * cols, out + index[i] * cols, cols);
}

/* y_i = x_index(i):  dx is g scattered; into ->sum without a zeroed table of all rows */
static void rows_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *x = y->in[0];
    if (tape_straight(t, x))
        add_at(g->data, y->aux, y->rows, y->cols, x->sum);
    else
        tape_give(t, x, ag_scatter_rows(t, g, y->aux, x->batch, x->rows));
}

static const struct ag_op op_rows = {"rows", rows_backward};

/* index: checked, and in the arena */
static ag_tensor *rows_at(ag_tape *t, ag_tensor *x, const uint32_t *index, size_t count) {
    ag_tensor *y = tape_record(t, &op_rows, tape_make(t, 1, count, x->cols, NULL), x, NULL, NULL);
    if (!y) return NULL;
    y->aux = index;
    for (size_t i = 0; i < count; i++)
        memcpy(y->data + i * y->cols, x->data + index[i] * y->cols, y->cols * sizeof *y->data);
    return y;
}

ag_tensor *ag_rows(ag_tape *t, ag_tensor *x, const uint32_t *index, size_t count) {
    if (!x || t->fault.code || !(index = copy_index(t, "rows", index, count, all_rows(x)))) return NULL;
    return rows_at(t, x, index, count);
}

ag_tensor *ag_some_rows(ag_tape *t, ag_tensor *x, size_t first, size_t count) {
    if (!x || t->fault.code) return NULL;
    if (first > x->rows || count > x->rows - first) {
        fault_set(&t->fault, FAULT_RANGE, "rows", (size_t[]){first + count, 1, x->rows}, 3);
        return NULL;
    }
    uint32_t *index = tape_take(t, x->batch * count, sizeof *index);
    for (size_t i = 0; index && i < x->batch * count; i++) index[i] = (uint32_t)(i / count * x->rows + first + i % count);
    return index ? ag_reshape(t, rows_at(t, x, index, x->batch * count), x->batch, count, x->cols) : NULL;
}

/* y_index(i) += x_i:  dx_i = g_index(i) */
static void scatter_rows_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_rows(t, g, y->aux, all_rows(y->in[0])));
}

static const struct ag_op op_scatter_rows = {"scatter_rows", scatter_rows_backward};

ag_tensor *ag_scatter_rows(ag_tape *t, ag_tensor *x, const uint32_t *index, size_t batch, size_t rows) {
    if (!x || !index) return NULL;
    ag_tensor *y = tape_record(t, &op_scatter_rows, tape_make(t, batch, rows, x->cols, NULL), x, NULL, NULL);
    if (!y || !(index = copy_index(t, "scatter_rows", index, all_rows(x), batch * rows))) return NULL;
    y->aux = index;
    memset(y->data, 0, ag_size(y) * sizeof *y->data);
    add_at(x->data, index, all_rows(x), x->cols, y->data);
    return y;
}

/* The first largest (sign 1) or smallest (-1) element is a row of x seen as one column. */
static ag_tensor *extreme(ag_tape *t, ag_tensor *x, real sign) {
    uint32_t best = 0;
    if (!x || t->fault.code) return NULL;
    if (ag_size(x) > UINT32_MAX) return tape_bad_shape(t, "max", x, x);
    for (size_t i = 1; i < ag_size(x); i++)
        if (sign * x->data[i] > sign * x->data[best]) best = (uint32_t)i;
    return ag_rows(t, ag_reshape(t, x, 1, ag_size(x), 1), &best, 1);
}

ag_tensor *ag_max(ag_tape *t, ag_tensor *x) { return extreme(t, x, 1); }

ag_tensor *ag_min(ag_tape *t, ag_tensor *x) { return extreme(t, x, -1); }

/* ---- rotary positions: pairs of columns turned by their row's angles (MODEL.md 1.20) ---------- */

static void turn_backward(ag_tape *t, ag_tensor *y, ag_tensor *g);
static const struct ag_op op_turn = {"turn", turn_backward};

/* Rows [first, last) of y: (a, b) -> (a cos - b sin, b cos + a sin), backwards with -sin; the first k[1] stay. */
static void turn_rows(ag_tensor *y, size_t first, size_t last) {
    const ag_tensor *x = y->in[0], *angle = y->in[1];
    size_t d = angle->cols, D = y->cols;
    for (size_t r = first; r < last; r++) {
        const real *from = x->data + r * D, *turn = angle->data;
        real *to = y->data + r * D;
        if (r % y->rows < y->k[1]) {
            memcpy(to, from, D * sizeof *to);
            continue;
        }
        turn += (r % y->rows - y->k[1]) * d;
        for (size_t c = 0; c < D; c += 2) {
            real cosine = turn[c % d], sine = y->f[0] * turn[c % d + 1];
            to[c] = from[c] * cosine - from[c + 1] * sine;
            to[c + 1] = from[c + 1] * cosine + from[c] * sine;
        }
    }
}

static ag_tensor *turn(ag_tape *t, ag_tensor *x, ag_tensor *angle, size_t still, real way) {
    if (!x || !angle) return NULL;
    if (angle->cols % 2 || x->cols % angle->cols || still + angle->rows != x->rows)
        return tape_bad_shape(t, "turn", x, angle);
    ag_tensor *y = tape_like(t, &op_turn, x, angle, NULL);
    if (!y) return NULL;
    y->k[1] = still;
    y->f[0] = way;
    return tape_run(t, y, all_rows(y), y->cols, turn_rows);
}

/* A rotation's transpose turns back. The angles are constants. */
static void turn_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (tape_wants(y->in[0])) tape_give(t, y->in[0], turn(t, g, y->in[1], y->k[1], -y->f[0]));
}

ag_tensor *ag_turn(ag_tape *t, ag_tensor *x, ag_tensor *angle, size_t still) { return turn(t, x, angle, still, 1); }
