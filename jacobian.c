/* jacobian.c - LeGrad's gradient by the Jacobian of a token's gradient, for many embeddings of one picture (see gradient.h;
 * MODEL.md 4).
 *
 * (4.13) is linear in g_z up to G's relu: g_i = J_i g_z. With S = LN_post^T P / n [D,E], u = S g_z:
 *   (4.22)  J_i^T = S^T W_o + ((S^T W2) . act'(h_i)/sigma_i) (up W_o) - (S^T W2 (h_i . act'(h_i)/sigma_i)/D) (W_o^T xhat_i)^T
 * [E,D], made once: one E x F x D product a token. Then the g of all embeddings of a group are one product a token,
 *   (4.23)  g_i = G_z J_i^T,   dL/dG_z = sum_i dL/dg_i J_i                 [32,E] x [E,D], [32,D] x [D,E]
 * and J is read once for all of them, by a product that keeps a group's numbers in registers (gemm_group), a lane an
 * embedding. A group is always taken as full, and every lane is like every other, so that no embedding knows of its
 * neighbours. */
#include "gradient.h"
#include <string.h>

/* ---- what is kept --------------------------------------------------------------------------------------------------- */
typedef struct {
    real *J; /* [n,E,D] */
    real *v; /* [n,D] values */
    real *g; /* [group,n,D] g, then dL/dg */
} kept;
typedef struct {
    real *gz;       /* [E,group] */
    real *dgz;      /* [lanes,E,group] */
    real *token;    /* [lanes,D,group] one token's g, a lane an embedding */
    real *grid, *w; /* [gh,gw] */
} scratch;

static void take(explained *x, fault *f) {
    size_t n = x->n, D = x->tower->width, E = x->model->config.embed, M = EXPLAIN_GROUP;
    kept *own = explain_own(x, sizeof *own, f);
    explain_take_pieces(x, 0, f);
    scratch *s = explain_scratch(x, sizeof *s, f);
    if (!s) return;
    s->gz = explain_take(x, E, M, f);
    s->dgz = explain_take(x, explain_cores(x) * E, M, f);
    s->token = explain_take(x, explain_cores(x) * D, M, f);
    s->grid = explain_take(x, x->gh, x->gw, f);
    s->w = explain_take(x, x->gh, x->gw, f);
    size_t bytes = sizeof(real), limit = arena_left(x->memory);
    const size_t shape[] = {x->options.layers, n, D, E};
    for (size_t i = 0; i < 4; i++)
        if (!size_mul(bytes, shape[i], &bytes)) bytes = SIZE_MAX / 2;
    if (x->options.memory) limit = at_most(limit, x->options.memory);
    if (!f->code && bytes > limit) fault_set(f, FAULT_MEMORY, "dg/dz", (size_t[]){bytes, limit, x->memory->size}, 3);
    for (size_t i = 0; i < x->options.layers && !f->code; i++) {
        own[i].J = explain_take(x, n * E, D, f);
        own[i].v = explain_take(x, n, D, f);
        own[i].g = explain_take(x, M * n, D, f);
    }
}

/* S^T [E,D]: a row is u for one component of g_z alone. */
static void make_s(explained *x, const explain_layer *l, real *S) {
    size_t D = x->tower->width, E = x->model->config.embed;
    real scale = l->m_rstd / (real)x->n;
    for (size_t e = 0; e < E; e++) {
        real *row = S + e * D;
        k_mul(x->proj + e * D, x->post_gamma, row, D);
        real mean = k_sum(row, D) / (real)D, along = k_dot(row, l->m_unit, D) / (real)D;
        for (size_t i = 0; i < D; i++) row[i] = (row[i] - mean - l->m_unit[i] * along) * scale;
    }
}

typedef struct {
    explained *x;
    kept *own;
    const factored_layer *made;
    const real *A, *U; /* [E,F] S^T W2; [E,D] S^T W_o */
    const real *along; /* [n,E] what each row of S^T W2 has along h: (4.22)'s last part */
    real *q;           /* [lanes,E,F] */
    size_t lanes;
} making;

/* (4.22) for every lanes-th token */
static void make_lane(void *arg, size_t lane) {
    const making *m = arg;
    size_t n = m->x->n, D = m->x->tower->width, F = m->x->tower->mlp, E = m->x->model->config.embed;
    real *q = m->q + lane * E * F;
    for (size_t i = lane; i < n; i += m->lanes) {
        const real *act = m->made->act + i * F, *along = m->along + i * E, *xo = m->made->xo + i * D;
        real *J = m->own->J + i * E * D;
        memcpy(J, m->U, E * D * sizeof(real));
        for (size_t e = 0; e < E; e++) {
            k_mul(m->A + e * F, act, q + e * F, F);
            k_axpy(-along[e] / (real)D, xo, J + e * D, D);
        }
        gemm(NO_T, NO_T, E, D, F, 1, q, F, m->made->up, D, 1, J, D);
    }
}

