/* decomposed.c - LeGrad's gradient by its tensor dz/dA (see gradient.h; MODEL.md 4).
 *
 * (4.5): G = sum_k e_k dz_k/dA, and its transpose dL/de_k = dL/dG . dz_k/dA: the tensor is read once for each. The
 * tensor is made as the authors make it, by E backward passes. */
#include "gradient.h"
#include <string.h>

/* ---- what is kept: [E, H*rows*n] dz/dA, of z/|z| where z is taken at unit length ----------------------------------- */
typedef struct { real *dzdA; } kept;
static real *tensor_of(const explain_layer *l) { return ((const kept *)l->own)->dzdA; }

/* dz/dA's size is known before anything is computed: better refused at once. */
static void take(explained *x, fault *f) {
    size_t E = x->model->config.embed, H = x->tower->heads;
    kept *own = explain_own(x, sizeof *own, f);
    explain_take_pieces(x, 0, f);
    if (f->code) return;
    size_t bytes = sizeof(real), limit = arena_left(x->memory);
    const size_t shape[] = {x->options.layers, E, H, x->rows, x->n};
    for (size_t i = 0; i < 5; i++)
        if (!size_mul(bytes, shape[i], &bytes)) bytes = SIZE_MAX / 2;
    if (x->options.memory) limit = at_most(limit, x->options.memory);
    if (bytes > limit) {
        fault_set(f, FAULT_MEMORY, "dz/dA", (size_t[]){bytes, limit, x->memory->size}, 3);
        return;
    }
    for (size_t i = 0; i < x->options.layers; i++) own[i].dzdA = explain_take(x, E, H * x->rows * x->n, f);
}

static void keep(explained *x, explain_layer *l, const clip_taps *taps, ag_tensor *z, fault *f) {
    ag_tape *t = &x->tape;
    ag_tensor *A = taps->A;
    size_t E = x->model->config.embed, all = ag_size(A);
    real *seed = x->work.gz;
    for (size_t k = 0; k < E && !t->fault.code; k++) {
        ag_mark mark = ag_tape_mark(t);
        memset(seed, 0, E * sizeof(real));
        seed[k] = 1;
        if (ag_grad(t, z, ag_constant(t, seed, 1, 1, E), &A, 1, 0))
            memcpy(tensor_of(l) + k * all, A->grad->data, all * sizeof(real));
        ag_tape_reset(t, mark);
    }
    if (t->fault.code && !f->code) *f = t->fault;
}

/* ---- (4.5): e -> G -> R ---------------------------------------------------------------------------------------------- */
static void forward_lane(void *arg, size_t lane) {
    const explain_pass *p = arg;
    const explained *x = p->x;
    size_t n = x->n, m = explain_columns(x), E = x->model->config.embed, all = x->tower->heads * x->rows * n;
    for (size_t k = lane; k < explain_piece_count(x); k += p->lanes) {
        explain_piece c = explain_piece_at(p, lane, k);
        const real *t = tensor_of(p->l) + (c.head * x->rows + c.first) * n;
        memset(c.G, 0, c.rows * n * sizeof(real));
        for (size_t e = 0; e < E; e++) k_axpy(x->work.e_unit[e], t + e * all, c.G, c.rows * n);
        explain_relu(c.G + x->first, n, c.rows, m, x->work.parts + k * m, c.positive);
    }
}

static void forward(explain_pass *p) { spread(p->x->cores, p->lanes, forward_lane, p); }

/* ---- its transpose --------------------------------------------------------------------------------------------------- */
static void transposed_lane(void *arg, size_t lane) {
    const explain_pass *p = arg;
    const explained *x = p->x;
    size_t n = x->n, m = explain_columns(x), E = x->model->config.embed, all = x->tower->heads * x->rows * n;
    for (size_t k = lane; k < explain_piece_count(x); k += p->lanes) {
        explain_piece c = explain_piece_at(p, lane, k);
        const real *t = tensor_of(p->l) + (c.head * x->rows + c.first) * n;
        for (size_t i = 0; i < c.rows && x->first; i++) c.G[i * n] = 0; /* the class token's column */
        explain_relu_transpose(c.positive, x->work.w, c.G + x->first, n, c.rows, m);
        for (size_t e = 0; e < E; e++) x->work.parts[k * E + e] = k_dot(t + e * all, c.G, c.rows * n);
    }
}

static void transposed(explain_pass *p) {
    explained *x = p->x;
    size_t E = x->model->config.embed;
    spread(x->cores, p->lanes, transposed_lane, p);
    memset(x->work.ez, 0, E * sizeof(real));
    for (size_t k = 0; k < explain_piece_count(x); k++) k_axpy(1, x->work.parts + k * E, x->work.ez, E);
}

const struct explain_gradient explain_decomposed = {
    .name = "decomposed", .records = true, .take = take, .keep = keep, .forward = forward, .transposed = transposed};
