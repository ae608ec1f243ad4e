/* gradient.c - what the gradients of LeGrad share: room, vectors, pieces of G (see gradient.h; equations: MODEL.md 4). */
#include "gradient.h"
#include "simd.h"
#include <string.h>

enum {
    PIECE_ROWS = 256, /* rows of G that one task makes: they stay in its core's cache until they are used */
    CHUNK_COLS = 256  /* columns of a matrix-vector product that one task makes */
};

/* ---- room ------------------------------------------------------------------------------------------ */
real *explain_take(explained *x, size_t rows, size_t cols, fault *f) {
    return arena_numbers(x->memory, rows, cols, "explain", f);
}

void *explain_scratch(explained *x, size_t bytes, fault *f) {
    x->scratch = f->code ? NULL : arena_alloc(x->memory, 1, bytes);
    if (!x->scratch) fault_memory(f, "explain", x->memory, bytes);
    return x->scratch;
}

void *explain_own(explained *x, size_t bytes, fault *f) {
    size_t layers = x->options.layers;
    unsigned char *own = f->code ? NULL : arena_alloc(x->memory, layers, bytes);
    if (!own) {
        if (!f->code) fault_memory(f, "explain", x->memory, layers * bytes);
        return NULL;
    }
    memset(own, 0, layers * bytes);
    for (size_t i = 0; i < layers; i++) x->layers[i].own = own + i * bytes;
    return own;
}

const real *explain_weight(explained *x, const clip_weight *w, fault *f) {
    ag_tape t = {.memory = x->memory, .cores = x->cores};
    real *turned = w->transposed && !f->code ? explain_take(x, w->rows, w->cols, f) : NULL;
    size_t mark = arena_mark(x->memory);
    ag_tensor *used = f->code ? NULL : clip_use(&t, w);
    if (!used && !f->code) *f = t.fault;
    if (!used || !turned) return used ? used->data : NULL;
    for (size_t i = 0; i < w->rows; i++)
        for (size_t j = 0; j < w->cols; j++) turned[i * w->cols + j] = used->data[j * w->rows + i];
    arena_reset(x->memory, mark);
    return turned;
}

void explain_take_pieces(explained *x, size_t least, fault *f) {
    explain_work *w = &x->work;
    size_t E = x->model->config.embed, H = x->tower->heads, widest = E > x->n ? E : x->n;
    w->pieces = pieces_of(x->rows, PIECE_ROWS);
    w->piece_rows = pieces_of(x->rows, w->pieces);
    w->G = explain_take(x, explain_cores(x) * w->piece_rows, x->n, f);
    size_t parts = H * w->pieces * widest;
    w->parts = explain_take(x, 1, parts > least ? parts : least, f);
    for (size_t i = 0; i < x->options.layers && x->options.steps; i++)
        for (int set = 0; set < 2 && !f->code; set++) {
            x->layers[i].positive[set] = arena_alloc(x->memory, H * x->rows, explain_columns(x));
            if (!x->layers[i].positive[set])
                fault_memory(f, "explain", x->memory, H * x->rows * explain_columns(x));
        }
}

/* ---- vectors ---------------------------------------------------------------------------------- */
real explain_unit(const real *v, real *unit, size_t n) {
    real length = k_sqrt(k_dot(v, v, n));
    for (size_t i = 0; i < n; i++) unit[i] = v[i] / length;
    return length;
}