/* A (h . act') of all tokens, one product. */
static void make_along(const making *m, real *steep, real *along) { /* steep [n,F] */
    const explained *x = m->x;
    size_t n = x->n, F = x->tower->mlp, E = x->model->config.embed;
    for (size_t i = 0; i < n; i++) k_mul(m->made->h + i * F, m->made->act + i * F, steep + i * F, F);
    gemm_spread(x->cores, NO_T, T, n, E, F, 1, steep, F, m->A, F, 0, along, E);
}

static void keep(explained *x, explain_layer *l, const clip_taps *taps, ag_tensor *z, fault *f) {
    (void)z;
    size_t D = x->tower->width, F = x->tower->mlp, E = x->model->config.embed, mark = arena_mark(x->memory);
    factored_layer made = {0};
    kept *own = l->own;
    explain_factored_take(x, l->index, &made, true, f);
    if (!f->code) explain_factored_keep(x, l->index, &made, taps, f);
    making m = {.x = x, .own = own, .made = &made, .lanes = explain_cores(x)};
    real *S = explain_take(x, E, D, f), *A = explain_take(x, E, F, f), *U = explain_take(x, E, D, f);
    real *steep = explain_take(x, x->n, F, f), *along = explain_take(x, x->n, E, f);
    m.q = explain_take(x, m.lanes * E, F, f);
    if (!f->code) {
        make_s(x, l, S);
        gemm_spread(x->cores, NO_T, NO_T, E, F, D, 1, S, D, made.fc2, F, 0, A, F);
        gemm_spread(x->cores, NO_T, NO_T, E, D, D, 1, S, D, made.out, D, 0, U, D);
        m.A = A, m.U = U, m.along = along;
        make_along(&m, steep, along);
        spread(x->cores, m.lanes, make_lane, &m);
        memcpy(own->v, made.v, x->n * D * sizeof(real));
    }
    arena_reset(x->memory, mark);
}

/* ---- (4.23), and its transpose --------------------------------------------------------------------------------------- */
enum { GROUP = EXPLAIN_GROUP, AT_ONCE = 16 }; /* numbers of a token turned at a time: they stay in the cache */

/* One token's g of all embeddings, [D,group] -> [group] rows of D, rows apart; and back. */
static void turn_out(const real *token, size_t D, real *g, size_t apart) {
    for (size_t d = 0; d < D; d += AT_ONCE)
        for (size_t m = 0; m < GROUP; m++)
            for (size_t k = d; k < d + AT_ONCE && k < D; k++) g[m * apart + k] = token[k * GROUP + m];
}
static void turn_in(const real *g, size_t apart, size_t D, real *token) {
    for (size_t d = 0; d < D; d += AT_ONCE)
        for (size_t m = 0; m < GROUP; m++)
            for (size_t k = d; k < d + AT_ONCE && k < D; k++) token[k * GROUP + m] = g[m * apart + k];
}

typedef struct {
    explained *x;
    const kept *own;
    size_t lanes;
} products;

static void g_lane(void *arg, size_t lane) { /* J_i [E,D] by its columns */
    const products *p = arg;
    const scratch *s = p->x->scratch;
    size_t n = p->x->n, D = p->x->tower->width, E = p->x->model->config.embed;
    real *token = s->token + lane * D * GROUP;
    for (size_t i = lane; i < n; i += p->lanes) {
        gemm_group(D, E, p->own->J + i * E * D, 1, D, s->gz, false, token);
        turn_out(token, D, p->own->g + i * D, n * D);
    }
}

static void g_transpose_lane(void *arg, size_t lane) { /* by its rows */
    const products *p = arg;
    const scratch *s = p->x->scratch;
    size_t n = p->x->n, D = p->x->tower->width, E = p->x->model->config.embed;
    real *token = s->token + lane * D * GROUP, *dgz = s->dgz + lane * E * GROUP;
    for (size_t i = lane; i < n; i += p->lanes) {
        turn_in(p->own->g + i * D, n * D, D, token);
        gemm_group(E, D, p->own->J + i * E * D, D, 1, token, i != lane, dgz);
    }
    if (lane >= n) memset(dgz, 0, E * GROUP * sizeof(real));
}

static void make_g(explained *x, const explain_layer *l) {
    products p = {x, l->own, explain_cores(x)};
    spread(x->cores, p.lanes, g_lane, &p);
}

static void make_g_transpose(explained *x, const explain_layer *l) { /* into lane 0's dgz */
    const scratch *s = x->scratch;
    products p = {x, l->own, explain_cores(x)};
    size_t count = GROUP * x->model->config.embed;
    spread(x->cores, p.lanes, g_transpose_lane, &p);
    for (size_t i = 1; i < p.lanes; i++) k_axpy(1, s->dgz + i * count, s->dgz, count);
}

