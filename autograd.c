/* autograd.c - a reverse-mode tape: how a network is differentiated, and its gradient again.
 *
 * Forward, every op computes its result at once and leaves a note on the tape: who I am (op), what I
 * came from (in). Backward, ag_grad walks the notes from last to first. Each op then knows the gradient g
 * of the result y and owes each input x the product J^T g, J = dy/dx; `give` adds it to what x already has.
 *
 * The one idea beyond the textbook: a backward is itself made of ops. So the ops form families closed
 * under differentiation (a product's gradient is two products, a sum's is a broadcast), and a gradient that
 * is recorded while it is computed can be differentiated like any other result: AG_DIFFERENTIABLE.
 * Where nobody asks for that, recording is off, the same lines run as plain loops, and gradients are
 * accumulated in place: the training path.
 *
 * Contents: tape - ag_grad - products - attention - softmax - layernorm - activations - elementwise -
 *           sums and broadcasts - rows.  Formulas: MODEL.md 8.
 */
#include "autograd.h"

#include <math.h>
#include <string.h>

/* What an op is to the tape. y->in are its inputs; g is the gradient of y, of y's shape. */
struct ag_op {
    const char *name;
    void (*backward)(ag_tape *t, ag_tensor *y, ag_tensor *g);
};

/* ---- tape ----------------------------------------------------------------------------------- */

bool ag_tape_init(ag_tape *t, arena *memory, pool *cores, size_t capacity) {
    *t = (ag_tape){.memory = memory, .cores = cores, .capacity = capacity, .recording = true};
    t->nodes = arena_alloc(memory, capacity, sizeof(ag_tensor *));
    return t->nodes || fault_memory(&t->fault, "tape", memory, capacity * sizeof(ag_tensor *));
}

ag_mark ag_tape_mark(const ag_tape *t) { return (ag_mark){arena_mark(t->memory), t->count}; }

void ag_tape_reset(ag_tape *t, ag_mark mark) {
    arena_reset(t->memory, mark.arena);
    t->count = mark.count;
}

static ag_tensor *bad_shape(ag_tape *t, const char *op, const ag_tensor *a, const ag_tensor *b) {
    size_t n[6] = {a->batch, a->rows, a->cols, b->batch, b->rows, b->cols};
    fault_set(&t->fault, FAULT_SHAPE, op, n, 6);
    return NULL;
}

static void *take(ag_tape *t, size_t count, size_t each) {
    void *p = arena_alloc(t->memory, count, each);
    size_t asked = SIZE_MAX;
    if (p) return p;
    size_mul(count, each, &asked);
    fault_memory(&t->fault, "tensor", t->memory, asked);
    return NULL;
}

/* A tensor that nothing is known of but its shape; data NULL: taken from the arena. */
static ag_tensor *make(ag_tape *t, size_t batch, size_t rows, size_t cols, real *data) {
    size_t size = 0;
    if (t->fault.code) return NULL;
    if (!size_mul(batch, rows, &size) || !size_mul(size, cols, &size) || size == 0) {
        fault_set(&t->fault, FAULT_SHAPE, "tensor", (size_t[]){batch, rows, cols, 1, 1, 1}, 6);
        return NULL;
    }
    ag_tensor *x = take(t, 1, sizeof *x);
    if (x && !data) data = take(t, size, sizeof *data);
    if (!x || !data) return NULL;
    *x = (ag_tensor){.data = data, .batch = batch, .rows = rows, .cols = cols};
    return x;
}

/* The result of an op, on the tape if it depends on a leaf. y->in is set in any case: the loops read it. */
static ag_tensor *record(ag_tape *t, const struct ag_op *op, ag_tensor *y, ag_tensor *a, ag_tensor *b, ag_tensor *c) {
    if (!y) return NULL;
    y->in[0] = a, y->in[1] = b, y->in[2] = c;
    if (!t->recording || !((a && a->needs) || (b && b->needs) || (c && c->needs))) return y;
    if (t->count == t->capacity) {
        fault_set(&t->fault, FAULT_TAPE, op->name, &t->capacity, 1);
        return NULL;
    }
    y->op = op;
    y->needs = true;
    y->index = t->count;
    t->nodes[t->count++] = y;
    return y;
}

