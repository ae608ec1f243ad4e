/* test_autograd.c - the tape: derivatives up to the third against central differences, a CLIP block against PyTorch,
 * bookkeeping. Built in double, where differences are exact enough to judge by, and in float. */
#include "autograd.h"
#include "sys/threads.h"
#include "data/block.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#ifdef MASKINV_DOUBLE
static const double STEP = 1e-5, NUMERIC = 1e-6, CLOSE = 1e-10;
enum { MOST_ORDERS = 3 };
#else
static const double STEP = 1e-2, NUMERIC = 2e-2, CLOSE = 3e-4;
enum { MOST_ORDERS = 1 };
#endif

/* ---- a tape in a room, numbers ------------------------------------------------------------------ */
static unsigned char room[24 << 20];
static arena memory;
static ag_tape tape;

static ag_tape *fresh(size_t nodes) {
    arena_init(&memory, room, sizeof room);
    assert_true(ag_tape_init(&tape, &memory, NULL, nodes));
    return &tape;
}

static uint64_t state;

static double uniform(void) { /* -1..1 */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 33) / (double)(1u << 30) - 1;
}

static void fill(real *x, size_t n, double low, double high) { /* low <= |x| <= high, low < 0: signed */
    for (size_t i = 0; i < n; i++) {
        double u = uniform(), size = fabs(low) + fabs(u) * (high - fabs(low));
        x[i] = (real)(low < 0 && u < 0 ? -size : size);
    }
}

static ag_tensor *random_tensor(ag_tape *t, size_t b, size_t r, size_t c) {
    ag_tensor *x = ag_new(t, b, r, c);
    assert_non_null(x);
    fill(x->data, ag_size(x), -0.1, 1);
    return x;
}

/* max |a - b| / max |b|; NULL is zero */
static double distance(const real *a, const double *b, size_t n) {
    double off = 0, top = 1e-2;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((a ? (double)a[i] : 0) - b[i]);
        if (!(d <= off)) off = d;
        if (fabs(b[i]) > top) top = fabs(b[i]);
    }
    return off / top;
}

static void assert_close(const char *what, double off, double tolerance) {
    if (!(off <= tolerance)) fail_msg("%s: off by %g, allowed %g", what, off, tolerance);
}

/* ---- derivatives -------------------------------------------------------------------------------- */
typedef ag_tensor *builder(ag_tape *t, ag_tensor **in);

typedef struct {
    const char *name;
    builder *build;
    int orders;         /* 1: its gradient, 2: the gradient's gradient too... */
    double low;         /* inputs' smallest size; negative: of both signs */
    size_t shape[3][3]; /* inputs; {0}: none */
} derivative;

static size_t shape_size(const size_t *s) { return s[0] * s[1] * s[2]; }

/* F_0 = build(x) . R, F_k = sum over inputs of dF_(k-1)/dx . Q_k, with fixed random R, Q. */
static ag_tensor *functional(const derivative *d, ag_tape *t, real *const *values, ag_tensor **leaf, int k) {
    static real nothing;
    size_t count = 0;
    for (; count < 3 && shape_size(d->shape[count]); count++)
        leaf[count] = ag_leaf(t, values[count], NULL, d->shape[count][0], d->shape[count][1], d->shape[count][2]);
    ag_tensor *y = d->build(t, leaf);
    assert_int_equal(t->fault.code, FAULT_NONE);
    state = 99;
    ag_tensor *F = ag_dot(t, y, random_tensor(t, y->batch, y->rows, y->cols));
    for (int i = 0; i < k; i++) {
        assert_true(ag_grad(t, F, NULL, leaf, count, AG_DIFFERENTIABLE));
        ag_tensor *grads[3], *next = NULL;
        for (size_t j = 0; j < count; j++) grads[j] = leaf[j]->grad;
        for (size_t j = 0; j < count; j++) {
            ag_tensor *q = random_tensor(t, leaf[j]->batch, leaf[j]->rows, leaf[j]->cols);
            if (!grads[j]) continue;
            ag_tensor *part = ag_dot(t, grads[j], q);
            next = next ? ag_add(t, next, part) : part;
        }
        F = next ? next : ag_constant(t, &nothing, 1, 1, 1);
    }
    assert_int_equal(t->fault.code, FAULT_NONE);
    return F;
}

static double functional_at(const derivative *d, real *const *values, int k) {
    ag_tensor *leaf[3] = {0};
    return (double)ag_item(functional(d, fresh(5000), values, leaf, k));
}

/* dF_k/d input j by central differences, into numeric. */
static void differences(const derivative *d, real **values, size_t j, int k, double *numeric) {
    for (size_t i = 0; i < shape_size(d->shape[j]); i++) {
        real was = values[j][i];
        double at[2], where[2];
        for (int s = 0; s < 2; s++) {
            values[j][i] = was + (real)(s ? STEP : -STEP);
            where[s] = (double)values[j][i];
            at[s] = functional_at(d, values, k);
        }
        values[j][i] = was;
        numeric[i] = (at[1] - at[0]) / (where[1] - where[0]);
    }
}

static void derivatives(void **context) {
    const derivative *d = *context;
    static real buffer[3][200];
    real *values[3] = {buffer[0], buffer[1], buffer[2]};
    static double numeric[200], recorded[3][200];
    char what[100];
    state = 7;
    for (int j = 0; j < 3; j++) fill(values[j], shape_size(d->shape[j]), d->low, 1.2);
    for (int k = 0; k < d->orders && k < MOST_ORDERS; k++)
        for (int flags = AG_DIFFERENTIABLE; flags >= 0; flags--) { /* recorded or in place: the same gradient */
            ag_tensor *leaf[3] = {0};
            size_t count = 0;
            for (; count < 3 && shape_size(d->shape[count]);) count++;
            for (size_t j = 0; j < count; j++) {
                ag_tensor *F = functional(d, fresh(5000), values, leaf, k);
                assert_true(ag_grad(&tape, F, NULL, leaf, count, flags));
                const ag_tensor *g = leaf[j]->grad;
                for (size_t i = 0; flags && i < shape_size(d->shape[j]); i++)
                    recorded[j][i] = g ? (double)g->data[i] : 0;
                static real result[200];
                if (g) memcpy(result, g->data, ag_size(g) * sizeof *result);
                snprintf(what, sizeof what, "derivative %d by input %zu, flags %d", k + 1, j, flags);
                assert_close(what, distance(g ? result : NULL, recorded[j], shape_size(d->shape[j])), CLOSE);
                if (!flags) continue;
                differences(d, values, j, k, numeric);
                assert_close(what, distance(g ? result : NULL, numeric, shape_size(d->shape[j])), NUMERIC);
            }
        }
}

