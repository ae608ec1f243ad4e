/* explain.c - LeGrad and its three gradients (see explain.h; equations: MODEL.md 4 and 5). */
#include "explain.h"
#include "simd.h"
#include <math.h>
#include <string.h>

enum {
    PIECE_ROWS = 256,  /* rows of G that one task makes: they stay in its core's cache until they are used */
    BLOCK_ROWS = 64,   /* rows of [n,F] that one task works on */
    CHUNK_COLS = 256,  /* columns of a matrix-vector product that one task makes */
    TAPE_NODES = 4096, /* of a layer's record, its gradient and the gradient of that */
    SET_LAST = 0,      /* `positive` of the last map */
    SET_FIRST = 1      /* and of the image embedding's */
};

static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }
static size_t pieces_of(size_t n, size_t most) { return (n + most - 1) / most; }
/* Piece i of `pieces` nearly equal ones of n starts here. */
static size_t piece_start(size_t n, size_t pieces, size_t i) { return n * i / pieces; }
static size_t cores_of(const explained *x) { return x->cores ? x->cores->width : 1; }
static const clip_tower *tower_of(const explained *x) { return &x->model->config.vision; }
static bool wanted(const explained *x, gradient_kind kind) { return x->options.gradient == kind; }

static bool out_of_memory(fault *f, const arena *a, size_t bytes) { return fault_memory(f, "explain", a, bytes); }

/* rows * cols reals from the arena; a fault and NULL when it is full. */
static real *take(explained *x, size_t rows, size_t cols, fault *f) {
    size_t count, bytes;
    if (f->code) return NULL;
    if (!size_mul(rows, cols, &count) || !size_mul(count, sizeof(real), &bytes)) bytes = SIZE_MAX;
    real *p = bytes == SIZE_MAX ? NULL : arena_alloc(x->memory, count, sizeof(real));
    if (!p) out_of_memory(f, x->memory, bytes);
    return p;
}

/* ---- vectors ---------------------------------------------------------------------------------- */
/* unit = v / |v|; the length. */
static real unit_of(const real *v, real *unit, size_t n) {
    real length = (real)sqrt((double)k_dot(v, v, n));
    for (size_t i = 0; i < n; i++) unit[i] = v[i] / length;
    return length;
}

/* g (the derivative by v/|v|) becomes the derivative by v: (g - (g.unit) unit) / |v|. Its own transpose. */
static void unit_transpose(real *g, const real *unit, real length, size_t n) {
    real along = k_dot(g, unit, n);
    for (size_t i = 0; i < n; i++) g[i] = (g[i] - along * unit[i]) / length;
}

/* c -> (c - mean(c) - xhat mean(c . xhat)) / sigma, in place: LayerNorm without gamma, derived. Its own transpose. */
static void centre(real *c, const real *xhat, real rstd, size_t n) {
    real mean = k_sum(c, n) / (real)n, along = k_dot(c, xhat, n) / (real)n;
    for (size_t i = 0; i < n; i++) c[i] = (c[i] - mean - xhat[i] * along) * rstd;
}

bool explain_silent(const real *e_unit, const real *z_unit, size_t n) {
    real most = sizeof(real) == sizeof(float) ? (real)1e-5 : (real)1e-12, apart = 0;
    for (size_t k = 0; k < n; k++) apart += (e_unit[k] - z_unit[k]) * (e_unit[k] - z_unit[k]);
    return apart <= most * most;
}

static bool silent(const explained *x, const explain_layer *l, const real *e_unit) {
    return explain_silent(e_unit, l->z_unit, x->model->config.embed);
}

/* ---- matrix times vector, spread ------------------------------------------------------------------ */
typedef struct {
    const real *m, *v;
    real *out;
    size_t rows, cols;
} mat_vec;

static void rows_times_matrix(void *arg, size_t i) { /* a chunk of out[cols] = v[rows] m[rows,cols] */
    const mat_vec *p = arg;
    size_t from = i * CHUNK_COLS, count = at_most(CHUNK_COLS, p->cols - from);
    memset(p->out + from, 0, count * sizeof(real));
    for (size_t r = 0; r < p->rows; r++) k_axpy(p->v[r], p->m + r * p->cols + from, p->out + from, count);
}

static void vec_mat(pool *cores, const real *v, const real *m, size_t rows, size_t cols, real *out) {
    mat_vec p = {m, v, out, rows, cols};
    spread(cores, pieces_of(cols, CHUNK_COLS), rows_times_matrix, &p);
}

static void matrix_times_column(void *arg, size_t i) { /* some of out[rows] += m[rows,cols] v[cols] */
    const mat_vec *p = arg;
    size_t from = i * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, p->rows - from);
    for (size_t r = from; r < to; r++) p->out[r] += k_dot(p->m + r * p->cols, p->v, p->cols);
}

static void mat_vec_add(pool *cores, const real *m, const real *v, size_t rows, size_t cols, real *out) {
    mat_vec p = {m, v, out, rows, cols};
    spread(cores, pieces_of(rows, BLOCK_ROWS), matrix_times_column, &p);
}