/* An op's result of x's shape. */
static ag_tensor *like(ag_tape *t, const struct ag_op *op, ag_tensor *x, ag_tensor *b, ag_tensor *c) {
    return x ? record(t, op, make(t, x->batch, x->rows, x->cols, NULL), x, b, c) : NULL;
}

ag_tensor *ag_new(ag_tape *t, size_t batch, size_t rows, size_t cols) { return make(t, batch, rows, cols, NULL); }

ag_tensor *ag_constant(ag_tape *t, const real *data, size_t batch, size_t rows, size_t cols) {
    return data ? make(t, batch, rows, cols, (real *)(uintptr_t)data) : NULL; /* never written through */
}

ag_tensor *ag_leaf(ag_tape *t, real *data, real *sum, size_t batch, size_t rows, size_t cols) {
    ag_tensor *x = ag_constant(t, data, batch, rows, cols);
    if (x) {
        x->sum = sum;
        x->needs = true;
    }
    return x;
}

ag_tensor *ag_detach(ag_tape *t, ag_tensor *x) {
    return x ? ag_constant(t, x->data, x->batch, x->rows, x->cols) : NULL;
}

ag_tensor *ag_cut(ag_tape *t, ag_tensor *x) { return x ? ag_leaf(t, x->data, NULL, x->batch, x->rows, x->cols) : NULL; }

size_t ag_size(const ag_tensor *x) { return x->batch * x->rows * x->cols; }

real ag_item(const ag_tensor *x) { return x->data[0]; }

static size_t all_rows(const ag_tensor *x) { return x->batch * x->rows; }

static bool same_shape(const ag_tensor *a, const ag_tensor *b) {
    return a->batch == b->batch && a->rows == b->rows && a->cols == b->cols;
}

/* ---- loops over cores: blocks of rows, cut by shape alone so that bytes do not depend on the cores -------- */

typedef void row_loop(ag_tensor *y, size_t first, size_t last); /* computes rows first..last-1 of y */

typedef struct {
    ag_tensor *y;
    row_loop *loop;
    size_t rows, block;
} row_job;

enum { BLOCK = 16384 }; /* elements: enough to pay for waking a core */

static void row_task(void *arg, size_t i) {
    const row_job *job = arg;
    size_t first = i * job->block, left = job->rows - first;
    job->loop(job->y, first, first + (left < job->block ? left : job->block));
}

static ag_tensor *run_rows(ag_tape *t, ag_tensor *y, size_t rows, size_t cols, row_loop *loop) {
    if (!y) return NULL;
    size_t block = cols < BLOCK ? BLOCK / cols : 1;
    if (!t->cores || rows <= block)
        loop(y, 0, rows);
    else
        spread(t->cores, (rows + block - 1) / block, row_task, &(row_job){y, loop, rows, block});
    return y;
}

/* ---- ag_grad -------------------------------------------------------------------------------- */

/* x's gradient grows by c, a tensor of as many elements. Differentiable: by an op. Otherwise in place, in whichever of
 * the two buffers is nobody else's: a backward gives each tensor it makes once, and g, which it may hand on to
 * several inputs, is `shared`. */
static void give(ag_tape *t, ag_tensor *x, ag_tensor *c) {
    c = c ? ag_reshape(t, c, x->batch, x->rows, x->cols) : NULL;
    if (!c) return;
    if (x->sum) {
        k_axpy(1, c->data, x->sum, ag_size(x));
        if (!t->recording) return;
    }
    if (!x->grad) {
        x->grad = c;
    } else if (t->recording || (x->grad->shared && c->shared)) {
        x->grad = ag_add(t, x->grad, c);
    } else if (c->shared) {
        k_axpy(1, c->data, x->grad->data, ag_size(x));
    } else {
        k_axpy(1, x->grad->data, c->data, ag_size(x));
        x->grad = c;
    }
}