/* ---- one embedding: a group of one ----------------------------------------------------------------------------------- */
static void set_gz(explained *x, const explain_layer *l, size_t at, const real *e_unit) { /* (4.6) */
    size_t E = x->model->config.embed;
    real *gz = ((const scratch *)x->scratch)->gz, *one = x->work.ez;
    memcpy(one, e_unit, E * sizeof(real));
    explain_unit_transpose(one, l->z_unit, l->z_length, E);
    for (size_t e = 0; e < E; e++) gz[e * GROUP + at] = one[e];
}

static void no_gz(explained *x) {
    memset(((const scratch *)x->scratch)->gz, 0, GROUP * x->model->config.embed * sizeof(real));
}

/* dL/de_unit of one embedding, in x->work.ez */
static void get_dgz(explained *x, const explain_layer *l, size_t at) {
    size_t E = x->model->config.embed;
    const real *dgz = ((const scratch *)x->scratch)->dgz;
    for (size_t e = 0; e < E; e++) x->work.ez[e] = dgz[e * GROUP + at];
    explain_unit_transpose(x->work.ez, l->z_unit, l->z_length, E);
}

static void forward(explain_pass *p) {
    const kept *own = p->l->own;
    no_gz(p->x);
    set_gz(p->x, p->l, 0, p->x->work.e_unit);
    make_g(p->x, p->l);
    explain_relevance(p, own->g, own->v);
}

static void transposed(explain_pass *p) {
    explained *x = p->x;
    const kept *own = p->l->own;
    memset(own->g, 0, GROUP * x->n * x->tower->width * sizeof(real));
    explain_relevance_transpose(p, own->g, own->v);
    make_g_transpose(x, p->l);
    get_dgz(x, p->l, 0);
}

/* ---- a group ----------------------------------------------------------------------------------------------------------- */
/* One embedding of the group: its grid from its g, and dL/dg in g's place. */
static void one_of_group(explained *x, const real *e, size_t i, explain_each *each, void *arg) {
    const scratch *s = x->scratch;
    size_t cells = x->gh * x->gw, row = x->n * x->tower->width;
    real mean = 1 / (real)(x->tower->heads * x->rows);
    explain_unit(e, x->work.e_unit, x->model->config.embed);
    memset(s->grid, 0, cells * sizeof(real));
    for (size_t l = 0; l < x->options.layers; l++) {
        explain_pass p = {x, &x->layers[l], SET_LAST, explain_cores(x)};
        const kept *own = p.l->own;
        if (explain_agrees(x, p.l, x->work.e_unit)) continue;
        explain_relevance(&p, own->g + i * row, own->v);
        for (size_t k = 0; k < explain_piece_count(x); k++) k_axpy(1, x->work.parts + k * cells, s->grid, cells);
    }
    for (size_t j = 0; j < cells; j++) s->grid[j] *= mean;
    bool goes_on = each(arg, i, s->grid, s->w);
    for (size_t j = 0; j < cells; j++) x->work.w[j] = s->w[j] * mean;
    for (size_t l = 0; l < x->options.layers; l++) {
        explain_pass p = {x, &x->layers[l], SET_LAST, explain_cores(x)};
        const kept *own = p.l->own;
        if (!goes_on || explain_agrees(x, p.l, x->work.e_unit)) memset(own->g + i * row, 0, row * sizeof(real));
        else explain_relevance_transpose(&p, own->g + i * row, own->v);
    }
}

static void group(explained *x, const real *e, size_t count, explain_each *each, void *arg, real *de) {
    size_t E = x->model->config.embed, row = x->n * x->tower->width;
    for (size_t l = 0; l < x->options.layers; l++) {
        no_gz(x);
        for (size_t i = 0; i < count; i++) {
            explain_unit(e + i * E, x->work.e_unit, E);
            set_gz(x, &x->layers[l], i, x->work.e_unit);
        }
        make_g(x, &x->layers[l]);
    }
    for (size_t i = 0; i < count; i++) one_of_group(x, e + i * E, i, each, arg);
    memset(de, 0, count * E * sizeof(real));
    for (size_t l = 0; l < x->options.layers; l++) {
        const kept *own = x->layers[l].own;
        memset(own->g + count * row, 0, (GROUP - count) * row * sizeof(real));
        make_g_transpose(x, &x->layers[l]);
        for (size_t i = 0; i < count; i++) {
            get_dgz(x, &x->layers[l], i);
            k_axpy(1, x->work.ez, de + i * E, E);
        }
    }
    for (size_t i = 0; i < count; i++) { /* through e/|e| */
        real length = explain_unit(e + i * E, x->work.e_unit, E);
        explain_unit_transpose(de + i * E, x->work.e_unit, length, E);
    }
}

const struct explain_gradient explain_jacobian = {.name = "jacobian", .own = true, .take = take, .keep = keep,
                                                  .forward = forward, .transposed = transposed, .group = group};
