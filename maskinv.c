/* maskinv.c - the loss, AdamW, and the loop (see maskinv.h; equations: MODEL.md 5). */
#include "maskinv.h"
#include <math.h>
#include <string.h>

enum { INVERT_NODES = 4096 };

invert_options invert_defaults(void) { return (invert_options){.iters = 10, .lr = (real)0.5}; }

invert_options invert_defaults_of(const clip_config *c) {
    invert_options o = invert_defaults();
    if (c->invert.lr > 0) o.lr = c->invert.lr;
    if (c->invert.iters) o.iters = c->invert.iters;
    if (c->invert.alpha > 0) o.alpha = c->invert.alpha;
    return o;
}

static real *take(arena *a, size_t rows, size_t cols, fault *f) { return arena_numbers(a, rows, cols, "maskinv", f); }

/* ---- Dice, on the grid ------------------------------------------------------------------------------ */
/* (5.1)  the map at the mask's size is M = C(R - low)/(high - low): C enlarges by the patch, then goes bilinearly to
 * the mask's size, and its rows sum to 1, so min-max may come before or after it. */
bool target_make(target *t, const explained *x, const real *mask, size_t mh, size_t mw, fault *f) {
    size_t patch = x->model->config.patch;
    if (mh == 0 || mw == 0) return fault_set(f, FAULT_RANGE, "mask side", (size_t[]){0, 1, SIZE_MAX}, 3);
    *t = (target){.mh = mh, .mw = mw, .mask = mask};
    if (!lerp_make_twice(&t->y, x->gh, patch, mh, x->memory, f)) return false;
    if (!lerp_make_twice(&t->x, x->gw, patch, mw, x->memory, f)) return false;
    t->mask_grid = take(x->memory, x->gh, x->gw, f);
    t->one_grid = take(x->memory, x->gh, x->gw, f);
    size_t mark = arena_mark(x->memory);
    real *ones = take(x->memory, mh, mw, f);
    if (!ones) return false;
    for (size_t i = 0; i < mh * mw; i++) {
        ones[i] = 1;
        t->mask_sum += (double)mask[i];
    }
    lerp_transpose(&t->y, &t->x, mask, t->mask_grid);
    lerp_transpose(&t->y, &t->x, ones, t->one_grid);
    arena_reset(x->memory, mark);
    return true;
}

/* (5.5)  sum(M m) = sum_j (R_j - low) mask_grid_j / range, sum M the same with one_grid */
bool dice_measure(const explained *x, const target *t, const real *grid, dice_sums *sums, fault *f) {
    *sums = (dice_sums){0};
    if (!map_range(grid, x->gh, x->gw, x->unit_scale, x->options.layers, &sums->ends, f)) return false;
    double low = (double)sums->ends.low, range = (double)sums->ends.high - low;
    for (size_t j = 0; j < x->gh * x->gw; j++) {
        double above = ((double)grid[j] - low) / range;
        sums->inside += above * (double)t->mask_grid[j];
        sums->all += above * (double)t->one_grid[j];
    }
    return true;
}

/* (5.2)  Dice = 1 - (2 sum(M m) + 1) / (sum M + sum m + 1)
 * (5.6)  dDice/dR_j = t_j = (num/den^2 one_grid_j - 2/den mask_grid_j) / range, and for the cells of low and high,
 *        with Q = sum_j (R_j - low) t_j:  dDice/dhigh = -Q/range,  dDice/dlow = Q/range - sum_j t_j */
bool dice_loss(const explained *x, const target *t, const real *grid, double *loss, real *dgrid, fault *f) {
    dice_sums s;
    if (!dice_measure(x, t, grid, &s, f)) return false;
    double num = 2 * s.inside + 1, den = s.all + t->mask_sum + 1;
    *loss = 1 - num / den;
    if (!dgrid) return true;
    double low = (double)s.ends.low, range = (double)s.ends.high - low, q = 0, sum = 0;
    for (size_t j = 0; j < x->gh * x->gw; j++) {
        double tj = (num / den * (double)t->one_grid[j] - 2 * (double)t->mask_grid[j]) / den / range;
        q += ((double)grid[j] - low) * tj;
        sum += tj;
        dgrid[j] = (real)tj;
    }
    map_extremes_transpose(dgrid, x->gh, x->gw, x->unit_scale, s.ends.high_at, (real)(-q / range));
    map_extremes_transpose(dgrid, x->gh, x->gw, x->unit_scale, s.ends.low_at, (real)(q / range - sum));
    return true;
}

