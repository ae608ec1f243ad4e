/* ops_each.c - element by element: activations, sums, functions of one number (see autograd.h; MODEL.md 8). */
#include "tape.h"
#include <math.h>
#include <string.h>

/* ---- activations ---------------------------------------------------------------------------- */

static ag_tensor *act(ag_tape *t, ag_tensor *x, act_kind kind, int order, real *known);

/* y = act^(k)(x):  dx = g act^(k+1)(x) */
static void act_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    int order = (int)y->k[1];
    if (order == 2)
        fault_set(&t->fault, FAULT_ORDER, "act", (size_t[]){3}, 1);
    else
        tape_give(t, y->in[0], ag_mul(t, g, act(t, y->in[0], (act_kind)y->k[0], order + 1, y->keep[0])));
}

static const struct ag_op op_act = {"act", act_backward};

static void act_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data + first;
    act_kind kind = (act_kind)y->k[0];
    if (y->keep[0])
        k_act_both(kind, x, y->data + first, y->keep[0] + first, last - first);
    else
        k_act(kind, (int)y->k[1], x, y->data + first, last - first);
}

/* known: the result, where it is known already. The value keeps its derivative, which costs little beside it. */
static ag_tensor *act(ag_tape *t, ag_tensor *x, act_kind kind, int order, real *known) {
    ag_tensor *y = tape_record(t, &op_act, tape_make(t, x->batch, x->rows, x->cols, known), x, NULL, NULL);
    if (!y) return NULL;
    y->k[0] = kind, y->k[1] = (size_t)order;
    if (known) return y;
    if (y->op && order == 0 && !(y->keep[0] = tape_take(t, ag_size(x), sizeof(real)))) return NULL;
    return tape_run(t, y, ag_size(x), 1, act_rows);
}

ag_tensor *ag_act(ag_tape *t, ag_tensor *x, act_kind kind, int order) {
    if (!x) return NULL;
    if (order >= 0 && order <= 2) return act(t, x, kind, order, NULL);
    fault_set(&t->fault, FAULT_ORDER, "act", (size_t[]){(size_t)order}, 1);
    return NULL;
}

static void step_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    for (size_t i = first; i < last; i++) y->data[i] = x[i] > 0 ? (real)1 : (real)0;
}

/* y = max(x, 0):  dx = g step(x), and step is a constant: its own derivative is 0 */
static void relu_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *x = y->in[0], *step = ag_new(t, x->batch, x->rows, x->cols);
    if (step) step->in[0] = x;
    tape_give(t, x, ag_mul(t, g, tape_run(t, step, ag_size(x), 1, step_rows)));
}

static const struct ag_op op_relu = {"relu", relu_backward};

static void relu_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    for (size_t i = first; i < last; i++) y->data[i] = x[i] < 0 ? (real)0 : x[i]; /* NaN stays NaN */
}

ag_tensor *ag_relu(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = tape_like(t, &op_relu, x, NULL, NULL);
    return y ? tape_run(t, y, ag_size(y), 1, relu_rows) : NULL;
}

/* ---- element by element, two inputs ----------------------------------------------------------- */

/* The row of b that meets row r of y: where b has one row, or one batch, it is always that. */
static const real *partner(const ag_tensor *b, const ag_tensor *y, size_t r) {
    size_t i = b->batch == 1 ? 0 : r / y->rows, j = b->rows == 1 ? 0 : r % y->rows;
    return b->data + (i * b->rows + j) * b->cols;
}

/* A loop for rows of y = a OP b, b repeated where it is 1. */
#define PAIR_ROWS(NAME, OP)                                                                                            \
    static void NAME(ag_tensor *y, size_t first, size_t last) {                                                        \
        const ag_tensor *b = y->in[1];                                                                                 \
        size_t n = y->cols;                                                                                            \
        if (same_shape(y, b)) {                                                                                        \
            n *= last - first; /* one long row */                                                                      \
            last = first + 1;                                                                                          \
        }                                                                                                              \
        for (size_t r = first; r < last; r++) {                                                                        \
            const real *p = y->in[0]->data + r * y->cols, *q = partner(b, y, r);                                       \
            real *restrict out = y->data + r * y->cols;                                                                \
            if (b->cols == y->cols)                                                                                    \
                for (size_t i = 0; i < n; i++) out[i] = p[i] OP q[i];                                                  \
            else                                                                                                       \
                for (size_t i = 0; i < n; i++) out[i] = p[i] OP q[0];                                                  \
        }                                                                                                              \
    }