void explain_unit_transpose(real *g, const real *unit, real length, size_t n) {
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

bool explain_agrees(const explained *x, const explain_layer *l, const real *e_unit) {
    return x->unit && explain_silent(e_unit, l->z_unit, x->model->config.embed);
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

void explain_vec_mat(pool *cores, const real *v, const real *m, size_t rows, size_t cols, real *out) {
    mat_vec p = {m, v, out, rows, cols};
    spread(cores, pieces_of(cols, CHUNK_COLS), rows_times_matrix, &p);
}

static void matrix_times_column(void *arg, size_t i) { /* some of out[rows] += m[rows,cols] v[cols] */
    const mat_vec *p = arg;
    size_t from = i * BLOCK_ROWS, to = from + at_most(BLOCK_ROWS, p->rows - from);
    for (size_t r = from; r < to; r++) p->out[r] += k_dot(p->m + r * p->cols, p->v, p->cols);
}

void explain_mat_vec_add(pool *cores, const real *m, const real *v, size_t rows, size_t cols, real *out) {
    mat_vec p = {m, v, out, rows, cols};
    spread(cores, pieces_of(rows, BLOCK_ROWS), matrix_times_column, &p);
}

/* ---- e -> u, and back ------------------------------------------------------------------------------ */
size_t explain_pooled_width(const explained *x) {
    const clip_config *c = &x->model->config;
    return c->pool == CLIP_POOL_CELLS ? c->embed : clip_has_pooler(c) ? c->pooler.width : c->vision.width;
}

void explain_pooled(explained *x, const explain_layer *l) {
    const clip_config *c = &x->model->config;
    const explain_work *w = &x->work;
    size_t D = explain_pooled_width(x), E = c->embed;
    memcpy(w->gz, w->e_unit, E * sizeof(real));
    if (x->unit) explain_unit_transpose(w->gz, l->z_unit, l->z_length, E);
    if (c->no_proj) memcpy(w->p, w->gz, E * sizeof(real));
    else explain_vec_mat(x->cores, w->gz, x->proj, E, D, w->p);
    if (clip_has_pooler(c)) {
        memcpy(w->u, w->p, D * sizeof(real));
        return;
    }
    k_mul(w->p, x->post_gamma, w->u, D);
    centre(w->u, l->m_unit, l->m_rstd / (real)x->n, D);
}

void explain_pooled_transpose(explained *x, const explain_layer *l) {
    const clip_config *c = &x->model->config;
    const explain_work *w = &x->work;
    size_t D = explain_pooled_width(x), E = c->embed;
    if (clip_has_pooler(c)) {
        memcpy(w->p, w->u, D * sizeof(real));
    } else {
        centre(w->u, l->m_unit, l->m_rstd / (real)x->n, D);
        k_mul(w->u, x->post_gamma, w->p, D);
    }
    memset(w->ez, 0, E * sizeof(real));
    if (c->no_proj) memcpy(w->ez, w->p, E * sizeof(real));
    else explain_mat_vec_add(x->cores, x->proj, w->p, E, D, w->ez);
    if (x->unit) explain_unit_transpose(w->ez, l->z_unit, l->z_length, E);
}

/* ---- relu over rows of G: R's sums, and which were positive ----------------------------------------- */
SIMD_KERNEL void explain_relu(const real *restrict s, size_t stride, size_t rows, size_t cols, real *restrict sum,
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

SIMD_KERNEL void explain_relu_transpose(const uint8_t *restrict positive, const real *restrict w, real *restrict d,
                                        size_t stride, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++, d += stride, positive += cols) {
#pragma omp simd
        for (size_t c = 0; c < cols; c++) d[c] = positive[c] ? w[c] : 0;
    }
}

size_t explain_piece_count(const explained *x) { return x->tower->heads * x->work.pieces; }

/* Piece i of `pieces` nearly equal ones of n starts here. */
static size_t piece_start(size_t n, size_t pieces, size_t i) { return n * i / pieces; }

explain_piece explain_piece_at(const explain_pass *p, size_t lane, size_t index) {
    const explain_work *w = &p->x->work;
    size_t rows = p->x->rows, i = index % w->pieces;
    explain_piece c = {.head = index / w->pieces, .first = piece_start(rows, w->pieces, i), .index = index};
    c.rows = piece_start(rows, w->pieces, i + 1) - c.first;
    c.G = w->G + lane * w->piece_rows * p->x->n;
    uint8_t *positive = p->l->positive[p->set];
    c.positive = positive ? positive + (c.head * rows + c.first) * explain_columns(p->x) : NULL;
    return c;
}

/* ---- g -> G -> R ------------------------------------------------------------------------------------- */
typedef struct {
    const explain_pass *p;
    const real *g, *v;
    real *dg;
} by_heads;

static void relevance_lane(void *arg, size_t lane) {
    const by_heads *b = arg;
    const explained *x = b->p->x;
    size_t m = explain_columns(x), D = x->tower->width, d = D / x->tower->heads;
    for (size_t k = lane; k < explain_piece_count(x); k += b->p->lanes) {
        explain_piece c = explain_piece_at(b->p, lane, k);
        size_t at = c.head * d;
        gemm(NO_T, T, c.rows, m, d, 1, b->g + c.first * D + at, D, b->v + x->first * D + at, D, 0, c.G, m);
        explain_relu(c.G, m, c.rows, m, x->work.parts + k * m, c.positive);
    }
}

void explain_relevance(explain_pass *p, const real *g, const real *v) {
    by_heads b = {p, g, v, NULL};
    spread(p->x->cores, p->lanes, relevance_lane, &b);
}

static void relevance_transpose_lane(void *arg, size_t lane) {
    const by_heads *b = arg;
    const explained *x = b->p->x;
    size_t m = explain_columns(x), D = x->tower->width, d = D / x->tower->heads;
    for (size_t k = lane; k < explain_piece_count(x); k += b->p->lanes) {
        explain_piece c = explain_piece_at(b->p, lane, k);
        size_t at = c.head * d;
        explain_relu_transpose(c.positive, x->work.w, c.G, m, c.rows, m);
        gemm(NO_T, NO_T, c.rows, d, m, 1, c.G, m, b->v + x->first * D + at, D, 0, b->dg + c.first * D + at, D);
    }
}

void explain_relevance_transpose(explain_pass *p, real *g, const real *v) {
    by_heads b = {p, NULL, v, g};
    spread(p->x->cores, p->lanes, relevance_transpose_lane, &b);
}