bool target_map(const explained *x, const target *t, const real *grid, real *map, fault *f) {
    extremes e;
    if (!map_range(grid, x->gh, x->gw, x->unit_scale, x->options.layers, &e, f)) return false;
    lerp_apply(&t->y, &t->x, grid, map);
    for (size_t i = 0; i < t->mh * t->mw; i++) map[i] = map_unit(map[i], &e);
    return true;
}

/* ---- holding e to the image embedding: alpha (1 - cos(e, c)), (5.3) ---------------------------------------- */
static void add_regulariser(const explained *x, const real *e, real alpha, double *loss, real *gradient) {
    size_t E = x->model->config.embed;
    const real *c = x->embedding;
    double ee = (double)k_dot(e, e, E), cc = (double)k_dot(c, c, E), ec = (double)k_dot(e, c, E);
    double length = sqrt(ee), cosine = ec / (length * sqrt(cc));
    *loss += (double)alpha * (1 - cosine);
    for (size_t i = 0; i < E; i++) /* dcos/de = (c/|c| - cos e/|e|)/|e| */
        gradient[i] -= alpha * (real)(((double)c[i] / sqrt(cc) - cosine * (double)e[i] / length) / length);
}

/* ---- the same step by the tape: the definition, nothing derived by hand --------------------------------------- */
/* An interpolation as a matrix [to, from]. */
static ag_tensor *lerp_matrix(ag_tape *t, size_t from, size_t to) {
    lerp l;
    ag_tensor *m = ag_new(t, 1, to, from);
    if (!m || !lerp_make(&l, from, to, t->memory, &t->fault)) return NULL;
    memset(m->data, 0, to * from * sizeof(real));
    for (size_t i = 0; i < to; i++)
        for (size_t k = 0; k < LERP_TAPS && l.at[i] + k < from; k++)
            m->data[i * from + l.at[i] + k] = l.w[i * LERP_TAPS + k];
    return m;
}

/* out = Y in X^T: rows, then columns, interpolated */
static ag_tensor *interpolate(ag_tape *t, ag_tensor *in, size_t h, size_t w) {
    if (!in) return NULL;
    ag_tensor *y = lerp_matrix(t, in->rows, h), *x = lerp_matrix(t, in->cols, w);
    return ag_matmul(t, ag_matmul(t, y, NO_T, in, NO_T), NO_T, x, T);
}

static ag_tensor *tape_unit(explained *x, ag_tensor *map) { /* min-max */
    ag_tape *t = &x->tape;
    ag_tensor *low = ag_min(t, map), *range = ag_sub(t, ag_max(t, map), low);
    if (range && !(ag_item(range) > 0)) { /* NaN is not flat */
        fault_set(&t->fault, ag_item(range) == 0 ? FAULT_FLAT : FAULT_NAN, "the map", &x->options.layers, 1);
        return NULL;
    }
    return ag_mul(t, ag_sub(t, map, low), ag_pow(t, range, -1));
}

static ag_tensor *tape_map(explained *x, const target *m, ag_tensor *grid) {
    ag_tape *t = &x->tape;
    bool early = x->unit_scale == 1;
    ag_tensor *big = interpolate(t, early ? tape_unit(x, grid) : grid, x->height, x->width);
    return interpolate(t, early ? big : tape_unit(x, big), m->mh, m->mw);
}

static ag_tensor *tape_dice(ag_tape *t, const target *m, ag_tensor *map) {
    ag_tensor *mask = ag_constant(t, m->mask, 1, m->mh, m->mw);
    ag_tensor *num = ag_scale(t, ag_dot(t, map, mask), 2, 1);
    ag_tensor *den = ag_scale(t, ag_add(t, ag_sum(t, map), ag_sum(t, mask)), 1, 1);
    return ag_scale(t, ag_mul(t, num, ag_pow(t, den, -1)), -1, 1);
}

static bool tape_gradient(explained *x, const target *m, const real *e, real alpha, double *loss, real *grid,
                          real *gradient, fault *f) {
    ag_tape *t = &x->tape;
    size_t E = x->model->config.embed;
    ag_mark mark = ag_tape_mark(t);
    memcpy(gradient, e, E * sizeof(real));
    ag_tensor *leaf = ag_leaf(t, gradient, NULL, 1, 1, E), *unit = ag_normalize(t, leaf);
    ag_tensor *r = explain_tape_grid(x, unit), *l = tape_dice(t, m, tape_map(x, m, r));
    if (alpha != 0) {
        ag_tensor *c = ag_normalize(t, ag_constant(t, x->embedding, 1, 1, E));
        l = ag_add(t, l, ag_scale(t, ag_dot(t, unit, c), -alpha, alpha));
    }
    bool ok = l && ag_grad(t, l, NULL, &leaf, 1, 0);
    if (ok) {
        *loss = (double)ag_item(l);
        memcpy(grid, r->data, x->gh * x->gw * sizeof(real));
        memcpy(gradient, leaf->grad->data, E * sizeof(real));
    } else if (!f->code)
        *f = t->fault;
    t->fault = (fault){0}; /* of this step; the record below the mark is whole */
    ag_tape_reset(t, mark);
    return ok;
}