/* Does the sweep want x's gradient? */
static bool wants(const ag_tensor *x) { return x && x->marked; }

/* The buffer to which a parameter's gradient may be added without making a tensor of it first, or NULL. */
static real *straight(const ag_tape *t, const ag_tensor *x) { return wants(x) && !t->recording ? x->sum : NULL; }

static void forget(ag_tensor *x) {
    if (x) {
        x->grad = NULL;
        x->marked = false;
    }
}

/* Marks the nodes 0..nodes-1 that lie between wrt and the end, and wrt itself. */
static void mark_paths(ag_tape *t, size_t nodes, ag_tensor *y, ag_tensor **wrt, size_t count) {
    forget(y);
    for (size_t i = 0; i < nodes; i++) {
        forget(t->nodes[i]);
        for (int j = 0; j < 3; j++) forget(t->nodes[i]->in[j]);
    }
    for (size_t i = 0; wrt && i < count; i++) forget(wrt[i]);
    for (size_t i = 0; wrt && i < count; i++) wrt[i]->marked = true;
    if (!wrt && y->sum) y->marked = true;
    for (size_t i = 0; i < nodes; i++) {
        ag_tensor *x = t->nodes[i];
        for (int j = 0; j < 3; j++) {
            if (!wrt && x->in[j] && x->in[j]->sum) x->in[j]->marked = true;
            if (wants(x->in[j])) x->marked = true;
        }
    }
}

bool ag_grad(ag_tape *t, ag_tensor *y, ag_tensor *seed, ag_tensor **wrt, size_t count, int flags) {
    bool was_recording = t->recording;
    if (!y || t->fault.code) return false;
    for (size_t i = 0; wrt && i < count; i++)
        if (!wrt[i]) return false;
    if (seed && !same_shape(y, seed)) return bad_shape(t, "grad", y, seed);
    size_t nodes = y->op ? y->index + 1 : 0;
    mark_paths(t, nodes, y, wrt, count);
    if (!y->marked) return true; /* y does not depend on wrt */
    if (!seed && (seed = ag_new(t, y->batch, y->rows, y->cols)))
        for (size_t i = 0; i < ag_size(seed); i++) seed->data[i] = 1;
    t->recording = flags & AG_DIFFERENTIABLE;
    give(t, y, seed);
    for (size_t i = nodes; i-- > 0 && !t->fault.code;) {
        ag_tensor *x = t->nodes[i];
        if (!x->grad || !(wants(x->in[0]) || wants(x->in[1]) || wants(x->in[2]))) continue;
        x->grad->shared = true; /* complete: read from here on, never written */
        x->op->backward(t, x, x->grad);
    }
    t->recording = was_recording;
    return !t->fault.code;
}

/* ---- products ------------------------------------------------------------------------------- */

static transpose flip(transpose t) { return t == T ? NO_T : T; }

/* x's gradient is op(a) op(b): into ->sum in one product, or as a tensor. */
static void give_product(ag_tape *t, ag_tensor *x, ag_tensor *a, transpose ta, ag_tensor *b, transpose tb) {
    real *sum = straight(t, x);
    if (!wants(x)) return;
    if (!sum) {
        give(t, x, ag_matmul(t, a, ta, b, tb));
        return;
    }
    size_t m = ta == T ? a->cols : all_rows(a), k = ta == T ? all_rows(a) : a->cols;
    size_t n = tb == T ? all_rows(b) : b->cols;
    gemm_spread(t->cores, ta, tb, m, n, k, 1, a->data, a->cols, b->data, b->cols, 1, sum, n);
}

/* x's gradient is the sum of g's rows, and of its batch. */
static void give_row_sum(ag_tape *t, ag_tensor *x, ag_tensor *g) {
    real *sum = straight(t, x);
    if (!g) return;
    if (sum)
        k_sum_rows(g->data, sum, all_rows(g), g->cols);
    else
        give(t, x, ag_fit(t, g, 1, 1, g->cols));
}