/* The ops. a, b, c are the inputs; small shapes with all three sizes different catch exchanged ones. */
#define OP(name, expression)                                                                                           \
    static ag_tensor *name(ag_tape *t, ag_tensor **in) {                                                               \
        ag_tensor *a = in[0], *b = in[1], *c = in[2];                                                                  \
        (void)b, (void)c;                                                                                              \
        return expression;                                                                                             \
    }
static const uint32_t picks[] = {4, 0, 4, 2, 5};
OP(linear, ag_linear(t, a, b, c))
OP(linear_plain, ag_linear(t, a, b, NULL))
OP(matmul_nn, ag_matmul(t, a, NO_T, b, NO_T))
OP(matmul_nt, ag_matmul(t, a, NO_T, b, T))
OP(matmul_tn, ag_matmul(t, a, T, b, NO_T))
OP(matmul_tt, ag_matmul(t, a, T, b, T))
OP(matmul_self, ag_matmul(t, a, NO_T, a, T))
OP(scores, ag_scores(t, a, b, 2, (real)0.7))
OP(scores_self, ag_scores(t, a, a, 2, (real)0.7))
OP(mix, ag_mix(t, a, NO_T, b, 2, (real)0.7))
OP(mix_t, ag_mix(t, a, T, b, 2, (real)0.7))
OP(softmax, ag_softmax(t, a, false))
OP(softmax_causal, ag_softmax(t, a, true))
OP(logsoftmax, ag_logsoftmax(t, a))
OP(layernorm, ag_layernorm(t, a, b, c, (real)1e-2))
OP(layernorm_gamma, ag_layernorm(t, a, b, NULL, (real)1e-2))
OP(layernorm_plain, ag_layernorm(t, a, NULL, NULL, (real)1e-2))
OP(quick_gelu, ag_act(t, a, ACT_QUICK_GELU, 0))
OP(quick_gelu_1, ag_act(t, a, ACT_QUICK_GELU, 1))
OP(gelu, ag_act(t, a, ACT_GELU, 0))
OP(gelu_1, ag_act(t, a, ACT_GELU, 1))
OP(relu, ag_relu(t, a))
OP(relu_squared, ag_mul(t, ag_relu(t, a), a))
OP(add, ag_add(t, a, b))
OP(add_twice, ag_add(t, ag_add(t, a, a), a))
OP(sub, ag_sub(t, a, b))
OP(mul, ag_mul(t, a, b))
OP(cube, ag_mul(t, ag_mul(t, a, a), a))
OP(scale, ag_scale(t, a, (real)-1.5, 2))
OP(power, ag_pow(t, a, (real)-0.5))
OP(power_3, ag_pow(t, a, 3))
OP(exponential, ag_exp(t, a))
OP(logarithm, ag_log(t, a))
OP(sigmoid, ag_sigmoid(t, a))
OP(silu, ag_silu(t, a))
OP(hyperbolic, ag_tanh(t, a))
OP(softplus, ag_softplus(t, a))
OP(log_gamma, ag_polygamma(t, a, -1))
OP(digamma, ag_polygamma(t, a, 0))
OP(columns, ag_mul(t, ag_columns(t, a, 1, 2), b))
OP(between, ag_mul(t, ag_between(t, a, 1, 6), b))
OP(join, ag_mul(t, ag_join(t, a, b), c))
OP(sum_batch, ag_fit(t, a, 1, 3, 4))
OP(sum_rows, ag_fit(t, a, 2, 1, 4))
OP(sum_cols, ag_fit(t, a, 2, 3, 1))
OP(sum_all, ag_sum(t, ag_mul(t, a, a)))
OP(repeat_all, ag_fit(t, a, 2, 3, 4))
OP(sum_and_repeat, ag_fit(t, a, 1, 3, 4))
OP(dot, ag_dot(t, a, b))
OP(dot_self, ag_dot(t, a, a))
OP(normalize, ag_normalize(t, a))
OP(largest, ag_mul(t, ag_max(t, a), ag_max(t, b)))
OP(smallest, ag_mul(t, ag_min(t, a), ag_min(t, b)))
OP(minmax, ag_mul(t, ag_sub(t, a, ag_min(t, a)), ag_pow(t, ag_sub(t, ag_max(t, a), ag_min(t, a)), -1)))
OP(reshape, ag_mul(t, ag_reshape(t, a, 3, 4, 2), b))
OP(rows, ag_mul(t, ag_rows(t, a, picks, 5), b))
OP(some_rows, ag_mul(t, ag_some_rows(t, a, 1, 2), b))
OP(scatter_rows, ag_mul(t, ag_scatter_rows(t, a, picks, 2, 3), b))
OP(attention, ag_mix(t, ag_softmax(t, ag_scores(t, a, b, 2, 1), false), NO_T, c, 2, 1))

#define X234                                                                                                           \
    { 2, 3, 4 }
#define CASE(f, orders, low, ...)                                                                                      \
    {                                                                                                                  \
        "derivatives: " #f, f, orders, low, { __VA_ARGS__ }                                                            \
    }