/* ---- one step: the loss at e and its gradient --------------------------------------------------------------- */
bool maskinv_gradient(explained *x, const target *t, const real *e, bool first, real alpha, double *loss, real *grid,
                      real *gradient, fault *f) {
    if (explain_is_taped(x)) return tape_gradient(x, t, e, alpha, loss, grid, gradient, f);
    size_t mark = arena_mark(x->memory);
    real *dgrid = take(x->memory, x->gh, x->gw, f);
    bool ok = dgrid && (first ? explain_grid_first(x, grid, f) : explain_grid(x, e, grid, f)) &&
              dice_loss(x, t, grid, loss, dgrid, f) && explain_transpose(x, e, first, dgrid, gradient, f);
    if (ok && alpha != 0) add_regulariser(x, e, alpha, loss, gradient);
    arena_reset(x->memory, mark);
    return ok;
}

/* ---- AdamW, as PyTorch has it ----------------------------------------------------------------------------- */
bool adamw_init(adamw *a, size_t count, arena *memory, fault *f) {
    *a = (adamw){.count = count, .beta1 = (real)0.9, .beta2 = (real)0.999, .eps = (real)1e-8};
    a->m = take(memory, 1, count, f);
    a->v = take(memory, 1, count, f);
    if (!a->v) return false;
    memset(a->m, 0, count * sizeof(real));
    memset(a->v, 0, count * sizeof(real));
    return true;
}

/* (5.4)  e <- (1 - lr decay) e;  m, v: running means of g and g^2;
 * e <- e - lr m/(1 - beta1^t) / (sqrt(v/(1 - beta2^t)) + eps) */
void adamw_step(adamw *a, real *e, const real *gradient, real lr, real decay) {
    a->t++;
    real m_seen = (real)(1 - pow((double)a->beta1, (double)a->t));
    real v_seen = (real)sqrt(1 - pow((double)a->beta2, (double)a->t));
    for (size_t i = 0; i < a->count; i++) {
        real g = gradient[i];
        e[i] *= 1 - lr * decay;
        a->m[i] += (1 - a->beta1) * (g - a->m[i]);
        a->v[i] = a->beta2 * a->v[i] + (1 - a->beta2) * g * g;
        e[i] -= lr / m_seen * a->m[i] / (k_sqrt(a->v[i]) / v_seen + a->eps);
    }
}

/* ---- the loop ------------------------------------------------------------------------------------------------ */
static void show(const invert_options *o, size_t step, const char *name, const real *data, size_t rank, size_t s0,
                 size_t s1) {
    explain_value v = {name, false, 0, true, step, data, rank, {s0, s1, 0}};
    o->watch->see(o->watch->arg, &v);
}

typedef struct {
    target mask;
    adamw adam;
    real *e, *grid, *gradient, *map; /* [E], [gh,gw], [E], [mh,mw] (when watched) */
} inversion;

static bool show_step(explained *x, inversion *v, const invert_options *o, size_t step, double loss, fault *f) {
    size_t E = x->model->config.embed;
    real value = (real)loss;
    if (!o->watch) return true;
    if (!target_map(x, &v->mask, v->grid, v->map, f)) return false;
    explain_show(x, o->watch, v->e, step);
    show(o, step, "embedding", v->e, 1, E, 0);
    show(o, step, "map", v->map, 2, v->mask.mh, v->mask.mw);
    show(o, step, "loss", &value, 1, 1, 0);
    show(o, step, "gradient", v->gradient, 1, E, 0);
    return true;
}

static bool invert_step(explained *x, inversion *v, const invert_options *o, invert_result *r, size_t step, fault *f) {
    size_t E = x->model->config.embed;
    double loss;
    if (!maskinv_gradient(x, &v->mask, v->e, step == 0, o->alpha, &loss, v->grid, v->gradient, f)) return false;
    r->losses[step] = (real)loss;
    if (step == 0 && r->first_gradient) memcpy(r->first_gradient, v->gradient, E * sizeof(real));
    if (step == 0 && r->map_before && !target_map(x, &v->mask, v->grid, r->map_before, f)) return false;
    if (step + 1 == o->iters && r->map_after && !target_map(x, &v->mask, v->grid, r->map_after, f)) return false;
    if (!show_step(x, v, o, step, loss, f)) return false;
    adamw_step(&v->adam, v->e, v->gradient, o->lr, o->decay);
    if (!k_finite(v->e, E)) return fault_set(f, FAULT_NAN, "the embedding", NULL, 0);
    if (o->progress) o->progress(o->progress_arg, step);
    return true;
}