/* y = x W^T + b:  dx = g W,  dW = g^T x,  db = sum of g's rows */
static void linear_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    give_product(t, y->in[0], g, NO_T, y->in[1], NO_T);
    give_product(t, y->in[1], g, T, y->in[0], NO_T);
    if (wants(y->in[2])) give_row_sum(t, y->in[2], g);
}

static const struct ag_op op_linear = {"linear", linear_backward};

ag_tensor *ag_linear(ag_tape *t, ag_tensor *x, ag_tensor *W, ag_tensor *bias) {
    if (!x || !W) return NULL;
    if (W->batch != 1 || W->cols != x->cols) return bad_shape(t, "linear", x, W);
    if (bias && (all_rows(bias) != 1 || bias->cols != W->rows)) return bad_shape(t, "linear bias", W, bias);
    ag_tensor *y = record(t, &op_linear, make(t, x->batch, x->rows, W->rows, NULL), x, W, bias);
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
    if (k != (tb == T ? b->cols : all_rows(b))) return bad_shape(t, "matmul", a, b);
    ag_tensor *y = record(t, &op_matmul, make(t, 1, m, n, NULL), a, b, NULL);
    if (!y) return NULL;
    y->k[0] = ta == T, y->k[1] = tb == T;
    gemm_spread(t->cores, ta, tb, m, n, k, 1, a->data, a->cols, b->data, b->cols, 0, y->data, n);
    return y;
}

/* ---- attention: heads are columns h*d.. of [b,n,D], and stay where they lie ------------------------------- */

/* s_h = alpha a_h b_h^T:  da_h = alpha g_h b_h,  db_h = alpha g_h^T a_h */
static void scores_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *a = y->in[0], *b = y->in[1];
    if (wants(a)) give(t, a, ag_mix(t, g, NO_T, b, y->k[0], y->f[0]));
    if (wants(b)) give(t, b, ag_mix(t, g, T, a, y->k[0], y->f[0]));
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
        return bad_shape(t, "scores", a, b);
    ag_tensor *s = record(t, &op_scores, make(t, batches, a->rows, b->rows, NULL), a, b, NULL);
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
    if (wants(A)) give(t, A, ta == T ? ag_scores(t, v, g, y->k[0], y->f[0]) : ag_scores(t, g, v, y->k[0], y->f[0]));
    if (wants(v)) give(t, v, ag_mix(t, A, flip(ta), g, y->k[0], y->f[0]));
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
        return bad_shape(t, "mix", A, v);
    ag_tensor *y = record(t, &op_mix, make(t, v->batch, rows, v->cols, NULL), A, v, NULL);
    if (!y) return NULL;
    y->k[0] = heads, y->k[1] = ta == T;
    y->f[0] = alpha;
    spread(t->cores, A->batch, mix_task, y);
    return y;
}

/* ---- softmax -------------------------------------------------------------------------------- */

/* The sum of each row, [b,r,1]. */
static ag_tensor *row_sum(ag_tape *t, ag_tensor *x) { return x ? ag_fit(t, x, x->batch, x->rows, 1) : NULL; }

static ag_tensor *softmax_grad(ag_tape *t, ag_tensor *y, ag_tensor *g);

/* d = y (g - sum(g y)), the softmax's J^T g. J is symmetric, so dg = J h, and
 * dy = h (g - sum(g y)) - g sum(h y)  for an incoming h */
static void softmax_grad_backward(ag_tape *t, ag_tensor *d, ag_tensor *h) {
    ag_tensor *y = d->in[0], *g = d->in[1];
    if (wants(g)) give(t, g, softmax_grad(t, y, h));
    if (wants(y)) {
        ag_tensor *left = ag_mul(t, h, ag_sub(t, g, row_sum(t, ag_mul(t, g, y))));
        give(t, y, ag_sub(t, left, ag_mul(t, g, row_sum(t, ag_mul(t, h, y)))));
    }
}