// clang-format off
static derivative cases[] = {
    CASE(linear, 3, -0.1, X234, {1, 5, 4}, {1, 1, 5}),
    CASE(linear_plain, 3, -0.1, X234, {1, 5, 4}),
    CASE(matmul_nn, 3, -0.1, X234, {1, 4, 5}),
    CASE(matmul_nt, 3, -0.1, X234, {1, 5, 4}),
    CASE(matmul_tn, 3, -0.1, X234, {3, 2, 5}),
    CASE(matmul_tt, 3, -0.1, X234, {1, 5, 6}),
    CASE(matmul_self, 3, -0.1, X234),
    CASE(scores, 3, -0.1, {2, 3, 4}, {2, 5, 4}),
    CASE(scores_self, 3, -0.1, X234),
    CASE(mix, 3, -0.1, {4, 3, 5}, {2, 5, 4}),
    CASE(mix_t, 3, -0.1, {4, 3, 5}, {2, 3, 4}),
    CASE(softmax, 3, -0.1, X234),
    CASE(softmax_causal, 3, -0.1, {2, 4, 4}),
    CASE(logsoftmax, 3, -0.1, X234),
    CASE(layernorm, 3, -0.1, X234, {1, 1, 4}, {1, 1, 4}),
    CASE(layernorm_gamma, 3, -0.1, X234, {1, 1, 4}),
    CASE(layernorm_plain, 3, -0.1, X234),
    CASE(quick_gelu, 2, -0.1, X234),
    CASE(quick_gelu_1, 1, -0.1, X234),
    CASE(gelu, 2, -0.1, X234),
    CASE(gelu_1, 1, -0.1, X234),
    CASE(relu, 3, -0.1, X234),
    CASE(relu_squared, 3, -0.1, X234),
    CASE(add, 3, -0.1, X234, X234),
    CASE(add, 3, -0.1, X234, {1, 3, 4}),
    CASE(add, 3, -0.1, X234, {1, 1, 4}),
    CASE(add, 3, -0.1, X234, {2, 3, 1}),
    CASE(add, 3, -0.1, X234, {2, 1, 4}),
    CASE(add_twice, 3, -0.1, X234),
    CASE(sub, 3, -0.1, X234, {2, 1, 1}),
    CASE(sub, 3, -0.1, X234, X234),
    CASE(mul, 3, -0.1, X234, X234),
    CASE(mul, 3, -0.1, X234, {1, 3, 1}),
    CASE(mul, 3, -0.1, X234, {1, 1, 1}),
    CASE(cube, 3, -0.1, X234),
    CASE(scale, 3, -0.1, X234),
    CASE(power, 3, 0.5, X234),
    CASE(power_3, 3, -0.1, X234),
    CASE(exponential, 3, -0.1, X234),
    CASE(logarithm, 3, 0.5, X234),
    CASE(sigmoid, 3, -0.1, X234),
    CASE(silu, 3, -0.1, X234),
    CASE(hyperbolic, 3, -0.1, X234),
    CASE(softplus, 3, -0.1, X234),
    CASE(log_gamma, 3, 0.5, X234),
    CASE(digamma, 2, 0.5, X234),
    CASE(columns, 3, -0.1, X234, {2, 3, 2}),
    CASE(between, 3, -0.1, X234, {2, 3, 6}),
    CASE(join, 3, -0.1, {2, 1, 4}, {2, 2, 4}, X234),
    CASE(sum_batch, 3, -0.1, X234),
    CASE(sum_rows, 3, -0.1, X234),
    CASE(sum_cols, 3, -0.1, X234),
    CASE(sum_all, 3, -0.1, X234),
    CASE(repeat_all, 3, -0.1, {1, 3, 1}),
    CASE(repeat_all, 3, -0.1, {2, 1, 4}),
    CASE(sum_and_repeat, 3, -0.1, {2, 1, 4}),
    CASE(sum_and_repeat, 3, -0.1, {5, 3, 1}),
    CASE(dot, 3, -0.1, X234, X234),
    CASE(dot_self, 3, -0.1, X234),
    CASE(normalize, 3, -0.1, X234),
    CASE(largest, 3, -0.1, X234, X234),
    CASE(smallest, 3, -0.1, X234, X234),
    CASE(minmax, 3, -0.1, X234),
    CASE(reshape, 3, -0.1, X234, {3, 4, 2}),
    CASE(rows, 3, -0.1, X234, {1, 5, 4}),
    CASE(some_rows, 3, -0.1, X234, {2, 2, 4}),
    CASE(scatter_rows, 3, -0.1, {1, 5, 4}, X234),
    CASE(attention, 3, -0.1, {2, 3, 4}, {2, 5, 4}, {2, 5, 4}),
};
// clang-format on

/* Random graphs: values used again and again, views of gradients, gradients handed on and added to in place. */
static ag_tensor *random_graph(ag_tape *t, ag_tensor **leaf, ag_tensor **middle) {
    ag_tensor *pool_[18] = {leaf[0], leaf[1], ag_add(t, leaf[0], leaf[2])};
    for (size_t n = 3; n < 18; n++) {
        ag_tensor *x = pool_[(size_t)((uniform() + 1) / 2 * (double)n)],
                  *y = pool_[(size_t)((uniform() + 1) / 2 * (double)n)];
        ag_tensor *z = NULL;
        switch ((int)((uniform() + 1) * 5)) {
        case 0:
            z = ag_add(t, x, y);
            break;
        case 1:
            z = ag_sub(t, x, y);
            break;
        case 2:
            z = ag_mul(t, x, ag_softmax(t, y, false));
            break;
        case 3:
            z = ag_reshape(t, ag_add(t, ag_reshape(t, x, 1, 6, 4), ag_reshape(t, y, 1, 6, 4)), 2, 3, 4);
            break;
        case 4:
            z = ag_act(t, x, ACT_GELU, 0);
            break;
        case 5:
            z = ag_layernorm(t, x, leaf[2], NULL, (real)0.1);
            break;
        case 6:
            z = ag_add(t, x, ag_fit(t, y, 1, 3, 1));
            break;
        case 7:
            z = ag_add(t, ag_reshape(t, y, 2, 3, 4), ag_reshape(t, y, 2, 3, 4));
            break;
        case 8:
            z = ag_reshape(t, ag_rows(t, x, (const uint32_t[]){1, 0, 3, 3, 5, 2}, 6), 2, 3, 4);
            break;
        default:
            z = ag_scale(t, ag_sub(t, y, leaf[2]), (real)0.5, 0);
            break;
        }
        pool_[n] = z;
    }
    *middle = pool_[4];
    ag_tensor *y = ag_layernorm(t, pool_[17], NULL, NULL, 1);
    for (size_t n = 14; n < 17; n++) y = ag_add(t, y, ag_layernorm(t, pool_[n], NULL, NULL, 1));
    return ag_dot(t, y, random_tensor(t, 2, 3, 4));
}