bool maskinv_invert(explained *x, const real *mask, size_t mh, size_t mw, const invert_options *o, invert_result *r,
                    fault *f) {
    size_t mark = arena_mark(x->memory), E = x->model->config.embed;
    inversion v = {.e = r->embedding};
    if (o->iters == 0) return fault_set(f, FAULT_RANGE, "iters", (size_t[]){0, 1, SIZE_MAX}, 3);
    bool ok = target_make(&v.mask, x, mask, mh, mw, f) && adamw_init(&v.adam, E, x->memory, f);
    v.grid = take(x->memory, x->gh, x->gw, f);
    v.gradient = take(x->memory, 1, E, f);
    if (o->watch) v.map = take(x->memory, mh, mw, f);
    ok = ok && !f->code;
    if (ok) memcpy(v.e, x->embedding, E * sizeof(real));
    for (size_t step = 0; ok && step < o->iters; step++) {
        ok = invert_step(x, &v, o, r, step, f);
        if (f->code == FAULT_NAN) f->n[0] = step;
    }
    arena_reset(x->memory, mark);
    return ok;
}

/* ---- many masks, in step ----------------------------------------------------------------------------------------- */
typedef struct {
    explained *x;
    invert_region *regions;
    const invert_options *o;
    size_t step;
} group_step;

static bool group_loss(void *arg, size_t i, const real *grid, real *w) {
    const group_step *g = arg;
    invert_region *r = &g->regions[i];
    size_t cells = g->x->gh * g->x->gw;
    double loss;
    if (r->fault.code || !dice_loss(g->x, &r->mask, grid, &loss, w, &r->fault)) return false;
    r->losses[g->step] = (real)loss;
    if (g->step == 0) memcpy(r->grid_before, grid, cells * sizeof *grid);
    if (g->step + 1 == g->o->iters) memcpy(r->grid_after, grid, cells * sizeof *grid);
    return true;
}

static void group_update(const group_step *g, invert_region *r, adamw *adam, real *e, real *gradient) {
    size_t E = g->x->model->config.embed;
    double loss = (double)r->losses[g->step];
    if (r->fault.code) return;
    if (g->o->alpha != 0) add_regulariser(g->x, e, g->o->alpha, &loss, gradient);
    r->losses[g->step] = (real)loss;
    adamw_step(adam, e, gradient, g->o->lr, g->o->decay);
    if (k_finite(e, E)) return;
    memcpy(e, g->x->embedding, E * sizeof(real)); /* the others go on */
    fault_set(&r->fault, FAULT_NAN, "the embedding", &g->step, 1);
}

static bool invert_together(explained *x, invert_region *regions, size_t count, const invert_options *o, fault *f) {
    size_t E = x->model->config.embed;
    group_step g = {x, regions, o, 0};
    adamw adam[EXPLAIN_GROUP];
    real *e = take(x->memory, count, E, f), *gradient = take(x->memory, count, E, f);
    for (size_t i = 0; i < count && !f->code; i++) {
        adamw_init(&adam[i], E, x->memory, f);
        memcpy(e + i * E, x->embedding, E * sizeof(real));
    }
    for (; g.step < o->iters && !f->code; g.step++) {
        if (!explain_group(x, e, count, group_loss, &g, gradient, f)) return false;
        for (size_t i = 0; i < count; i++) group_update(&g, &regions[i], &adam[i], e + i * E, gradient + i * E);
        if (o->progress) o->progress(o->progress_arg, g.step);
    }
    for (size_t i = 0; i < count && !f->code; i++) memcpy(regions[i].embedding, e + i * E, E * sizeof(real));
    return f->code == FAULT_NONE;
}

bool maskinv_invert_group(explained *x, invert_region *regions, size_t count, const invert_options *o, fault *f) {
    if (o->iters == 0) return fault_set(f, FAULT_RANGE, "iters", (size_t[]){0, 1, SIZE_MAX}, 3);
    bool ok = true;
    for (size_t i = 0; ok && i < count; i += EXPLAIN_GROUP) {
        size_t mark = arena_mark(x->memory), n = count - i < EXPLAIN_GROUP ? count - i : EXPLAIN_GROUP;
        ok = invert_together(x, regions + i, n, o, f);
        arena_reset(x->memory, mark);
    }
    return ok;
}