static const struct ag_op op_softmax_grad = {"softmax_grad", softmax_grad_backward};

static void softmax_grad_rows(ag_tensor *d, size_t first, size_t last) {
    size_t at = first * d->cols;
    k_softmax_grad(d->in[0]->data + at, d->in[1]->data + at, d->data + at, last - first, d->cols);
}

static ag_tensor *softmax_grad(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *d = like(t, &op_softmax_grad, y, g, NULL);
    return run_rows(t, d, all_rows(y), y->cols, softmax_grad_rows);
}

/* y_i = exp(s_i) / sum_j exp(s_j):  ds = y (g - sum(g y)).  What the causal mask hides has y = 0, and so ds = 0. */
static void softmax_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { give(t, y->in[0], softmax_grad(t, y, g)); }

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
    if (causal && s->rows != s->cols) return bad_shape(t, "causal softmax", s, s);
    ag_tensor *y = like(t, &op_softmax, s, NULL, NULL);
    return causal ? run_rows(t, y, s->batch, s->rows * s->cols, softmax_causal)
                  : run_rows(t, y, all_rows(s), s->cols, softmax_rows);
}

/* y = s - log(sum exp(s)):  ds = g - exp(y) sum(g) */
static void logsoftmax_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    give(t, y->in[0], ag_sub(t, g, ag_mul(t, ag_exp(t, y), row_sum(t, g))));
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
    ag_tensor *y = like(t, &op_logsoftmax, s, NULL, NULL);
    return y ? run_rows(t, y, all_rows(y), y->cols, logsoftmax_rows) : NULL;
}

/* ---- layernorm ------------------------------------------------------------------------------ */

static ag_tensor *row_mean(ag_tape *t, ag_tensor *x) {
    return x ? ag_scale(t, row_sum(t, x), 1 / (real)x->cols, 0) : NULL;
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
    if (wants(g)) give(t, g, gamma ? ag_mul(t, Jh, gamma) : ag_scale(t, Jh, 1, 0));
    if (wants(gamma)) give_row_sum(t, gamma, ag_mul(t, Jh, g));
    if (!wants(x)) return;
    ag_tensor *xhat = ag_layernorm(t, x, NULL, NULL, d->f[0]);
    ag_tensor *u = gamma ? ag_mul(t, g, gamma) : g;
    ag_tensor *dx = ag_mul(t, xhat, row_mean(t, ag_mul(t, h, d)));
    dx = ag_add(t, dx, ag_mul(t, Jh, row_mean(t, ag_mul(t, u, xhat))));
    dx = ag_add(t, dx, ag_mul(t, d, row_mean(t, ag_mul(t, h, xhat))));
    give(t, x, ag_mul(t, dx, ag_scale(t, row_rstd(t, x, d->f[0], d->keep[1]), -1, 0)));
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
    ag_tensor *d = like(t, &op_layernorm_grad, x, gamma, g);
    if (!d) return NULL;
    d->f[0] = y->f[0];
    d->keep[0] = y->keep[0], d->keep[1] = y->keep[1];
    return run_rows(t, d, all_rows(x), x->cols, layernorm_grad_rows);
}

/* y = xhat gamma + beta, xhat = (x - mean) rstd:  dx = J(gamma g),  dgamma = sum of rows of g xhat,  dbeta = of g */
static void layernorm_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    ag_tensor *x = y->in[0], *gamma = y->in[1], *beta = y->in[2];
    if (wants(x)) give(t, x, layernorm_grad(t, x, gamma, g, y));
    if (straight(t, gamma) && straight(t, beta)) {
        k_layernorm_grad(x->data, y->keep[0], y->keep[1], NULL, g->data, NULL, gamma->sum, beta->sum, all_rows(x),
                         x->cols);
        return;
    }
    if (wants(gamma)) give_row_sum(t, gamma, ag_mul(t, g, ag_layernorm(t, x, NULL, NULL, y->f[0])));
    if (wants(beta)) give_row_sum(t, beta, g);
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
    if (gamma && (all_rows(gamma) != 1 || gamma->cols != x->cols)) return bad_shape(t, "layernorm", x, gamma);
    if (beta && (all_rows(beta) != 1 || beta->cols != x->cols)) return bad_shape(t, "layernorm", x, beta);
    ag_tensor *y = like(t, &op_layernorm, x, gamma, beta);
    if (!y) return NULL;
    y->f[0] = eps;
    if (y->op) /* only a backward asks for them */
        for (int i = 0; i < 2; i++)
            if (!(y->keep[i] = take(t, all_rows(x), sizeof(real)))) return NULL;
    return run_rows(t, y, all_rows(x), x->cols, layernorm_rows);
}