/* ---- relu over rows of G: R's sums, and which were positive ----------------------------------------- */
/* sum[c] = sum over rows of max(s[r,c], 0), where NaN stays NaN; positive[r,c] = s[r,c] > 0 (where not NULL). */
SIMD_KERNEL static void relu_rows(const real *restrict s, size_t stride, size_t rows, size_t cols, real *restrict sum,
                                  uint8_t *restrict positive) {
    memset(sum, 0, cols * sizeof *sum);
    for (size_t r = 0; r < rows; r++, s += stride) {
#pragma omp simd
        for (size_t c = 0; c < cols; c++) sum[c] += s[c] < 0 ? 0 : s[c];
        if (!positive) continue;
#pragma omp simd
        for (size_t c = 0; c < cols; c++) positive[c] = s[c] > 0;
        positive += cols;
    }
}

/* The transpose: d[r,c] = positive ? w[c] : 0. */
SIMD_KERNEL static void relu_transpose(const uint8_t *restrict positive, const real *restrict w, real *restrict d,
                                       size_t stride, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++, d += stride, positive += cols) {
#pragma omp simd
        for (size_t c = 0; c < cols; c++) d[c] = positive[c] ? w[c] : 0;
    }
}

/* One pass over the heads of one layer, forward or transposed: tasks are lanes, one for each core and each with its
 * own scratch for G; a lane works on every lanes-th piece. A piece is some rows of one head's G. */
typedef struct {
    explained *x;
    explain_layer *l;
    int set;
    size_t lanes;
} pass;

typedef struct {
    size_t head, first, rows, index;
    real *G;           /* [rows, n] scratch */
    uint8_t *positive; /* [rows, n-1] */
} piece;

static size_t piece_count(const explained *x) { return tower_of(x)->heads * x->work.pieces; }

static piece piece_at(const pass *p, size_t lane, size_t index) {
    const explain_work *w = &p->x->work;
    size_t n = p->x->n, i = index % w->pieces;
    piece c = {.head = index / w->pieces, .first = piece_start(n, w->pieces, i), .index = index};
    c.rows = piece_start(n, w->pieces, i + 1) - c.first;
    c.G = w->G + lane * w->piece_rows * n;
    uint8_t *positive = p->l->positive[p->set];
    c.positive = positive ? positive + (c.head * n + c.first) * (n - 1) : NULL;
    return c;
}

/* Sum of `count` parts [cols] into out, in their order, so that the bytes do not depend on who was first. */
static void add_parts(const real *parts, size_t count, size_t cols, real *out) {
    for (size_t i = 0; i < count; i++) k_axpy(1, parts + i * cols, out, cols);
}

/* ==== factored =================================================================================== */
/* (4.6)-(4.13): with gz = (e - (e.z)z)/|z|, u = LN_post^T(P gz)/n, a = W2^T u,
 *   g_i = W_o^T (u + LN2^T_i(W1^T (act'(h_i) . a))),   G^h = g^h (v^h)^T,   R_j = 1/(Hn) sum_h sum_i relu(G^h_ij).
 * LN2^T_i(b) = (I - 11^T/D - xhat_i xhat_i^T/D) gamma b / sigma_i, of which gamma and the mean go into W1 once
 * (`up`), 1/sigma_i into act', and xhat_i^T gamma W1^T = h_i - b1 - W1 beta is `h`:
 *   q_i = act'(h_i)/sigma_i . a,   m_i = h_i . q_i / D,   g_i = W_o^T u + q_i up [W_o] - m_i W_o^T xhat_i.
 * Each step below is followed by its transpose. */

/* ---- (4.6)-(4.8): e -> gz -> u -> a, W_o^T u: vectors, the same for every token ----------------------------- */
static void layer_vectors(explained *x, const explain_layer *l) {
    const clip_config *c = &x->model->config;
    const explain_work *w = &x->work;
    size_t D = c->vision.width, E = c->embed;
    memcpy(w->gz, w->e_unit, E * sizeof(real));
    unit_transpose(w->gz, l->z_unit, l->z_length, E);
    vec_mat(x->cores, w->gz, x->proj, E, D, w->p);
    k_mul(w->p, x->post_gamma, w->u, D);
    centre(w->u, l->m_unit, l->m_rstd / (real)x->n, D);
    if (!wanted(x, GRADIENT_FACTORED)) return;
    vec_mat(x->cores, w->u, l->fc2, D, c->vision.mlp, w->a);
    vec_mat(x->cores, w->u, l->out, D, D, w->out_u);
}

/* (4.18): a = dL/da and out_u = dL/d(W_o^T u) -> ez = dL/d(e unit) of this layer */
static void layer_vectors_transpose(explained *x, const explain_layer *l) {
    const clip_config *c = &x->model->config;
    const explain_work *w = &x->work;
    size_t D = c->vision.width, E = c->embed;
    memset(w->u, 0, D * sizeof(real));
    mat_vec_add(x->cores, l->fc2, w->a, D, c->vision.mlp, w->u);
    mat_vec_add(x->cores, l->out, w->out_u, D, D, w->u);
    centre(w->u, l->m_unit, l->m_rstd / (real)x->n, D);
    k_mul(w->u, x->post_gamma, w->p, D);
    memset(w->ez, 0, E * sizeof(real));
    mat_vec_add(x->cores, x->proj, w->p, E, D, w->ez);
    unit_transpose(w->ez, l->z_unit, l->z_length, E);
}

/* ---- (4.12): a -> q, m ------------------------------------------------------------------------------ */
/* q = act . a; returns h . q */
SIMD_KERNEL static real times_act(const real *restrict act, const real *restrict h, const real *restrict a,
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
    const pass *p = arg;
    const explained *x = p->x;
    size_t F = tower_of(x)->mlp, D = tower_of(x)->width;
    size_t from = block * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, x->n - from);
    for (size_t i = from; i < to; i++)
        x->work.m2[i] = times_act(p->l->act + i * F, p->l->h + i * F, x->work.a, x->work.q + i * F, F) / (real)D;
}