static void random_graphs(void **context) {
    (void)context;
    for (unsigned seed = 0; seed < 300; seed++) {
        real value[3][24], along[3][24], sum[24] = {0}, no_sum[24] = {0};
        double F[2], slope = 0, first[4][24] = {{0}};
        state = seed;
        for (int j = 0; j < 3; j++) fill(value[j], 24, -0.1, 1), fill(along[j], 24, -0.1, 1);
        uint64_t from_here = state;
        for (int pass = 0; pass < 4; pass++) { /* recorded, in place, and at two places beside */
            for (int j = 0; j < 3; j++)
                for (int i = 0; pass > 1 && i < 24; i++)
                    value[j][i] += (real)(pass == 2 ? -STEP : 2 * STEP) * along[j][i];
            ag_tape *t = fresh(2000);
            ag_tensor *middle, *leaf[4] = {ag_leaf(t, value[0], pass == 1 ? sum : no_sum, 2, 3, 4),
                                           ag_leaf(t, value[1], NULL, 2, 3, 4), ag_leaf(t, value[2], NULL, 1, 1, 4)};
            state = from_here;
            ag_tensor *y = random_graph(t, leaf, &middle);
            leaf[3] = middle;
            assert_true(ag_grad(t, y, NULL, leaf, 4, pass == 0 ? AG_DIFFERENTIABLE : 0));
            if (pass == 1) assert_null(leaf[0]->grad);
            if (pass > 1) F[pass - 2] = (double)ag_item(y);
            for (int j = 0; pass < 2 && j < 4; j++) {
                const real *g = pass == 1 && j == 0 ? sum : leaf[j]->grad ? leaf[j]->grad->data : NULL;
                if (pass == 1)
                    assert_close("in place against recorded", distance(g, first[j], ag_size(leaf[j])), CLOSE);
                for (size_t i = 0; g && i < ag_size(leaf[j]); i++) {
                    first[j][i] = (double)g[i];
                    if (pass == 0 && j < 3) slope += (double)g[i] * (double)along[j][i];
                }
            }
        }
        assert_close("slope", fabs((F[1] - F[0]) / (2 * STEP) - slope) / (fabs(slope) + 1), 5 * NUMERIC);
    }
}

/* ---- a whole CLIP block against PyTorch --------------------------------------------------------------- */
enum { PARAMS = sizeof block_params / sizeof *block_params };

static ag_tensor *clip_like_block(ag_tape *t, ag_tensor **p) {
    real d = (real)BLOCK_WIDTH / (real)BLOCK_HEADS, eps = (real)block_eps;
    ag_tensor *y = ag_layernorm(t, p[0], p[1], p[2], eps);
    ag_tensor *q = ag_linear(t, y, p[3], p[4]), *k = ag_linear(t, y, p[5], p[6]), *v = ag_linear(t, y, p[7], p[8]);
    ag_tensor *A = ag_softmax(t, ag_scores(t, q, k, BLOCK_HEADS, (real)(1 / sqrt((double)d))), false);
    ag_tensor *x1 = ag_add(t, p[0], ag_linear(t, ag_mix(t, A, NO_T, v, BLOCK_HEADS, 1), p[9], p[10]));
    ag_tensor *h = ag_linear(t, ag_layernorm(t, x1, p[11], p[12], eps), p[13], p[14]);
    return ag_add(t, x1, ag_linear(t, ag_act(t, h, ACT_QUICK_GELU, 0), p[15], p[16]));
}

static ag_tensor *from_doubles(ag_tape *t, const double *x, size_t b, size_t r, size_t c) {
    ag_tensor *y = ag_new(t, b, r, c);
    assert_non_null(y);
    for (size_t i = 0; i < ag_size(y); i++) y->data[i] = (real)x[i];
    return y;
}

typedef struct {
    double value, grad, sum, grad2; /* the largest distance to PyTorch's */
} block_errors;

static double larger(double a, double b) { return b <= a ? a : b; }

