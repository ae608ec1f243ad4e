/* anovl_adapt.c - AnoVL's adapter: a layer fitted to one picture by five steps of AdamW (see anovl.h; MODEL.md 11, eq. 11.4-11.5). */
#include "anomaly/anovl.h"
#include "autograd.h"
#include <math.h>
#include <string.h>

typedef struct {
    const anovl_problem *p;
    ag_tape tape;
    ag_tensor *W, *b, *texts, *towards; /* towards [1,1,E]: anomalous - normal; what a softmax over the two needs */
    ag_tensor *rows, *left, *right;     /* two tiles: enlarging down, and each tile's across */
} fitting;

/* ---- enlarging, corners aligned, as matrices ------------------------------------------------------------- */
/* Row i of n taken from `cells` of them: cell c's weight. */
static real corner_weight(size_t i, size_t n, size_t c, size_t cells) {
    double at = n > 1 ? (double)i * (double)(cells - 1) / (double)(n - 1) : 0, away = fabs(at - (double)c);
    return away < 1 ? (real)(1 - away) : 0;
}

/* Tile `which` of two in a row of side + shift pixels: where both lie, each counts by half. */
static real tile_weight(const anovl_problem *p, size_t which, size_t i, size_t c) {
    size_t first = which * p->shift;
    if (i < first || i >= first + p->side) return 0;
    bool both = i >= p->shift && i < p->side;
    return corner_weight(i - first, p->side, c, p->gw) * (both ? (real).5 : 1);
}

static bool make_matrices(fitting *f) {
    const anovl_problem *p = f->p;
    size_t across = p->side + p->shift;
    if (p->tiles < 2) return true;
    f->rows = ag_new(&f->tape, 1, p->side, p->gh);
    f->left = ag_new(&f->tape, 1, across, p->gw), f->right = ag_new(&f->tape, 1, across, p->gw);
    if (!f->rows || !f->left || !f->right) return false;
    for (size_t i = 0; i < p->side * p->gh; i++) f->rows->data[i] = corner_weight(i / p->gh, p->side, i % p->gh, p->gh);
    for (size_t i = 0; i < across * p->gw; i++) {
        f->left->data[i] = tile_weight(p, 0, i / p->gw, i % p->gw);
        f->right->data[i] = tile_weight(p, 1, i / p->gw, i % p->gw);
    }
    return true;
}

/* ---- what is judged ------------------------------------------------------------------------------------------ */
/* (11.4)  a(x) = x/2 + tanh(W x^ + b) U / 2; without texts x/2 + (W x^ + b)/2. x [1,n,E] */
static ag_tensor *adapted(fitting *f, ag_tensor *x) {
    ag_tape *t = &f->tape;
    ag_tensor *h = ag_linear(t, ag_normalize(t, x), f->W, f->b);
    if (f->texts) h = ag_matmul(t, ag_tanh(t, h), NO_T, f->texts, NO_T);
    return ag_add(t, ag_scale(t, x, (real).5, 0), ag_scale(t, h, (real).5, 0));
}

/* Logit of "anomalous" against "normal" for each patch, or of two tiles for each pixel. */
static ag_tensor *field(fitting *f, const real *x) {
    const anovl_problem *p = f->p;
    ag_tape *t = &f->tape;
    size_t n = p->patches;
    ag_tensor *logit[2] = {NULL, NULL};
    for (size_t i = 0; i < p->tiles; i++) {
        ag_tensor *a = adapted(f, ag_constant(t, x + i * n * p->embed, 1, n, p->embed));
        logit[i] = ag_linear(t, ag_normalize(t, a), f->towards, NULL); /* [1,n,1] */
    }
    if (p->tiles < 2) return logit[0];
    for (size_t i = 0; i < 2; i++) {
        ag_tensor *down = ag_matmul(t, f->rows, NO_T, ag_reshape(t, logit[i], 1, p->gh, p->gw), NO_T);
        logit[i] = ag_matmul(t, down, NO_T, i ? f->right : f->left, T);
    }
    return ag_add(t, logit[0], logit[1]);
}

/* (11.5)  mean(-sum p log p) + mean(-log p~[anomalous] - log p[normal]) / 2, with p[anomalous] = sigmoid(d): minus its
 * logarithm is softplus(-d), minus the other's softplus(d). */
static ag_tensor *loss_of(fitting *f, ag_tensor *d, ag_tensor *noisy) {
    ag_tape *t = &f->tape;
    if (!d || !noisy) return NULL;
    real share = 1 / (real)ag_size(d);
    ag_tensor *p = ag_sigmoid(t, d), *bad = ag_softplus(t, ag_scale(t, d, -1, 0)), *good = ag_softplus(t, d);
    ag_tensor *entropy = ag_add(t, ag_dot(t, p, bad), ag_dot(t, ag_scale(t, p, -1, 1), good));
    ag_tensor *pull = ag_add(t, ag_sum(t, ag_softplus(t, ag_scale(t, noisy, -1, 0))), ag_sum(t, good));
    return ag_add(t, ag_scale(t, entropy, share, 0), ag_scale(t, pull, share / 2, 0));
}