/* a += act . (q + m h) */
SIMD_KERNEL static void times_act_transpose(const real *restrict act, const real *restrict h, const real *restrict q,
                                            real m, real *restrict a, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) a[i] += act[i] * (q[i] + m * h[i]);
}

/* (4.16)'s m, (4.17). q = dL/dq, g = dL/dg: a block's shares of dL/da [F] and of dL/d(W_o^T u) [D] */
static void make_q_transpose(void *arg, size_t block) {
    const pass *p = arg;
    const explained *x = p->x;
    const explain_work *w = &x->work;
    size_t F = tower_of(x)->mlp, D = tower_of(x)->width;
    size_t from = block * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, x->n - from);
    real *a = w->parts + block * (F + D), *out_u = a + F;
    memset(a, 0, (F + D) * sizeof(real));
    for (size_t i = from; i < to; i++) {
        real m = -k_dot(w->g + i * D, p->l->xo + i * D, D) / (real)D;
        times_act_transpose(p->l->act + i * F, p->l->h + i * F, w->q + i * F, m, a, F);
    }
    k_sum_rows(w->g + from * D, out_u, to - from, D);
}

/* ---- (4.13): q -> g, without its vector terms ---------------------------------------------------------- */
static void make_g(explained *x, const explain_layer *l) {
    const explain_work *w = &x->work;
    size_t n = x->n, F = tower_of(x)->mlp, D = tower_of(x)->width;
    real *first = l->joined ? w->g : w->y;
    gemm_spread(x->cores, NO_T, NO_T, n, D, F, 1, w->q, F, l->up, D, 0, first, D);
    if (!l->joined) gemm_spread(x->cores, NO_T, NO_T, n, D, D, 1, w->y, D, l->out, D, 0, w->g, D);
}

/* (4.16)'s q */
static void make_g_transpose(explained *x, const explain_layer *l) {
    const explain_work *w = &x->work;
    size_t n = x->n, F = tower_of(x)->mlp, D = tower_of(x)->width;
    const real *first = l->joined ? w->g : w->y;
    if (!l->joined) gemm_spread(x->cores, NO_T, T, n, D, D, 1, w->g, D, l->out, D, 0, w->y, D);
    gemm_spread(x->cores, NO_T, T, n, F, D, 1, first, D, l->up, D, 0, w->q, F);
}

/* ---- (4.11), (4.3): g -> G -> R, heads spread over cores --------------------------------------------------- */
SIMD_KERNEL static void add_vector_terms(real *restrict g, const real *restrict out_u, const real *restrict xo, real m,
                                         size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) g[i] += out_u[i] - m * xo[i];
}

static void make_r(void *arg, size_t lane) {
    const pass *p = arg;
    const explained *x = p->x;
    const explain_work *w = &x->work;
    size_t n = x->n, D = tower_of(x)->width, d = D / tower_of(x)->heads;
    for (size_t k = lane; k < piece_count(x); k += p->lanes) {
        piece c = piece_at(p, lane, k);
        size_t at = c.head * d, corner = c.first * D + at;
        for (size_t i = 0; i < c.rows; i++)
            add_vector_terms(w->g + corner + i * D, w->out_u + at, p->l->xo + corner + i * D, w->m2[c.first + i], d);
        gemm(NO_T, T, c.rows, n - 1, d, 1, w->g + corner, D, p->l->v + D + at, D, 0, c.G, n - 1); /* no class token */
        relu_rows(c.G, n - 1, c.rows, n - 1, w->parts + k * (n - 1), c.positive);
    }
}

/* (4.14), (4.15): w = dL/dR/(Hn) -> g = dL/dg */
static void make_r_transpose(void *arg, size_t lane) {
    const pass *p = arg;
    const explained *x = p->x;
    const explain_work *w = &x->work;
    size_t n = x->n, D = tower_of(x)->width, d = D / tower_of(x)->heads;
    for (size_t k = lane; k < piece_count(x); k += p->lanes) {
        piece c = piece_at(p, lane, k);
        size_t at = c.head * d;
        relu_transpose(c.positive, w->w, c.G, n - 1, c.rows, n - 1);
        gemm(NO_T, NO_T, c.rows, d, n - 1, 1, c.G, n - 1, p->l->v + D + at, D, 0, w->g + c.first * D + at, D);
    }
}

/* ---- all of it, for one layer --------------------------------------------------------------------------------- */
static void factored_forward(pass *p) {
    layer_vectors(p->x, p->l);
    spread(p->x->cores, pieces_of(p->x->n, BLOCK_ROWS), make_q, p);
    make_g(p->x, p->l);
    spread(p->x->cores, p->lanes, make_r, p);
}

static void factored_transpose(pass *p) {
    explained *x = p->x;
    const explain_work *w = &x->work;
    size_t F = tower_of(x)->mlp, D = tower_of(x)->width, blocks = pieces_of(x->n, BLOCK_ROWS);
    spread(x->cores, p->lanes, make_r_transpose, p);
    make_g_transpose(x, p->l);
    spread(x->cores, blocks, make_q_transpose, p);
    memset(w->a, 0, F * sizeof(real));
    memset(w->out_u, 0, D * sizeof(real));
    for (size_t b = 0; b < blocks; b++) {
        k_axpy(1, w->parts + b * (F + D), w->a, F);
        k_axpy(1, w->parts + b * (F + D) + F, w->out_u, D);
    }
    layer_vectors_transpose(x, p->l);
}