/* How far we are from PyTorch when weight `corrupt` has its first number off by 1e-2 (-1: none). */
static block_errors compare_block(pool *cores, int corrupt) {
    block_errors e = {0, 0, 0, 0};
    ag_tape *t = fresh(500);
    t->cores = cores;
    ag_tensor *leaf[PARAMS];
    for (size_t i = 0; i < PARAMS; i++) {
        size_t b = i == 0 ? BLOCK_BATCH : 1, r = block_params[i].rows / b, c = block_params[i].cols;
        ag_tensor *x = from_doubles(t, block_params[i].value, b, r, c), *zero = ag_new(t, b, r, c);
        memset(zero->data, 0, ag_size(zero) * sizeof(real));
        if ((int)i == corrupt) x->data[0] += (real)1e-2;
        leaf[i] = ag_leaf(t, x->data, i ? zero->data : NULL, b, r, c);
    }
    ag_tensor *r = from_doubles(t, block_r, BLOCK_BATCH, BLOCK_TOKENS, BLOCK_WIDTH);
    ag_tensor *q = from_doubles(t, block_q, BLOCK_BATCH, BLOCK_TOKENS, BLOCK_WIDTH), *y = clip_like_block(t, leaf);
    assert_non_null(y);
    e.value = distance(y->data, block_y, ag_size(y));
    assert_true(ag_grad(t, y, r, NULL, 0, 0)); /* as in training: into the sums */
    for (size_t i = 1; i < PARAMS; i++) {
        e.sum = larger(e.sum, distance(leaf[i]->sum, block_params[i].grad, ag_size(leaf[i])));
        leaf[i]->sum = NULL;
    }
    assert_true(ag_grad(t, y, r, leaf, PARAMS, AG_DIFFERENTIABLE));
    for (size_t i = 0; i < PARAMS; i++)
        e.grad = larger(e.grad, distance(leaf[i]->grad->data, block_params[i].grad, ag_size(leaf[i])));
    assert_true(ag_grad(t, ag_dot(t, leaf[0]->grad, q), NULL, leaf, PARAMS, 0));
    for (size_t i = 0; i < PARAMS; i++) {
        const real *g = leaf[i]->grad ? leaf[i]->grad->data : NULL;
        e.grad2 = larger(e.grad2, distance(g, block_params[i].grad2, ag_size(leaf[i])));
    }
    return e;
}

static void block_as_pytorch(void **context) {
    (void)context;
    pool *cores = pool_start(2);
    for (int i = 0; i < 2; i++) {
        block_errors e = compare_block(i ? cores : NULL, -1);
        assert_close("value", e.value, CLOSE);
        assert_close("gradient", e.grad, CLOSE);
        assert_close("gradient in place", e.sum, CLOSE);
        assert_close("second derivative", e.grad2, CLOSE);
    }
    pool_stop(cores);
}

static void block_notices_each_weight(void **context) {
    (void)context;
    for (int i = 0; i < PARAMS; i++) {
        block_errors e = compare_block(NULL, i);
        if (strcmp(block_params[i].name, "k_bias") == 0) continue; /* softmax does not change with it */
        assert_true(e.value > CLOSE);
        if (i < PARAMS - 1) assert_true(e.sum > CLOSE && e.grad > CLOSE && e.grad2 > CLOSE); /* fc2_bias: value only */
    }
}

/* ---- many cores: what is spread is the same ------------------------------------------------------------- */
static ag_tensor *wide(ag_tape *t, ag_tensor **in) {
    ag_tensor *x = ag_layernorm(t, in[0], in[1], NULL, (real)1e-3);
    ag_tensor *A = ag_softmax(t, ag_scores(t, x, x, 2, (real)0.3), true);
    x = ag_add(t, ag_mix(t, A, NO_T, x, 2, 1), in[2]);
    x = ag_mul(t, ag_relu(t, ag_linear(t, x, in[3], in[1])), ag_act(t, ag_sub(t, x, in[1]), ACT_GELU, 0));
    return ag_mul(t, ag_logsoftmax(t, x), ag_exp(t, ag_scale(t, x, (real)-0.5, 0)));
}

static void cores_agree(void **context) {
    (void)context;
    static real value[4][4 * 48 * 192], grads[3][4 * 48 * 192];
    static double wanted[4 * 48 * 192];
    size_t shape[4][3] = {{4, 48, 192}, {1, 1, 192}, {1, 48, 192}, {1, 192, 192}};
    pool *cores = pool_start(2);
    assert_non_null(cores);
    state = 3;
    for (int j = 0; j < 4; j++) fill(value[j], shape_size(shape[j]), -0.1, j == 3 ? 0.2 : 1);
    for (int i = 0; i < 3; i++) {        /* alone, two cores, two cores again */
        memset(room, 0xff, sizeof room); /* what no core computes shall be NaN, not the last run's */
        ag_tape *t = fresh(100);
        ag_tensor *leaf[4];
        t->cores = i ? cores : NULL;
        for (int j = 0; j < 4; j++) leaf[j] = ag_leaf(t, value[j], NULL, shape[j][0], shape[j][1], shape[j][2]);
        assert_true(ag_grad(t, wide(t, leaf), NULL, leaf, 4, 0));
        memcpy(grads[i], leaf[0]->grad->data, sizeof grads[i]);
    }
    pool_stop(cores);
    for (size_t i = 0; i < shape_size(shape[0]); i++) wanted[i] = (double)grads[0][i];
    assert_close("two cores against one", distance(grads[1], wanted, shape_size(shape[0])), CLOSE);
    assert_memory_equal(grads[1], grads[2], sizeof grads[1]);
}

/* ---- what ag_grad promises ------------------------------------------------------------------------------ */
static void sums_add_up(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    real w[6] = {1, 2, 3, 4, 5, 6}, sum[6] = {10, 10, 10, 10, 10, 10}, x[3] = {1, -2, 3};
    uint32_t row[] = {1, 1};
    ag_tensor *W = ag_leaf(t, w, sum, 1, 2, 3), *X = ag_constant(t, x, 1, 1, 3);
    ag_tensor *y = ag_linear(t, X, W, NULL);
    assert_true(ag_grad(t, y, NULL, NULL, 0, 0) && ag_grad(t, y, NULL, NULL, 0, 0));
    for (int i = 0; i < 6; i++) assert_true(sum[i] == 10 + 2 * x[i % 3]);
    assert_null(W->grad);                                       /* straight into the sum */
    assert_true(ag_grad(t, y, NULL, &W, 1, AG_DIFFERENTIABLE)); /* both */
    for (int i = 0; i < 6; i++) assert_true(sum[i] == 10 + 3 * x[i % 3] && W->grad->data[i] == x[i % 3]);
    assert_true(ag_grad(t, ag_rows(t, W, row, 2), NULL, NULL, 0, 0));
    assert_true(ag_grad(t, W, NULL, NULL, 0, 0)); /* y itself a leaf */
    for (int i = 0; i < 6; i++) assert_true(sum[i] == 11 + 3 * x[i % 3] + (i < 3 ? 0 : 2));
}