PAIR_ROWS(add_rows, +)
PAIR_ROWS(sub_rows, -)
PAIR_ROWS(mul_rows, *)

static ag_tensor *pair(ag_tape *t, const struct ag_op *op, ag_tensor *a, ag_tensor *b, row_loop *loop) {
    if (!a || !b) return NULL;
    if ((b->batch != 1 && b->batch != a->batch) || (b->rows != 1 && b->rows != a->rows) ||
        (b->cols != 1 && b->cols != a->cols))
        return tape_bad_shape(t, op->name, a, b);
    return tape_run(t, tape_like(t, op, a, b, NULL), all_rows(a), a->cols, loop);
}

/* g summed to the shape of x, which was repeated. */
static ag_tensor *fit_to(ag_tape *t, ag_tensor *g, const ag_tensor *x) {
    return ag_fit(t, g, x->batch, x->rows, x->cols);
}

/* y = a + b:  da = g,  db = g */
static void add_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (tape_wants(y->in[0])) tape_give(t, y->in[0], g);
    if (tape_wants(y->in[1])) tape_give(t, y->in[1], fit_to(t, g, y->in[1]));
}

static const struct ag_op op_add = {"add", add_backward};

ag_tensor *ag_add(ag_tape *t, ag_tensor *a, ag_tensor *b) { return pair(t, &op_add, a, b, add_rows); }

/* y = a - b:  da = g,  db = -g */
static void sub_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (tape_wants(y->in[0])) tape_give(t, y->in[0], g);
    if (tape_wants(y->in[1])) tape_give(t, y->in[1], ag_scale(t, fit_to(t, g, y->in[1]), -1, 0));
}

static const struct ag_op op_sub = {"sub", sub_backward};

ag_tensor *ag_sub(ag_tape *t, ag_tensor *a, ag_tensor *b) { return pair(t, &op_sub, a, b, sub_rows); }

/* y = a b:  da = g b,  db = g a */
static void mul_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (tape_wants(y->in[0])) tape_give(t, y->in[0], ag_mul(t, g, y->in[1]));
    if (tape_wants(y->in[1])) tape_give(t, y->in[1], fit_to(t, ag_mul(t, g, y->in[0]), y->in[1]));
}

static const struct ag_op op_mul = {"mul", mul_backward};

ag_tensor *ag_mul(ag_tape *t, ag_tensor *a, ag_tensor *b) { return pair(t, &op_mul, a, b, mul_rows); }

/* y = sum(a b):  da = g b,  db = g a */
static void dot_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (tape_wants(y->in[0])) tape_give(t, y->in[0], ag_mul(t, y->in[1], g));
    if (tape_wants(y->in[1])) tape_give(t, y->in[1], ag_mul(t, y->in[0], g));
}

static const struct ag_op op_dot = {"dot", dot_backward};

ag_tensor *ag_dot(ag_tape *t, ag_tensor *a, ag_tensor *b) {
    if (!a || !b) return NULL;
    if (!same_shape(a, b)) return tape_bad_shape(t, "dot", a, b);
    ag_tensor *y = tape_record(t, &op_dot, tape_make(t, 1, 1, 1, NULL), a, b, NULL);
    if (y) y->data[0] = k_dot(a->data, b->data, ag_size(a));
    return y;
}

/* ---- element by element, one input ------------------------------------------------------------ */

/* y = factor x + shift:  dx = factor g */
static void scale_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { tape_give(t, y->in[0], ag_scale(t, g, y->f[0], 0)); }

static const struct ag_op op_scale = {"scale", scale_backward};

static void scale_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    real *restrict out = y->data, factor = y->f[0], shift = y->f[1];
    for (size_t i = first; i < last; i++) out[i] = factor * x[i] + shift;
}

ag_tensor *ag_scale(ag_tape *t, ag_tensor *x, real factor, real shift) {
    ag_tensor *y = tape_like(t, &op_scale, x, NULL, NULL);
    if (!y) return NULL;
    y->f[0] = factor, y->f[1] = shift;
    return tape_run(t, y, ag_size(y), 1, scale_rows);
}

/* y = x^p:  dx = g p x^(p-1) */
static void pow_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    real p = y->f[0];
    tape_give(t, y->in[0], ag_mul(t, g, ag_scale(t, ag_pow(t, y->in[0], p - 1), p, 0)));
}

static const struct ag_op op_pow = {"pow", pow_backward};

static void pow_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    for (size_t i = first; i < last; i++) y->data[i] = (real)pow((double)x[i], (double)y->f[0]);
}