/* ==== decomposed ====================================================================================== */
/* (4.5): G = sum_k e_k dz_k/dA, and its transpose dL/de_k = dL/dG . dz_k/dA: the tensor is read once for each. */
static void decomposed_r(void *arg, size_t lane) {
    const pass *p = arg;
    const explained *x = p->x;
    size_t n = x->n, E = x->model->config.embed, all = tower_of(x)->heads * n * n;
    for (size_t k = lane; k < piece_count(x); k += p->lanes) {
        piece c = piece_at(p, lane, k);
        const real *t = p->l->dzdA + (c.head * n + c.first) * n;
        memset(c.G, 0, c.rows * n * sizeof(real));
        for (size_t e = 0; e < E; e++) k_axpy(x->work.e_unit[e], t + e * all, c.G, c.rows * n);
        relu_rows(c.G + 1, n, c.rows, n - 1, x->work.parts + k * (n - 1), c.positive);
    }
}

static void decomposed_r_transpose(void *arg, size_t lane) {
    const pass *p = arg;
    const explained *x = p->x;
    size_t n = x->n, E = x->model->config.embed, all = tower_of(x)->heads * n * n;
    for (size_t k = lane; k < piece_count(x); k += p->lanes) {
        piece c = piece_at(p, lane, k);
        const real *t = p->l->dzdA + (c.head * n + c.first) * n;
        for (size_t i = 0; i < c.rows; i++) c.G[i * n] = 0; /* the class token's column */
        relu_transpose(c.positive, x->work.w, c.G + 1, n, c.rows, n - 1);
        for (size_t e = 0; e < E; e++) x->work.parts[k * E + e] = k_dot(t + e * all, c.G, c.rows * n);
    }
}

static void decomposed_transpose(pass *p) {
    explained *x = p->x;
    size_t E = x->model->config.embed;
    spread(x->cores, p->lanes, decomposed_r_transpose, p);
    memset(x->work.ez, 0, E * sizeof(real));
    add_parts(x->work.parts, piece_count(x), E, x->work.ez);
}

/* ==== autograd ========================================================================================== */
/* The definition, (4.1)-(4.3): G = ds/dA for s = e.z/|z|, by the tape, of which it stays a part. */
ag_tensor *explain_tape_grid(explained *x, ag_tensor *e_unit) {
    if (x->options.other) return x->options.other->grid(x->options.other->arg, x, e_unit);
    ag_tape *t = &x->tape;
    size_t n = x->n, H = tower_of(x)->heads;
    uint32_t *patches = arena_alloc(x->memory, n, sizeof *patches);
    if (!patches) {
        out_of_memory(&t->fault, x->memory, n * sizeof *patches);
        return NULL;
    }
    for (size_t i = 1; i < n; i++) patches[i - 1] = (uint32_t)i;
    ag_tensor *grid = NULL;
    for (size_t i = 0; i < x->options.layers; i++) {
        explain_layer *l = &x->layers[i];
        if (silent(x, l, e_unit->data)) continue;
        ag_tensor *s = ag_dot(t, e_unit, l->z_tensor);
        if (!ag_grad(t, s, NULL, &l->A, 1, AG_DIFFERENTIABLE)) return NULL;
        ag_tensor *sums = ag_fit(t, ag_relu(t, l->A->grad), 1, 1, n); /* over heads and rows */
        ag_tensor *r = ag_scale(t, sums, 1 / (real)(H * n), 0);
        r = ag_rows(t, ag_reshape(t, r, 1, n, 1), patches, n - 1); /* drops the class token */
        grid = grid ? ag_add(t, grid, r) : r;
    }
    if (!grid && (grid = ag_new(t, 1, 1, n - 1))) memset(grid->data, 0, (n - 1) * sizeof(real));
    return ag_reshape(t, grid, 1, x->gh, x->gw);
}

static bool tape_grid(explained *x, real *grid, fault *f) {
    ag_mark mark = ag_tape_mark(&x->tape);
    ag_tensor *e = ag_constant(&x->tape, x->work.e_unit, 1, 1, x->model->config.embed);
    ag_tensor *r = explain_tape_grid(x, e);
    if (r)
        memcpy(grid, r->data, x->gh * x->gw * sizeof(real));
    else
        *f = x->tape.fault;
    x->tape.fault = (fault){0}; /* of this map; the record below the mark is whole */
    ag_tape_reset(&x->tape, mark);
    return r != NULL;
}

/* ==== the grid, and its derivative ========================================================================= */
static bool set_embedding(explained *x, const real *e, real *length, fault *f) {
    size_t E = x->model->config.embed;
    *length = unit_of(e, x->work.e_unit, E);
    if (*length > 0 && k_finite(x->work.e_unit, E)) return true;
    return fault_set(f, FAULT_NAN, "the embedding", NULL, 0);
}

static void layer_forward(pass *p) {
    if (wanted(p->x, GRADIENT_FACTORED))
        factored_forward(p);
    else
        spread(p->x->cores, p->lanes, decomposed_r, p);
}