/* ---- activations ---------------------------------------------------------------------------- */

static ag_tensor *act(ag_tape *t, ag_tensor *x, act_kind kind, int order, real *known);

/* y = act^(k)(x):  dx = g act^(k+1)(x) */
static void act_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    int order = (int)y->k[1];
    if (order == 2)
        fault_set(&t->fault, FAULT_ORDER, "act", (size_t[]){3}, 1);
    else
        give(t, y->in[0], ag_mul(t, g, act(t, y->in[0], (act_kind)y->k[0], order + 1, y->keep[0])));
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
    ag_tensor *y = record(t, &op_act, make(t, x->batch, x->rows, x->cols, known), x, NULL, NULL);
    if (!y) return NULL;
    y->k[0] = kind, y->k[1] = (size_t)order;
    if (known) return y;
    if (y->op && order == 0 && !(y->keep[0] = take(t, ag_size(x), sizeof(real)))) return NULL;
    return run_rows(t, y, ag_size(x), 1, act_rows);
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
    give(t, x, ag_mul(t, g, run_rows(t, step, ag_size(x), 1, step_rows)));
}

static const struct ag_op op_relu = {"relu", relu_backward};

static void relu_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    for (size_t i = first; i < last; i++) y->data[i] = x[i] < 0 ? (real)0 : x[i]; /* NaN stays NaN */
}

ag_tensor *ag_relu(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = like(t, &op_relu, x, NULL, NULL);
    return y ? run_rows(t, y, ag_size(y), 1, relu_rows) : NULL;
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
        return bad_shape(t, op->name, a, b);
    return run_rows(t, like(t, op, a, b, NULL), all_rows(a), a->cols, loop);
}

/* g summed to the shape of x, which was repeated. */
static ag_tensor *fit_to(ag_tape *t, ag_tensor *g, const ag_tensor *x) {
    return ag_fit(t, g, x->batch, x->rows, x->cols);
}

/* y = a + b:  da = g,  db = g */
static void add_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (wants(y->in[0])) give(t, y->in[0], g);
    if (wants(y->in[1])) give(t, y->in[1], fit_to(t, g, y->in[1]));
}

static const struct ag_op op_add = {"add", add_backward};

ag_tensor *ag_add(ag_tape *t, ag_tensor *a, ag_tensor *b) { return pair(t, &op_add, a, b, add_rows); }

/* y = a - b:  da = g,  db = -g */
static void sub_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (wants(y->in[0])) give(t, y->in[0], g);
    if (wants(y->in[1])) give(t, y->in[1], ag_scale(t, fit_to(t, g, y->in[1]), -1, 0));
}

static const struct ag_op op_sub = {"sub", sub_backward};

ag_tensor *ag_sub(ag_tape *t, ag_tensor *a, ag_tensor *b) { return pair(t, &op_sub, a, b, sub_rows); }

/* y = a b:  da = g b,  db = g a */
static void mul_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (wants(y->in[0])) give(t, y->in[0], ag_mul(t, g, y->in[1]));
    if (wants(y->in[1])) give(t, y->in[1], fit_to(t, ag_mul(t, g, y->in[0]), y->in[1]));
}

static const struct ag_op op_mul = {"mul", mul_backward};