ag_tensor *ag_pow(ag_tape *t, ag_tensor *x, real p) {
    ag_tensor *y = tape_like(t, &op_pow, x, NULL, NULL);
    if (!y) return NULL;
    y->f[0] = p;
    return tape_run(t, y, ag_size(y), 1, pow_rows);
}

/* y = exp(x):  dx = g y */
static void exp_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { tape_give(t, y->in[0], ag_mul(t, g, y)); }

static const struct ag_op op_exp = {"exp", exp_backward};

static void exp_rows(ag_tensor *y, size_t first, size_t last) {
    k_exp(y->in[0]->data + first, y->data + first, last - first);
}

ag_tensor *ag_exp(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = tape_like(t, &op_exp, x, NULL, NULL);
    return y ? tape_run(t, y, ag_size(y), 1, exp_rows) : NULL;
}

/* y = log(x):  dx = g / x */
static void log_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_mul(t, g, ag_pow(t, y->in[0], -1)));
}

static const struct ag_op op_log = {"log", log_backward};

static void log_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    for (size_t i = first; i < last; i++) y->data[i] = (real)log((double)x[i]);
}

ag_tensor *ag_log(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = tape_like(t, &op_log, x, NULL, NULL);
    return y ? tape_run(t, y, ag_size(y), 1, log_rows) : NULL;
}

/* ---- sigmoid and its kin ------------------------------------------------------------------------ */

/* y = 1/(1 + e^-x):  dx = g y (1 - y) */
static void sigmoid_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_mul(t, ag_mul(t, g, y), ag_scale(t, y, -1, 1)));
}

static const struct ag_op op_sigmoid = {"sigmoid", sigmoid_backward};

static void sigmoid_rows(ag_tensor *y, size_t first, size_t last) {
    for (size_t i = first; i < last; i++) {
        double x = (double)y->in[0]->data[i], e = exp(-fabs(x)); /* never overflows */
        y->data[i] = (real)((x < 0 ? e : 1) / (1 + e));
    }
}

ag_tensor *ag_sigmoid(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = tape_like(t, &op_sigmoid, x, NULL, NULL);
    return y ? tape_run(t, y, ag_size(y), 1, sigmoid_rows) : NULL;
}

ag_tensor *ag_silu(ag_tape *t, ag_tensor *x) { return ag_mul(t, x, ag_sigmoid(t, x)); }

/* y = tanh x:  dx = g (1 - y^2) */
static void tanh_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_mul(t, g, ag_scale(t, ag_mul(t, y, y), -1, 1)));
}

static const struct ag_op op_tanh = {"tanh", tanh_backward};

static void tanh_rows(ag_tensor *y, size_t first, size_t last) {
    for (size_t i = first; i < last; i++) y->data[i] = (real)tanh((double)y->in[0]->data[i]);
}

ag_tensor *ag_tanh(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = tape_like(t, &op_tanh, x, NULL, NULL);
    return y ? tape_run(t, y, ag_size(y), 1, tanh_rows) : NULL;
}

/* y = log(1 + e^x):  dx = g sigmoid(x) */
static void softplus_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_mul(t, g, ag_sigmoid(t, y->in[0])));
}

static const struct ag_op op_softplus = {"softplus", softplus_backward};

static void softplus_rows(ag_tensor *y, size_t first, size_t last) {
    for (size_t i = first; i < last; i++) {
        double x = (double)y->in[0]->data[i];
        y->data[i] = (real)((x > 0 ? x : 0) + log1p(exp(-fabs(x))));
    }
}

ag_tensor *ag_softplus(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = tape_like(t, &op_softplus, x, NULL, NULL);
    return y ? tape_run(t, y, ag_size(y), 1, softplus_rows) : NULL;
}

/* ---- polygamma: the logarithm of the gamma function and its derivatives ------------------------------- */

/* psi^(m)(x), x > 0, m >= 0: shifted up by psi^(m)(x) = psi^(m)(x+1) - (-1)^m m!/x^(m+1), then the asymptotic series
 * (Abramowitz & Stegun 6.3.18, 6.4.11) with B_2k. */