static bool grid_into(explained *x, const real *e, int set, real *grid, fault *f) {
    size_t cells = x->gh * x->gw;
    real length, mean = 1 / (real)(tower_of(x)->heads * x->n);
    if (!set_embedding(x, e, &length, f)) return false;
    if (wanted(x, GRADIENT_AUTOGRAD)) {
        if (!tape_grid(x, grid, f)) return false;
    } else {
        memset(grid, 0, cells * sizeof(real));
        for (size_t i = 0; i < x->options.layers; i++) {
            pass p = {x, &x->layers[i], set, cores_of(x)};
            if (silent(x, p.l, x->work.e_unit)) continue;
            layer_forward(&p);
            add_parts(x->work.parts, piece_count(x), cells, grid);
        }
        for (size_t j = 0; j < cells; j++) grid[j] *= mean;
    }
    return k_finite(grid, cells) || fault_set(f, FAULT_NAN, "the map", NULL, 0);
}

bool explain_grid(explained *x, const real *e, real *grid, fault *f) { return grid_into(x, e, SET_LAST, grid, f); }

bool explain_grid_first(explained *x, real *grid, fault *f) {
    if (!x->first_ready && !grid_into(x, x->embedding, SET_FIRST, x->first_grid, f)) return false;
    x->first_ready = true;
    memcpy(grid, x->first_grid, x->gh * x->gw * sizeof(real));
    return true;
}

bool explain_transpose(explained *x, const real *e, bool first, const real *w, real *de, fault *f) {
    size_t cells = x->gh * x->gw, E = x->model->config.embed;
    real length, mean = 1 / (real)(tower_of(x)->heads * x->n);
    if (!set_embedding(x, e, &length, f)) return false;
    for (size_t j = 0; j < cells; j++) x->work.w[j] = w[j] * mean;
    memset(de, 0, E * sizeof(real));
    for (size_t i = 0; i < x->options.layers; i++) {
        pass p = {x, &x->layers[i], first ? SET_FIRST : SET_LAST, cores_of(x)};
        if (silent(x, p.l, x->work.e_unit)) continue;
        if (wanted(x, GRADIENT_FACTORED))
            factored_transpose(&p);
        else
            decomposed_transpose(&p);
        k_axpy(1, x->work.ez, de, E);
    }
    unit_transpose(de, x->work.e_unit, length, E); /* through e/|e| */
    return k_finite(de, E) || fault_set(f, FAULT_NAN, "the map's derivative", NULL, 0);
}

bool explain_legrad(explained *x, const real *e, real *map, fault *f) {
    size_t mark = arena_mark(x->memory);
    real *grid = take(x, x->gh, x->gw, f);
    bool ok = grid && explain_grid(x, e, grid, f) &&
              map_from_grid(grid, x->gh, x->gw, x->model->config.patch, x->options.layers, map, x->memory, f);
    arena_reset(x->memory, mark);
    return ok;
}

/* ==== opening: the forward pass, and what is kept of it ====================================================== */
static void show(const explain_watch *watch, const char *name, size_t layer, const real *data, size_t rank, size_t s0,
                 size_t s1, size_t s2) {
    if (!watch) return;
    explain_value v = {name, true, layer, false, 0, data, rank, {s0, s1, s2}};
    watch->see(watch->arg, &v);
}

/* A weight's numbers as `real`, kept in the arena where they are not stored so. */
static const real *keep_weight(explained *x, const clip_weight *w, fault *f) {
    ag_tape t = {.memory = x->memory, .cores = x->cores};
    ag_tensor *used = f->code ? NULL : clip_use(&t, w);
    if (!used && !f->code) *f = t.fault;
    return used ? used->data : NULL;
}

/* The tape and dz/dA know no u and a: for a watch they are made all the same. */
void explain_show(explained *x, const explain_watch *watch, const real *e, size_t step) {
    fault ignored = {0};
    real length;
    if (!watch || x->options.other || !set_embedding(x, e, &length, &ignored)) return;
    size_t D = tower_of(x)->width, F = tower_of(x)->mlp, E = x->model->config.embed, mark = arena_mark(x->memory);
    real *own = wanted(x, GRADIENT_FACTORED) ? NULL : take(x, 1, F, &ignored);
    for (size_t i = 0; i < x->options.layers && !ignored.code; i++) {
        const explain_layer *l = &x->layers[i];
        size_t weights = arena_mark(x->memory);
        layer_vectors(x, l);
        const real *fc2 = own ? keep_weight(x, &x->model->blocks[l->index].fc2, &ignored) : NULL;
        if (fc2) vec_mat(x->cores, x->work.u, fc2, D, F, own);
        arena_reset(x->memory, weights);
        explain_value z = {"z", true, l->index, true, step, l->z, 1, {E, 0, 0}};
        explain_value u = {"u", true, l->index, true, step, x->work.u, 1, {D, 0, 0}};
        explain_value a = {"a", true, l->index, true, step, own ? own : x->work.a, 1, {F, 0, 0}};
        watch->see(watch->arg, &z);
        watch->see(watch->arg, &u);
        if (!own || fc2) watch->see(watch->arg, &a);
    }
    arena_reset(x->memory, mark);
}

/* P as [E,D], however it is stored. */
static void keep_projection(explained *x, fault *f) {
    size_t E = x->model->config.embed, D = tower_of(x)->width;
    x->proj = take(x, E, D, f);
    x->post_gamma = take(x, 1, D, f);
    size_t mark = arena_mark(x->memory);
    const real *p = keep_weight(x, &x->model->proj, f), *g = keep_weight(x, &x->model->post_gamma, f);
    if (f->code) return;
    for (size_t e = 0; e < E; e++)
        for (size_t d = 0; d < D; d++) x->proj[e * D + d] = x->model->proj.transposed ? p[d * E + e] : p[e * D + d];
    memcpy(x->post_gamma, g, D * sizeof(real));
    arena_reset(x->memory, mark);
}