ag_tensor *ag_mul(ag_tape *t, ag_tensor *a, ag_tensor *b) { return pair(t, &op_mul, a, b, mul_rows); }

/* y = sum(a b):  da = g b,  db = g a */
static void dot_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (wants(y->in[0])) give(t, y->in[0], ag_mul(t, y->in[1], g));
    if (wants(y->in[1])) give(t, y->in[1], ag_mul(t, y->in[0], g));
}

static const struct ag_op op_dot = {"dot", dot_backward};

ag_tensor *ag_dot(ag_tape *t, ag_tensor *a, ag_tensor *b) {
    if (!a || !b) return NULL;
    if (!same_shape(a, b)) return bad_shape(t, "dot", a, b);
    ag_tensor *y = record(t, &op_dot, make(t, 1, 1, 1, NULL), a, b, NULL);
    if (y) y->data[0] = k_dot(a->data, b->data, ag_size(a));
    return y;
}

/* ---- element by element, one input ------------------------------------------------------------ */

/* y = factor x + shift:  dx = factor g */
static void scale_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { give(t, y->in[0], ag_scale(t, g, y->f[0], 0)); }

static const struct ag_op op_scale = {"scale", scale_backward};

static void scale_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    real *restrict out = y->data, factor = y->f[0], shift = y->f[1];
    for (size_t i = first; i < last; i++) out[i] = factor * x[i] + shift;
}

ag_tensor *ag_scale(ag_tape *t, ag_tensor *x, real factor, real shift) {
    ag_tensor *y = like(t, &op_scale, x, NULL, NULL);
    if (!y) return NULL;
    y->f[0] = factor, y->f[1] = shift;
    return run_rows(t, y, ag_size(y), 1, scale_rows);
}

/* y = x^p:  dx = g p x^(p-1) */
static void pow_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    real p = y->f[0];
    give(t, y->in[0], ag_mul(t, g, ag_scale(t, ag_pow(t, y->in[0], p - 1), p, 0)));
}

static const struct ag_op op_pow = {"pow", pow_backward};

static void pow_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    for (size_t i = first; i < last; i++) y->data[i] = (real)pow((double)x[i], (double)y->f[0]);
}

ag_tensor *ag_pow(ag_tape *t, ag_tensor *x, real p) {
    ag_tensor *y = like(t, &op_pow, x, NULL, NULL);
    if (!y) return NULL;
    y->f[0] = p;
    return run_rows(t, y, ag_size(y), 1, pow_rows);
}

/* y = exp(x):  dx = g y */
static void exp_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { give(t, y->in[0], ag_mul(t, g, y)); }

static const struct ag_op op_exp = {"exp", exp_backward};

static void exp_rows(ag_tensor *y, size_t first, size_t last) {
    k_exp(y->in[0]->data + first, y->data + first, last - first);
}

ag_tensor *ag_exp(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = like(t, &op_exp, x, NULL, NULL);
    return y ? run_rows(t, y, ag_size(y), 1, exp_rows) : NULL;
}

/* y = log(x):  dx = g / x */
static void log_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    give(t, y->in[0], ag_mul(t, g, ag_pow(t, y->in[0], -1)));
}

static const struct ag_op op_log = {"log", log_backward};

static void log_rows(ag_tensor *y, size_t first, size_t last) {
    const real *x = y->in[0]->data;
    for (size_t i = first; i < last; i++) y->data[i] = (real)log((double)x[i]);
}

ag_tensor *ag_log(ag_tape *t, ag_tensor *x) {
    ag_tensor *y = like(t, &op_log, x, NULL, NULL);
    return y ? run_rows(t, y, ag_size(y), 1, log_rows) : NULL;
}

/* ---- sums and broadcasts ---------------------------------------------------------------------- */