static void seed_weighs(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    real x[2] = {3, 5}, s[2] = {1, -10};
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 1, 2), *seed = ag_constant(t, s, 1, 1, 2), *y = ag_mul(t, X, X);
    assert_true(ag_grad(t, y, seed, &X, 1, 0));
    assert_true(X->grad->data[0] == 6 && X->grad->data[1] == -100);
    assert_true(s[0] == 1 && s[1] == -10);
    assert_true(ag_grad(t, X, seed, &X, 1, 0) && X->grad->data[1] == -10);
    assert_true(ag_grad(t, ag_add(t, ag_reshape(t, X, 2, 1, 1), ag_reshape(t, X, 2, 1, 1)), NULL, &X, 1, 0));
    assert_true(X->grad->data[0] == 2 && X->grad->data[1] == 2);
    assert_false(ag_grad(t, y, ag_new(t, 2, 1, 1), &X, 1, 0));
    assert_int_equal(t->fault.code, FAULT_SHAPE);
}

/* A path that is not asked for is not walked: act'' on it would be a fault. */
static void only_paths_to_wrt(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    real x[2] = {3, 5}, z[2] = {1, 2};
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 1, 2), *Z = ag_leaf(t, z, NULL, 1, 1, 2),
              *other = ag_leaf(t, z, NULL, 1, 1, 2);
    ag_tensor *y = ag_add(t, ag_mul(t, X, X), ag_act(t, ag_scale(t, Z, 2, 0), ACT_GELU, 2));
    ag_tensor *wrt[] = {X, other};
    assert_true(ag_grad(t, y, NULL, wrt, 2, 0));
    assert_true(X->grad->data[1] == 10);
    assert_null(Z->grad);
    assert_null(other->grad);
    y = ag_mul(t, X, other);
    assert_true(ag_grad(t, y, NULL, wrt, 2, 0) && other->grad->data[0] == 3);
    assert_true(ag_grad(t, y, NULL, &X, 1, 0) && X->grad->data[0] == 1);
    assert_null(other->grad); /* that it was wanted before is forgotten */
    ag_tensor *cut = ag_cut(t, ag_act(t, Z, ACT_GELU, 2)), *flat = ag_detach(t, X); /* both stop the walk */
    wrt[0] = cut, wrt[1] = X;
    assert_true(ag_grad(t, ag_add(t, cut, ag_mul(t, flat, X)), NULL, wrt, 2, 0));
    assert_true(cut->grad->data[0] == 1 && X->grad->data[0] == 3);
    assert_false(ag_grad(t, ag_act(t, Z, ACT_GELU, 2), NULL, &Z, 1, 0));
    assert_int_equal(t->fault.code, FAULT_ORDER);
    assert_int_equal(t->fault.n[0], 3);
}

static void leaf_inside(void **context) { /* wrt may be a result in the middle, and y */
    (void)context;
    ag_tape *t = fresh(50);
    real x[1] = {3};
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 1, 1), *m = ag_scale(t, X, 5, 0), *y = ag_mul(t, m, m);
    ag_tensor *wrt[] = {y, m, X, m};
    assert_true(ag_grad(t, y, NULL, wrt, 4, 0));
    assert_true(y->grad->data[0] == 1 && m->grad->data[0] == 30 && X->grad->data[0] == 150);
}

static void not_recording(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    real x[4] = {1, 2, 3, 4};
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 2, 2);
    ag_tensor *y = ag_softmax(t, X, false);
    size_t count = t->count;
    assert_int_equal(count, 1);
    t->recording = false;
    ag_tensor *z = ag_act(t, ag_layernorm(t, ag_linear(t, X, X, NULL), NULL, NULL, (real)1e-5), ACT_GELU, 0);
    ag_tensor *again = ag_softmax(t, X, false);
    assert_int_equal(t->count, count);
    assert_true(!z->op && !z->needs && !z->keep[0]);
    assert_memory_equal(again->data, y->data, sizeof x);
    assert_true(ag_grad(t, y, NULL, &X, 1, AG_DIFFERENTIABLE) && X->grad->op); /* recorded because it was asked for */
    assert_false(t->recording);
    t->recording = true;
    count = t->count;
    ag_mul(t, again, again); /* constants are nothing to remember */
    assert_int_equal(t->count, count);
}

static void marks(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    real x[2] = {1, 2};
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 1, 2);
    ag_mark mark = ag_tape_mark(t);
    size_t used = memory.used;
    for (int i = 0; i < 1000; i++) { /* more than the tape holds, but for the resets */
        assert_true(ag_grad(t, ag_sum(t, ag_exp(t, ag_mul(t, X, X))), NULL, &X, 1, AG_DIFFERENTIABLE));
        ag_tape_reset(t, mark);
        assert_true(t->count == mark.count && memory.used == used);
    }
}

/* ---- faults ------------------------------------------------------------------------------------------ */
static void expect_shape(ag_tensor *y, const char *where, const size_t *n) {
    assert_null(y);
    assert_int_equal(tape.fault.code, FAULT_SHAPE);
    assert_string_equal(tape.fault.where, where);
    for (int i = 0; i < 6; i++) assert_int_equal(tape.fault.n[i], n[i]);
    assert_null(ag_new(&tape, 1, 1, 1)); /* a fault stays, and nothing is computed after it */
    tape.fault.code = FAULT_NONE;
}