/* Joining W1 and W_o costs one F x D x D product and saves an n x D x D one in each pass. */
static bool joining_pays(const explained *x) {
    size_t passes = x->options.steps ? 2 * x->options.steps : 1;
    return passes * x->n > tower_of(x)->mlp;
}

static void take_layer(explained *x, explain_layer *l, fault *f) {
    size_t n = x->n, D = tower_of(x)->width, F = tower_of(x)->mlp, E = x->model->config.embed, H = tower_of(x)->heads;
    const clip_block_weights *w = &x->model->blocks[l->index];
    l->z = take(x, 1, E, f);
    l->z_unit = take(x, 1, E, f);
    l->m_unit = take(x, 1, D, f);
    if (wanted(x, GRADIENT_AUTOGRAD)) return;
    for (int set = 0; set < 2 && x->options.steps && !f->code; set++) {
        l->positive[set] = arena_alloc(x->memory, H * n, n - 1);
        if (!l->positive[set]) out_of_memory(f, x->memory, H * n * (n - 1));
    }
    if (wanted(x, GRADIENT_DECOMPOSED)) return;
    l->joined = joining_pays(x);
    l->act = take(x, n, F, f);
    l->h = take(x, n, F, f);
    l->up = take(x, F, D, f);
    l->v = take(x, n, D, f);
    l->xo = take(x, n, D, f);
    l->out = keep_weight(x, &w->out, f);
    l->fc2 = keep_weight(x, &w->fc2, f);
}

/* dz/dA's size is known before anything is computed: better refused at once. */
static void take_tensors(explained *x, fault *f) {
    size_t bytes = sizeof(real), H = tower_of(x)->heads, limit = arena_left(x->memory);
    const size_t shape[] = {x->options.layers, x->model->config.embed, H, x->n, x->n};
    for (size_t i = 0; i < 5; i++)
        if (!size_mul(bytes, shape[i], &bytes)) bytes = SIZE_MAX / 2;
    if (x->options.memory) limit = at_most(limit, x->options.memory);
    if (bytes > limit) {
        fault_set(f, FAULT_MEMORY, "dz/dA", (size_t[]){bytes, limit, x->memory->size}, 3);
        return;
    }
    for (size_t i = 0; i < x->options.layers; i++)
        x->layers[i].dzdA = take(x, x->model->config.embed, H * x->n * x->n, f);
}

static void take_work(explained *x, fault *f) {
    size_t n = x->n, D = tower_of(x)->width, F = tower_of(x)->mlp, E = x->model->config.embed, H = tower_of(x)->heads;
    explain_work *w = &x->work;
    w->e_unit = take(x, 1, E, f);
    w->w = take(x, x->gh, x->gw, f);
    w->gz = take(x, 1, E, f);
    w->ez = take(x, 1, E, f);
    w->p = take(x, 1, D, f);
    w->u = take(x, 1, D, f);
    if (wanted(x, GRADIENT_AUTOGRAD)) return;
    w->pieces = pieces_of(n, PIECE_ROWS);
    w->piece_rows = pieces_of(n, w->pieces);
    w->G = take(x, cores_of(x) * w->piece_rows, n, f);
    size_t heads = H * w->pieces * (E > n ? E : n), blocks = pieces_of(n, BLOCK_ROWS) * (F + D);
    w->parts = take(x, 1, heads > blocks ? heads : blocks, f);
    if (wanted(x, GRADIENT_DECOMPOSED)) return;
    w->a = take(x, 1, F, f);
    w->out_u = take(x, 1, D, f);
    w->q = take(x, n, F, f);
    w->g = take(x, n, D, f);
    w->y = joining_pays(x) ? NULL : take(x, n, D, f);
    w->m2 = take(x, 1, n, f);
}

/* ---- what each gradient keeps of a layer ------------------------------------------------------------------------ */
/* z = LN_post(mean over all tokens of x2) P (4.1), and what LN_post's derivative needs. */
static void keep_z(explained *x, explain_layer *l, const real *x2, fault *f) {
    size_t n = x->n, D = tower_of(x)->width, E = x->model->config.embed, mark = arena_mark(x->memory);
    ag_tape t = {.memory = x->memory, .cores = x->cores};
    ag_tensor *m = ag_new(&t, 1, 1, D);
    if (m) {
        memset(m->data, 0, D * sizeof(real));
        k_sum_rows(x2, m->data, n, D);
        for (size_t i = 0; i < D; i++) m->data[i] /= (real)n;
        k_layernorm(m->data, NULL, NULL, tower_of(x)->eps, l->m_unit, NULL, &l->m_rstd, 1, D);
    }
    ag_tensor *z = clip_project(&t, x->model, m);
    if (z) {
        memcpy(l->z, z->data, E * sizeof(real));
        l->z_length = unit_of(l->z, l->z_unit, E);
        if (!k_finite(l->z_unit, E)) fault_set(f, FAULT_NAN, "z", &l->index, 1);
    } else if (!f->code)
        *f = t.fault;
    arena_reset(x->memory, mark);
}