/* y = x summed or repeated along some dimensions:  dx = g repeated or summed along the same ones */
static void fit_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { give(t, y->in[0], fit_to(t, g, y->in[0])); }

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
    if (!fits(x->batch, batch) || !fits(x->rows, rows) || !fits(x->cols, cols)) return bad_shape(t, "fit", x, &want);
    if (t->fault.code || same_shape(x, &want)) return t->fault.code ? NULL : x;
    ag_tensor *y = record(t, &op_fit, make(t, batch, rows, cols, NULL), x, NULL, NULL);
    return run_rows(t, y, batch * rows, cols, fit_rows);
}

ag_tensor *ag_sum(ag_tape *t, ag_tensor *x) { return ag_fit(t, x, 1, 1, 1); }

ag_tensor *ag_normalize(ag_tape *t, ag_tensor *x) {
    return ag_mul(t, x, ag_pow(t, row_sum(t, ag_mul(t, x, x)), (real)-0.5));
}

/* ---- rows and places ---------------------------------------------------------------------------- */

/* y = x in another shape:  dx = g in x's shape, which `give` sees to */
static void reshape_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { give(t, y->in[0], g); }

static const struct ag_op op_reshape = {"reshape", reshape_backward};

ag_tensor *ag_reshape(ag_tape *t, ag_tensor *x, size_t batch, size_t rows, size_t cols) {
    if (!x || t->fault.code) return NULL;
    ag_tensor want = {.batch = batch, .rows = rows, .cols = cols};
    size_t size = 0;
    if (same_shape(x, &want)) return x;
    if (!size_mul(batch, rows, &size) || !size_mul(size, cols, &size) || size != ag_size(x))
        return bad_shape(t, "reshape", x, &want);
    ag_tensor *y = record(t, &op_reshape, make(t, batch, rows, cols, x->data), x, NULL, NULL);
    if (y) y->shared = x->shared; /* the same buffer, the same rules for writing in it */
    return y;
}

/* A checked copy of index, in the arena. */
static const uint32_t *copy_index(ag_tape *t, const char *op, const uint32_t *index, size_t count, size_t rows) {
    uint32_t *copy = index ? take(t, count, sizeof *copy) : NULL;
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
    if (straight(t, x))
        add_at(g->data, y->aux, y->rows, y->cols, x->sum);
    else
        give(t, x, ag_scatter_rows(t, g, y->aux, x->batch, x->rows));
}

static const struct ag_op op_rows = {"rows", rows_backward};

ag_tensor *ag_rows(ag_tape *t, ag_tensor *x, const uint32_t *index, size_t count) {
    if (!x || t->fault.code || !(index = copy_index(t, "rows", index, count, all_rows(x)))) return NULL;
    ag_tensor *y = record(t, &op_rows, make(t, 1, count, x->cols, NULL), x, NULL, NULL);
    if (!y) return NULL;
    y->aux = index;
    for (size_t i = 0; i < count; i++)
        memcpy(y->data + i * y->cols, x->data + index[i] * y->cols, y->cols * sizeof *y->data);
    return y;
}

/* y_index(i) += x_i:  dx_i = g_index(i) */
static void scatter_rows_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    give(t, y->in[0], ag_rows(t, g, y->aux, all_rows(y->in[0])));
}

static const struct ag_op op_scatter_rows = {"scatter_rows", scatter_rows_backward};

ag_tensor *ag_scatter_rows(ag_tape *t, ag_tensor *x, const uint32_t *index, size_t batch, size_t rows) {
    if (!x || !index) return NULL;
    ag_tensor *y = record(t, &op_scatter_rows, make(t, batch, rows, x->cols, NULL), x, NULL, NULL);
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
    if (ag_size(x) > UINT32_MAX) return bad_shape(t, "max", x, x);
    for (size_t i = 1; i < ag_size(x); i++)
        if (sign * x->data[i] > sign * x->data[best]) best = (uint32_t)i;
    return ag_rows(t, ag_reshape(t, x, 1, ag_size(x), 1), &best, 1);
}

ag_tensor *ag_max(ag_tape *t, ag_tensor *x) { return extreme(t, x, 1); }

ag_tensor *ag_min(ag_tape *t, ag_tensor *x) { return extreme(t, x, -1); }