static void shapes_are_checked(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    ag_tensor *x = random_tensor(t, 2, 3, 4), *w = random_tensor(t, 1, 5, 6), *row = random_tensor(t, 1, 1, 3);
    const size_t x_w[] = {2, 3, 4, 1, 5, 6}, x_row[] = {2, 3, 4, 1, 1, 3};
    expect_shape(ag_linear(t, x, w, NULL), "linear", x_w);
    ag_tensor *fits = random_tensor(t, 1, 5, 4);
    expect_shape(ag_linear(t, x, fits, row), "linear bias", (size_t[]){1, 5, 4, 1, 1, 3});
    expect_shape(ag_matmul(t, x, NO_T, w, NO_T), "matmul", x_w);
    expect_shape(ag_matmul(t, x, T, w, NO_T), "matmul", x_w);
    expect_shape(ag_scores(t, x, w, 2, 1), "scores", x_w);
    expect_shape(ag_scores(t, x, x, 3, 1), "scores", (size_t[]){2, 3, 4, 2, 3, 4});
    expect_shape(ag_scores(t, x, x, 0, 1), "scores", (size_t[]){2, 3, 4, 2, 3, 4});
    expect_shape(ag_mix(t, x, NO_T, w, 2, 1), "mix", x_w);
    expect_shape(ag_mix(t, x, T, random_tensor(t, 1, 4, 6), 2, 1), "mix", (size_t[]){2, 3, 4, 1, 4, 6});
    expect_shape(ag_mix(t, x, NO_T, random_tensor(t, 1, 4, 5), 2, 1), "mix", (size_t[]){2, 3, 4, 1, 4, 5});
    expect_shape(ag_softmax(t, x, true), "causal softmax", (size_t[]){2, 3, 4, 2, 3, 4});
    expect_shape(ag_layernorm(t, x, row, NULL, 1), "layernorm", x_row);
    expect_shape(ag_layernorm(t, x, NULL, row, 1), "layernorm", x_row);
    expect_shape(ag_add(t, x, w), "add", x_w);
    expect_shape(ag_sub(t, x, row), "sub", x_row);
    expect_shape(ag_mul(t, row, x), "mul", (size_t[]){1, 1, 3, 2, 3, 4});
    expect_shape(ag_dot(t, x, row), "dot", x_row);
    expect_shape(ag_fit(t, x, 2, 2, 4), "fit", (size_t[]){2, 3, 4, 2, 2, 4});
    expect_shape(ag_reshape(t, x, 2, 3, 5), "reshape", (size_t[]){2, 3, 4, 2, 3, 5});
    expect_shape(ag_new(t, SIZE_MAX / 2, 3, 1), "tensor", (size_t[]){SIZE_MAX / 2, 3, 1, 1, 1, 1});
    expect_shape(ag_new(t, 2, 0, 1), "tensor", (size_t[]){2, 0, 1, 1, 1, 1});
}

static void indices_are_checked(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    uint32_t index[] = {0, 6};
    ag_tensor *x = random_tensor(t, 2, 3, 4), *two = random_tensor(t, 1, 2, 4);
    assert_null(ag_rows(t, x, index, 2));
    assert_true(t->fault.code == FAULT_RANGE && t->fault.n[0] == 6 && t->fault.n[1] == 0 && t->fault.n[2] == 5);
    t->fault.code = FAULT_NONE;
    assert_null(ag_scatter_rows(t, two, index, 2, 3));
    assert_true(t->fault.code == FAULT_RANGE && t->fault.n[0] == 6 && t->fault.n[2] == 5);
    t->fault.code = FAULT_NONE;
    assert_non_null(ag_scatter_rows(t, two, index, 1, 7));
    assert_null(ag_some_rows(t, x, 2, 2));
    assert_true(t->fault.code == FAULT_RANGE && t->fault.n[0] == 4 && t->fault.n[2] == 3);
    t->fault.code = FAULT_NONE;
    assert_null(ag_act(t, x, ACT_GELU, 3));
    assert_true(t->fault.code == FAULT_ORDER && t->fault.n[0] == 3);
}

static void nothing_in_nothing_out(void **context) {
    (void)context;
    ag_tape *t = fresh(50);
    ag_tensor *x = random_tensor(t, 1, 2, 2), *none = NULL;
    assert_null(ag_linear(t, NULL, x, NULL));
    assert_null(ag_linear(t, x, NULL, NULL));
    assert_null(ag_matmul(t, x, NO_T, NULL, NO_T));
    assert_null(ag_scores(t, NULL, x, 1, 1));
    assert_null(ag_mix(t, x, NO_T, NULL, 1, 1));
    assert_null(ag_softmax(t, NULL, true));
    assert_null(ag_logsoftmax(t, NULL));
    assert_null(ag_layernorm(t, NULL, x, x, 1));
    assert_null(ag_act(t, NULL, ACT_GELU, 0));
    assert_null(ag_relu(t, NULL));
    assert_null(ag_add(t, NULL, x));
    assert_null(ag_sub(t, x, NULL));
    assert_null(ag_mul(t, NULL, NULL));
    assert_null(ag_scale(t, NULL, 1, 1));
    assert_null(ag_pow(t, NULL, 2));
    assert_null(ag_exp(t, NULL));
    assert_null(ag_log(t, NULL));
    assert_null(ag_sum(t, NULL));
    assert_null(ag_dot(t, x, NULL));
    assert_null(ag_normalize(t, NULL));
    assert_null(ag_max(t, NULL));
    assert_null(ag_min(t, NULL));
    assert_null(ag_reshape(t, NULL, 1, 1, 1));
    assert_null(ag_rows(t, NULL, picks, 1));
    assert_null(ag_some_rows(t, NULL, 0, 1));
    assert_null(ag_scatter_rows(t, NULL, picks, 1, 9));
    assert_null(ag_detach(t, NULL));
    assert_null(ag_cut(t, NULL));
    assert_null(ag_constant(t, NULL, 1, 1, 1));
    assert_false(ag_grad(t, NULL, NULL, NULL, 0, 0));
    assert_false(ag_grad(t, x, NULL, &none, 1, 0));
    assert_int_equal(t->fault.code, FAULT_NONE);
}