typedef struct {
    explained *x;
    explain_layer *l;
    const real *h, *rstd, *shift;
} kept_h;

static void keep_h_rows(void *arg, size_t block) {
    const kept_h *k = arg;
    size_t F = tower_of(k->x)->mlp, from = block * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, k->x->n - from);
    for (size_t i = from; i < to; i++) {
        const real *h = k->h + i * F;
        real *act = k->l->act + i * F, *centred = k->l->h + i * F;
        k_act(k->x->model->config.act_vision, 1, h, act, F);
        for (size_t j = 0; j < F; j++) {
            act[j] *= k->rstd[i];
            centred[j] = h[j] - k->shift[j];
        }
    }
}

/* up = W1 diag(gamma) (I - 11^T/D), and shift = b1 + W1 beta */
static void keep_up(explained *x, explain_layer *l, const real *fc1, const real *bias, const real *gamma,
                    const real *beta, real *up, real *shift) {
    size_t F = tower_of(x)->mlp, D = tower_of(x)->width;
    for (size_t i = 0; i < F; i++) {
        const real *w = fc1 + i * D;
        real *row = up + i * D;
        shift[i] = bias[i] + k_dot(w, beta, D);
        k_mul(w, gamma, row, D);
        real mean = k_sum(row, D) / (real)D;
        for (size_t j = 0; j < D; j++) row[j] -= mean;
    }
    if (l->joined) gemm_spread(x->cores, NO_T, NO_T, F, D, D, 1, up, D, l->out, D, 0, l->up, D);
}

static void keep_factored(explained *x, explain_layer *l, const clip_taps *taps, fault *f) {
    size_t n = x->n, D = tower_of(x)->width, F = tower_of(x)->mlp, mark = arena_mark(x->memory);
    const clip_block_weights *w = &x->model->blocks[l->index];
    const real *gamma = keep_weight(x, &w->ln2_gamma, f), *beta = keep_weight(x, &w->ln2_beta, f);
    const real *fc1 = keep_weight(x, &w->fc1, f), *bias = keep_weight(x, &w->fc1_bias, f);
    real *shift = take(x, 1, F, f), *rstd = take(x, 1, n, f), *xhat = take(x, n, D, f);
    real *up = l->joined ? take(x, F, D, f) : l->up;
    if (!f->code) {
        memcpy(l->v, taps->v->data, n * D * sizeof(real));
        k_layernorm(taps->x1->data, NULL, NULL, tower_of(x)->eps, xhat, NULL, rstd, n, D);
        gemm_spread(x->cores, NO_T, NO_T, n, D, D, 1, xhat, D, l->out, D, 0, l->xo, D);
        keep_up(x, l, fc1, bias, gamma, beta, up, shift);
        kept_h k = {x, l, taps->h->data, rstd, shift};
        spread(x->cores, pieces_of(n, BLOCK_ROWS), keep_h_rows, &k);
    }
    arena_reset(x->memory, mark);
}

/* The authors' way: E backward passes, one for each component of z/|z|. */
static void keep_decomposed(explained *x, explain_layer *l, ag_tape *t, ag_tensor *z, ag_tensor *A, fault *f) {
    size_t E = x->model->config.embed, all = ag_size(A);
    real *seed = x->work.gz;
    for (size_t k = 0; k < E && !t->fault.code; k++) {
        ag_mark mark = ag_tape_mark(t);
        memset(seed, 0, E * sizeof(real));
        seed[k] = 1;
        if (ag_grad(t, z, ag_constant(t, seed, 1, 1, E), &A, 1, 0))
            memcpy(l->dzdA + k * all, A->grad->data, all * sizeof(real));
        ag_tape_reset(t, mark);
    }
    if (t->fault.code) *f = t->fault;
}

/* z/|z| on the tape, from the tokens after the block: the definition's own words. */
static ag_tensor *tape_z(explained *x, ag_tape *t, ag_tensor *x2) {
    if (!x2) return NULL;
    ag_tensor *m = ag_scale(t, ag_fit(t, x2, 1, 1, x2->cols), 1 / (real)x->n, 0);
    return ag_normalize(t, clip_project(t, x->model, m));
}

/* An explained block: with its intermediates, and with a record where the tape has to differentiate it. */
static ag_tensor *run_explained(explained *x, explain_layer *l, ag_tape *t, ag_tensor *in, fault *f) {
    const clip_config *c = &x->model->config;
    size_t n = x->n, F = c->vision.mlp, H = c->vision.heads;
    clip_taps taps = {0};
    t->recording = !wanted(x, GRADIENT_FACTORED);
    ag_tensor *x2 = clip_block(t, &x->run, &x->model->blocks[l->index], in, &taps, t->recording);
    ag_tensor *z = t->recording ? tape_z(x, t, x2) : NULL;
    if (t->fault.code || !x2) {
        if (!f->code) *f = t->fault;
        return NULL;
    }
    keep_z(x, l, x2->data, f);
    l->A = taps.A;
    l->z_tensor = z;
    if (wanted(x, GRADIENT_FACTORED)) keep_factored(x, l, &taps, f);
    if (wanted(x, GRADIENT_DECOMPOSED)) keep_decomposed(x, l, t, z, taps.A, f);
    show(x->options.watch, "attention", l->index, taps.A->data, 3, H, n, n);
    show(x->options.watch, "h", l->index, taps.h->data, 2, n, F, 0);
    if (x->options.watch && !f->code) {
        k_act(c->act_vision, 1, taps.h->data, taps.h->data, n * F); /* of no more use here */
        show(x->options.watch, "act'(h)", l->index, taps.h->data, 2, n, F, 0);
    }
    return x2;
}