/* ---- AdamW, as PyTorch has it ------------------------------------------------------------------------------------ */
typedef struct {
    real *value;
    double *m, *v;
    size_t n;
} parameter;

static void step(parameter *p, const real *g, size_t t) {
    const double lr = 1e-3, decay = 1e-2, b1 = .9, b2 = .999, eps = 1e-8;
    double c1 = 1 - pow(b1, (double)t), c2 = 1 - pow(b2, (double)t);
    for (size_t i = 0; i < p->n; i++) {
        double d = (double)g[i];
        p->m[i] = b1 * p->m[i] + (1 - b1) * d, p->v[i] = b2 * p->v[i] + (1 - b2) * d * d;
        p->value[i] = (real)((double)p->value[i] * (1 - lr * decay) - lr * (p->m[i] / c1) / (sqrt(p->v[i] / c2) + eps));
    }
}

/* ---- together --------------------------------------------------------------------------------------------------- */
static bool fitting_open(fitting *f, const anovl_problem *p, const real *W, const real *b, arena *memory, pool *cores) {
    memset(f, 0, sizeof *f);
    f->p = p;
    if (!ag_tape_init(&f->tape, memory, cores, 512)) return false;
    ag_tape *t = &f->tape;
    f->W = ag_leaf(t, (real *)(uintptr_t)W, NULL, 1, p->rows, p->embed);
    f->b = ag_leaf(t, (real *)(uintptr_t)b, NULL, 1, 1, p->rows);
    f->texts = p->texts ? ag_constant(t, p->texts, 1, p->rows, p->embed) : NULL;
    f->towards = ag_new(t, 1, 1, p->embed);
    if (!f->W || !f->b || !f->towards || (p->texts && !f->texts)) return false;
    for (size_t k = 0; k < p->embed; k++) f->towards->data[k] = p->pair[p->embed + k] - p->pair[k];
    return make_matrices(f);
}

static bool fit(fitting *f, parameter each[2], const real *noise, size_t steps, real *noisy, real *losses) {
    const anovl_problem *p = f->p;
    size_t n = p->tiles * p->patches * p->embed;
    for (size_t s = 0; s < steps; s++) {
        ag_mark mark = ag_tape_mark(&f->tape);
        for (size_t i = 0; i < n; i++) noisy[i] = p->x[i] + noise[s * n + i];
        ag_tensor *loss = loss_of(f, field(f, p->x), field(f, noisy)), *wrt[2] = {f->W, f->b};
        if (!loss || !ag_grad(&f->tape, loss, NULL, wrt, 2, 0)) return false;
        if (losses) losses[s] = ag_item(loss);
        for (size_t k = 0; k < 2; k++) step(&each[k], wrt[k]->grad->data, s + 1);
        ag_tape_reset(&f->tape, mark);
    }
    return true;
}

bool anovl_adapt(const anovl_problem *p, real *W, real *b, const real *noise, size_t steps, arena *memory, pool *cores,
                 real *losses, err *e) {
    size_t mark = arena_mark(memory), many = p->rows * p->embed, n = p->tiles * p->patches * p->embed;
    fitting f;
    double *moments = arena_alloc(memory, 2 * (many + p->rows), sizeof *moments);
    real *noisy = arena_alloc(memory, n, sizeof *noisy);
    if (!moments || !noisy) return err_set(e, "--memory: %zu bytes are too little for the adapter", memory->size);
    memset(moments, 0, 2 * (many + p->rows) * sizeof *moments);
    parameter each[2] = {{W, moments, moments + many, many}, {b, moments + 2 * many, moments + 2 * many + p->rows, p->rows}};
    bool ok = fitting_open(&f, p, W, b, memory, cores) && fit(&f, each, noise, steps, noisy, losses);
    if (!ok) err_fault(e, &f.tape.fault);
    arena_reset(memory, mark);
    return ok;
}

bool anovl_adapted(const anovl_problem *p, const real *W, const real *b, arena *memory, pool *cores, real *out, err *e) {
    size_t mark = arena_mark(memory), rows = p->tiles * p->patches;
    fitting f;
    ag_tensor *a = NULL;
    if (fitting_open(&f, p, W, b, memory, cores)) {
        f.tape.recording = false;
        a = adapted(&f, ag_constant(&f.tape, p->x, 1, rows, p->embed));
    }
    if (a) memcpy(out, a->data, rows * p->embed * sizeof *out);
    if (!a) err_fault(e, &f.tape.fault);
    arena_reset(memory, mark);
    return a != NULL;
}