/* A gradient's gradient, in rooms and on tapes of every size up to one that is enough. */
static bool second_derivative(ag_tape *t, real *x, real *result) {
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 3, 4);
    ag_tensor *y = ag_softmax(t, ag_layernorm(t, X, NULL, NULL, (real)1e-2), false);
    if (!ag_grad(t, ag_dot(t, y, y), NULL, &X, 1, AG_DIFFERENTIABLE)) return false;
    if (!ag_grad(t, ag_dot(t, X->grad, X->grad), NULL, &X, 1, 0)) return false;
    memcpy(result, X->grad->data, 12 * sizeof *result);
    return true;
}

static void every_memory(void **context) {
    (void)context;
    real x[12], wanted[12], found[12];
    state = 5;
    fill(x, 12, -0.1, 1);
    assert_true(second_derivative(fresh(200), x, wanted));
    size_t enough = memory.peak, nodes = tape.count, failures = 0;
    for (size_t size = 0; size <= enough; size += 64) {
        unsigned char *small = malloc(size + ARENA_ALIGN); /* its own block: a sanitizer sees where it ends */
        arena_init(&memory, small, size + (size_t)(-(uintptr_t)small & (ARENA_ALIGN - 1)));
        if (ag_tape_init(&tape, &memory, NULL, 200) && second_derivative(&tape, x, found)) {
            assert_true(size == enough);
            assert_memory_equal(found, wanted, sizeof wanted);
        } else {
            failures++;
            assert_int_equal(tape.fault.code, FAULT_MEMORY);
            assert_true(tape.fault.n[0] > tape.fault.n[1] && tape.fault.n[2] == memory.size);
        }
        free(small);
    }
    assert_true(failures == enough / 64);
    for (size_t capacity = 1; capacity <= nodes; capacity++) {
        bool good = second_derivative(fresh(capacity), x, found);
        assert_true(good == (capacity == nodes));
        if (!good) assert_true(tape.fault.code == FAULT_TAPE && tape.fault.n[0] == capacity);
    }
}

/* 20000 adds in a row, differentiated on a stack that holds no recursion that deep. */
static void *long_chain(void *result) {
    ag_tape *t = fresh(20000);
    real x[1] = {2};
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 1, 1), *y = X;
    for (int i = 0; i < 20000; i++) y = ag_add(t, y, X);
    if (ag_grad(t, y, NULL, &X, 1, 0)) *(double *)result = (double)X->grad->data[0];
    return NULL;
}

static void no_recursion(void **context) {
    (void)context;
    double result = 0;
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    assert_int_equal(pthread_create(&thread, &attributes, long_chain, &result), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    assert_true(result == 20001);
}

static void first_of_equals(void **context) { /* max and min: the gradient goes to the first */
    (void)context;
    ag_tape *t = fresh(50);
    real x[5] = {1, 4, 1, 4, 2};
    ag_tensor *X = ag_leaf(t, x, NULL, 1, 5, 1);
    ag_tensor *y = ag_sub(t, ag_max(t, X), ag_scale(t, ag_min(t, X), 3, 0));
    assert_true(ag_item(y) == 1 && ag_grad(t, y, NULL, &X, 1, 0));
    real expected[5] = {-3, 1, 0, 0, 0};
    for (int i = 0; i < 5; i++) assert_true(X->grad->data[i] == expected[i]);
}

/* Known values, and none that overflows on the way. */
static void known_values(void **context) {
    static const real far[] = {-1000, -100, 0, 100, 1000}, at[] = {1, 0.5f, 30};
    static const double pi = 3.141592653589793, euler = 0.5772156649015329;
    (void)context;
    ag_tape *t = fresh(100);
    ag_tensor *x = ag_constant(t, far, 1, 1, 5), *p = ag_constant(t, at, 1, 1, 3);
    const real *s = ag_sigmoid(t, x)->data, *h = ag_tanh(t, x)->data, *l = ag_softplus(t, x)->data;
    assert_true(s[0] == 0 && s[2] == (real)0.5 && s[4] == 1 && h[0] == -1 && h[2] == 0 && h[4] == 1);
    assert_true(l[0] == 0 && l[3] == 100 && l[4] == 1000);
    const double expect[3][3] = {{0, 0.5 * log(pi), 71.257038967168},
                                 {-euler, -euler - 2 * log(2), 3.3844381326855246},
                                 {pi * pi / 6, pi * pi / 2, 0.0338950603577399}};
    for (int m = -1; m <= 1; m++) assert_close("polygamma", distance(ag_polygamma(t, p, m)->data, expect[m + 1], 3), MOST_ORDERS > 1 ? 1e-9 : 1e-6);
    assert_null(ag_polygamma(t, p, 9));
    assert_int_equal(t->fault.code, FAULT_RANGE);
}

int main(void) {
    enum { CASES = sizeof cases / sizeof *cases };
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(random_graphs),
        cmocka_unit_test(block_as_pytorch),
        cmocka_unit_test(block_notices_each_weight),
        cmocka_unit_test(cores_agree),
        cmocka_unit_test(sums_add_up),
        cmocka_unit_test(seed_weighs),
        cmocka_unit_test(only_paths_to_wrt),
        cmocka_unit_test(leaf_inside),
        cmocka_unit_test(first_of_equals),
        cmocka_unit_test(not_recording),
        cmocka_unit_test(marks),
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(indices_are_checked),
        cmocka_unit_test(nothing_in_nothing_out),
        cmocka_unit_test(every_memory),
        cmocka_unit_test(no_recursion),
    };
    enum { OTHERS = sizeof others / sizeof *others };
    struct CMUnitTest tests[CASES + OTHERS];
    for (size_t i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){cases[i].name, derivatives, NULL, NULL, &cases[i]};
    memcpy(tests + CASES, others, sizeof others);
    return cmocka_run_group_tests_name("autograd", tests, NULL, NULL);
}