/* The tape of the explained layers: autograd's stays, the others' is forgotten after each block. */
static void run_blocks(explained *x, real *tokens, fault *f) {
    const clip_config *c = &x->model->config;
    ag_tape *t = &x->tape;
    size_t n = x->n, D = c->vision.width, start = c->vision.layers - x->options.layers;
    for (size_t i = 0; i < c->vision.layers && !f->code; i++) {
        ag_mark mark = ag_tape_mark(t);
        bool keep = i >= start && wanted(x, GRADIENT_AUTOGRAD);
        t->recording = false;
        real *own = keep ? take(x, n, D, f) : tokens; /* a record needs its input as it was */
        if (!own) return;
        if (keep) memcpy(own, tokens, n * D * sizeof(real));
        ag_tensor *in = ag_constant(t, own, 1, n, D);
        ag_tensor *out = i < start ? clip_block(t, &x->run, &x->model->blocks[i], in, NULL, false)
                                   : run_explained(x, &x->layers[i - start], t, in, f);
        if (out)
            memcpy(tokens, out->data, n * D * sizeof(real));
        else if (!f->code)
            *f = t->fault;
        show(x->options.watch, "tokens", i, tokens, 2, n, D, 0);
        if (!keep) ag_tape_reset(t, mark);
    }
}

static void forward(explained *x, const real *pixels, fault *f) {
    const clip_config *c = &x->model->config;
    size_t D = c->vision.width, E = c->embed;
    ag_tape *t = &x->tape;
    real *tokens = take(x, x->n, D, f);
    if (!f->code && !ag_tape_init(t, x->memory, x->cores, TAPE_NODES * x->options.layers)) *f = t->fault;
    if (f->code) return;
    t->recording = false;
    x->run = clip_image_run(t, x->model, x->gh, x->gw);
    ag_mark mark = ag_tape_mark(t);
    ag_tensor *patches = clip_patches(t, x->model, pixels, x->height, x->width);
    ag_tensor *in = clip_embed(t, x->model, patches, x->gh, x->gw, POSITION_BICUBIC);
    if (in)
        memcpy(tokens, in->data, x->n * D * sizeof(real));
    else
        *f = t->fault;
    ag_tape_reset(t, mark);
    if (!f->code) run_blocks(x, tokens, f);
    mark = ag_tape_mark(t);
    t->recording = false;
    ag_tensor *embedding = f->code ? NULL : clip_head(t, x->model, ag_constant(t, tokens, 1, x->n, D));
    if (embedding)
        memcpy(x->embedding, embedding->data, E * sizeof(real));
    else if (!f->code)
        *f = t->fault;
    ag_tape_reset(t, mark);
    t->recording = true;
    if (!f->code && !k_finite(x->embedding, E)) fault_set(f, FAULT_NAN, "the image embedding", NULL, 0);
}

static bool valid_request(explained *x, fault *f) {
    const clip_config *c = &x->model->config;
    size_t depth = c->vision.layers, p = c->patch;
    if (x->options.other)
        x->options.gradient = GRADIENT_AUTOGRAD;
    else if (x->options.layers == 0)
        x->options.layers = 1;
    if (x->options.layers > depth)
        return fault_set(f, FAULT_RANGE, "layers", (size_t[]){x->options.layers, 1, depth}, 3);
    const size_t sides[] = {x->height, x->width};
    for (int i = 0; i < 2; i++)
        if (sides[i] == 0 || sides[i] % p)
            return fault_set(f, FAULT_SHAPE, "pixels", (size_t[]){3, x->height, x->width, 3, p, p}, 6);
    return true;
}

static bool ready_other(explained *x, fault *f) {
    x->tape.recording = true;
    return k_finite(x->embedding, x->model->config.embed) || fault_set(f, FAULT_NAN, "the image embedding", NULL, 0);
}

bool explain_open(explained *x, const clip_model *m, const real *pixels, size_t height, size_t width,
                  const explain_options *o, arena *memory, pool *cores, fault *f) {
    size_t p = m->config.patch;
    *x = (explained){.model = m, .options = *o, .memory = memory, .cores = cores, .height = height, .width = width};
    if (f->code || !valid_request(x, f)) return false;
    x->gh = height / p;
    x->gw = width / p;
    x->n = 1 + x->gh * x->gw;
    x->embedding = take(x, 1, m->config.embed, f);
    x->first_grid = take(x, x->gh, x->gw, f);
    take_work(x, f);
    if (o->other) return !f->code && o->other->open(o->other->arg, x, pixels, f) && ready_other(x, f);
    x->layers = f->code ? NULL : arena_alloc(memory, x->options.layers, sizeof *x->layers);
    if (!x->layers) return f->code ? false : out_of_memory(f, memory, x->options.layers * sizeof *x->layers);
    memset(x->layers, 0, x->options.layers * sizeof *x->layers);
    keep_projection(x, f);
    for (size_t i = 0; i < x->options.layers; i++) {
        x->layers[i].index = m->config.vision.layers - x->options.layers + i;
        take_layer(x, &x->layers[i], f);
    }
    if (!f->code && wanted(x, GRADIENT_DECOMPOSED)) take_tensors(x, f);
    if (!f->code) forward(x, pixels, f);
    return f->code == FAULT_NONE;
}