static double polygamma(int m, double x) {
    static const double B[] = {1. / 6, -1. / 30, 1. / 42, -1. / 30, 5. / 66, -691. / 2730, 7. / 6};
    double sign = m % 2 ? -1 : 1, factorial = 1, sum = 0;
    for (int i = 2; i <= m; i++) factorial *= i;
    for (; x < 20; x++) sum -= sign * factorial / pow(x, m + 1);
    if (m == 0) sum += log(x) - 0.5 / x;
    else sum -= sign * (factorial / m / pow(x, m) + 0.5 * factorial / pow(x, m + 1));
    for (int k = 1; k <= 7; k++) {
        double ratio = 1; /* (2k+m-1)!/(2k)! */
        for (int i = 2 * k + 1; i <= 2 * k + m - 1; i++) ratio *= i;
        if (m == 0) ratio = 1. / (2 * k);
        sum -= sign * B[k - 1] * ratio / pow(x, 2 * k + m);
    }
    return sum;
}

/* y = psi^(m)(x):  dx = g psi^(m+1)(x) */
static void polygamma_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    tape_give(t, y->in[0], ag_mul(t, g, ag_polygamma(t, y->in[0], (int)y->k[0])));
}

static const struct ag_op op_polygamma = {"polygamma", polygamma_backward};

static void polygamma_rows(ag_tensor *y, size_t first, size_t last) {
    for (size_t i = first; i < last; i++) {
        double x = (double)y->in[0]->data[i];
        y->data[i] = (real)(!(x > 0) ? NAN : y->k[0] == 0 ? lgamma(x) : polygamma((int)y->k[0] - 1, x));
    }
}

ag_tensor *ag_polygamma(ag_tape *t, ag_tensor *x, int m) {
    if (m < -1 || m > 8) {
        fault_set(&t->fault, FAULT_RANGE, "polygamma", (size_t[]){(size_t)m, 0, 8}, 3);
        return NULL;
    }
    ag_tensor *y = tape_like(t, &op_polygamma, x, NULL, NULL);
    if (!y) return NULL;
    y->k[0] = (size_t)(m + 1); /* 0: the logarithm itself */
    return tape_run(t, y, ag_size(y), 1, polygamma_rows);
}

/* ---- sums and broadcasts ---------------------------------------------------------------------- */

/* y = x summed or repeated along some dimensions:  dx = g repeated or summed along the same ones */
static void fit_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { tape_give(t, y->in[0], fit_to(t, g, y->in[0])); }

static const struct ag_op op_fit = {"fit", fit_backward};

/* y (n columns) = x (m columns), or += ; one of the two may be 1. */
static void fit_row(const real *x, size_t m, real *restrict y, size_t n, bool more) {
    if (m == n && !more)
        memcpy(y, x, n * sizeof *y);
    else if (m == n)
        k_axpy(1, x, y, n);
    else if (n == 1)
        y[0] = k_sum(x, m) + (more ? y[0] : 0);
    else
        for (size_t i = 0; i < n; i++) y[i] = x[0] + (more ? y[i] : 0);
}

static void fit_rows(ag_tensor *y, size_t first, size_t last) {
    const ag_tensor *x = y->in[0];
    size_t batches = y->batch == 1 ? x->batch : 1, rows = y->rows == 1 ? x->rows : 1; /* that meet in one row of y */
    for (size_t r = first; r < last; r++)
        for (size_t i = 0; i < batches; i++) {
            const real *from = partner(x, y, r) + i * x->rows * x->cols;
            for (size_t j = 0; j < rows; j++)
                fit_row(from + j * x->cols, x->cols, y->data + r * y->cols, y->cols, i + j > 0);
        }
}

static bool fits(size_t a, size_t b) { return a == b || a == 1 || b == 1; }

ag_tensor *ag_fit(ag_tape *t, ag_tensor *x, size_t batch, size_t rows, size_t cols) {
    if (!x) return NULL;
    ag_tensor want = {.batch = batch, .rows = rows, .cols = cols};
    if (!fits(x->batch, batch) || !fits(x->rows, rows) || !fits(x->cols, cols)) return tape_bad_shape(t, "fit", x, &want);
    if (t->fault.code || same_shape(x, &want)) return t->fault.code ? NULL : x;
    ag_tensor *y = tape_record(t, &op_fit, tape_make(t, batch, rows, cols, NULL), x, NULL, NULL);
    return tape_run(t, y, batch * rows, cols, fit_rows);
}

ag_tensor *ag_sum(ag_tape *t, ag_tensor *x) { return ag_fit(t, x, 1, 1, 1); }

ag_tensor *ag_normalize(ag_tape *t, ag_tensor *x) {
    return ag_mul(t, x, ag_pow(t, tape_row_sum(t, ag_mul(t, x, x)), (real)-0.5));
}

