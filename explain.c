/* explain.c - LeGrad: the forward pass, the grid of an embedding, and its derivative (see explain.h; equations: MODEL.md
 * 4 and 5). How the gradient is had is a row of GRADIENTS, a file each. */
#include "gradient.h"
#include <string.h>

enum { TAPE_NODES = 4096 }; /* of a layer's record, its gradient and the gradient of that */

static ag_tensor *record_other(explained *x, ag_tensor *e_unit) {
    return x->options.other->grid(x->options.other->arg, x, e_unit);
}
static const struct explain_gradient OTHER = {.name = "other", .records = true, .record = record_other};
static const struct explain_gradient *const GRADIENTS[] = {[GRADIENT_FACTORED] = &explain_factored,
                                                           [GRADIENT_DECOMPOSED] = &explain_decomposed,
                                                           [GRADIENT_AUTOGRAD] = &explain_taped,
                                                           [GRADIENT_JACOBIAN] = &explain_jacobian,
                                                           [GRADIENT_COMPACT] = &explain_compact};

bool explain_gradient_find(const char *name, gradient_kind *kind) {
    for (size_t i = 0; i < sizeof GRADIENTS / sizeof *GRADIENTS; i++)
        if (!name || !strcmp(name, GRADIENTS[i]->name)) {
            *kind = (gradient_kind)i;
            return true;
        }
    return false;
}

bool explain_is_taped(const explained *x) { return x->how->record != NULL; }

/* ==== the grid, and its derivative ========================================================================= */
static bool set_embedding(explained *x, const real *e, real *length, fault *f) {
    size_t E = x->model->config.embed;
    *length = explain_unit(e, x->work.e_unit, E);
    if (*length > 0 && k_finite(x->work.e_unit, E)) return true;
    return fault_set(f, FAULT_NAN, "the embedding", NULL, 0);
}

ag_tensor *explain_tape_grid(explained *x, ag_tensor *e_unit) {
    ag_tensor *grid = x->how->record(x, e_unit);
    return x->keep ? ag_mul(&x->tape, grid, ag_constant(&x->tape, x->keep, 1, x->gh, x->gw)) : grid;
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

/* (4.3), the layers' sum. Pieces are added in their order, so that the bytes do not depend on who was first. */
static void sum_layers(explained *x, int set, real *grid) {
    size_t cells = x->gh * x->gw;
    real mean = 1 / (real)(x->tower->heads * x->rows);
    memset(grid, 0, cells * sizeof(real));
    for (size_t i = 0; i < x->options.layers; i++) {
        explain_pass p = {x, &x->layers[i], set, explain_cores(x)};
        if (explain_agrees(x, p.l, x->work.e_unit)) continue;
        x->how->forward(&p);
        for (size_t k = 0; k < explain_piece_count(x); k++) k_axpy(1, x->work.parts + k * cells, grid, cells);
    }
    for (size_t j = 0; j < cells; j++) grid[j] *= x->keep ? x->keep[j] * mean : mean;
}

static bool grid_into(explained *x, const real *e, int set, real *grid, fault *f) {
    real length;
    if (!set_embedding(x, e, &length, f)) return false;
    if (!explain_is_taped(x)) sum_layers(x, set, grid);
    else if (!tape_grid(x, grid, f)) return false;
    return k_finite(grid, x->gh * x->gw) || fault_set(f, FAULT_NAN, "the map", NULL, 0);
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
    real length, mean = 1 / (real)(x->tower->heads * x->rows);
    if (!set_embedding(x, e, &length, f)) return false;
    for (size_t j = 0; j < cells; j++) x->work.w[j] = x->keep ? w[j] * x->keep[j] * mean : w[j] * mean;
    memset(de, 0, E * sizeof(real));
    for (size_t i = 0; i < x->options.layers; i++) {
        explain_pass p = {x, &x->layers[i], first ? SET_FIRST : SET_LAST, explain_cores(x)};
        if (explain_agrees(x, p.l, x->work.e_unit)) continue;
        x->how->transposed(&p);
        k_axpy(1, x->work.ez, de, E);
    }
    explain_unit_transpose(de, x->work.e_unit, length, E); /* through e/|e| */
    return k_finite(de, E) || fault_set(f, FAULT_NAN, "the map's derivative", NULL, 0);
}

/* One after the other, for gradients that gain nothing from having them together. */
static bool one_by_one(explained *x, const real *e, size_t count, explain_each *each, void *arg, real *de, fault *f) {
    size_t E = x->model->config.embed, mark = arena_mark(x->memory);
    real *grid = explain_take(x, x->gh, x->gw, f), *w = explain_take(x, x->gh, x->gw, f);
    for (size_t i = 0; i < count && !f->code; i++) {
        memset(de + i * E, 0, E * sizeof(real));
        if (explain_grid(x, e + i * E, grid, f) && each(arg, i, grid, w))
            explain_transpose(x, e + i * E, false, w, de + i * E, f);
    }
    arena_reset(x->memory, mark);
    return f->code == FAULT_NONE;
}

bool explain_group(explained *x, const real *e, size_t count, explain_each *each, void *arg, real *de, fault *f) {
    size_t E = x->model->config.embed;
    if (!x->how->group) return one_by_one(x, e, count, each, arg, de, f);
    if (!k_finite(e, count * E)) return fault_set(f, FAULT_NAN, "the embedding", NULL, 0);
    x->how->group(x, e, count, each, arg, de);
    return k_finite(de, count * E) || fault_set(f, FAULT_NAN, "the map's derivative", NULL, 0);
}

bool explain_legrad(explained *x, const real *e, real *map, fault *f) {
    size_t mark = arena_mark(x->memory);
    real *grid = explain_take(x, x->gh, x->gw, f);
    bool ok = grid && explain_grid(x, e, grid, f) && explain_map(x, grid, map, f);
    arena_reset(x->memory, mark);
    return ok;
}

bool explain_map(explained *x, const real *grid, real *map, fault *f) {
    if (x->unit_scale == 1)
        return map_from_unit_grid(grid, x->gh, x->gw, x->options.layers, map, x->height, x->width, x->memory, f);
    return map_from_grid(grid, x->gh, x->gw, x->unit_scale, x->options.layers, map, x->memory, f);
}

/* ==== opening: the forward pass, and what is kept of it ====================================================== */
static void show(const explain_watch *watch, const char *name, size_t layer, const real *data, size_t rank, size_t s0,
                 size_t s1, size_t s2) {
    if (!watch) return;
    explain_value v = {name, true, layer, false, 0, data, rank, {s0, s1, s2}};
    watch->see(watch->arg, &v);
}

bool explain_own_blocks(const clip_config *c) {
    const clip_tower *t = &c->vision;
    return !clip_has_pooler(c) && !t->layer_scale && !t->post_norm && !t->sub_norm && !t->swiglu;
}

/* Not every gradient knows u and a: for a watch they are made all the same. */
void explain_show(explained *x, const explain_watch *watch, const real *e, size_t step) {
    fault ignored = {0};
    real length;
    if (!watch || x->options.other || !set_embedding(x, e, &length, &ignored)) return;
    size_t D = x->tower->width, F = x->tower->mlp, E = x->model->config.embed, mark = arena_mark(x->memory);
    real *a = explain_take(x, 1, F, &ignored);
    for (size_t i = 0; i < x->options.layers && !ignored.code; i++) {
        const explain_layer *l = &x->layers[i];
        size_t weights = arena_mark(x->memory);
        explain_value z = {"z", true, l->index, true, step, l->z, 1, {E, 0, 0}};
        watch->see(watch->arg, &z);
        if (!explain_own_blocks(&x->model->config)) continue;
        explain_pooled(x, l);
        const real *fc2 = explain_weight(x, &x->model->blocks[l->index].fc2, &ignored);
        if (fc2) explain_vec_mat(x->cores, x->work.u, fc2, D, F, a);
        arena_reset(x->memory, weights);
        explain_value u = {"u", true, l->index, true, step, x->work.u, 1, {D, 0, 0}};
        explain_value made = {"a", true, l->index, true, step, a, 1, {F, 0, 0}};
        watch->see(watch->arg, &u);
        if (fc2) watch->see(watch->arg, &made);
    }
    arena_reset(x->memory, mark);
}

/* P [E,D] and LN_post's gamma, where the family has them. */
static void keep_projection(explained *x, fault *f) {
    const clip_model *m = x->model;
    if (!m->config.no_proj) x->proj = explain_weight(x, &m->proj, f);
    if (!clip_has_pooler(&m->config)) x->post_gamma = explain_weight(x, &m->post_gamma, f);
}

static void take_work(explained *x, fault *f) {
    size_t E = x->model->config.embed, U = explain_pooled_width(x) > E ? explain_pooled_width(x) : E;
    explain_work *w = &x->work;
    w->e_unit = explain_take(x, 1, E, f);
    w->w = explain_take(x, x->gh, x->gw, f);
    w->gz = explain_take(x, 1, E, f);
    w->ez = explain_take(x, 1, E, f);
    w->p = explain_take(x, 1, U, f);
    w->u = explain_take(x, 1, U, f);
}

static bool take_layers(explained *x, fault *f) {
    size_t count = x->options.layers, D = x->model->config.vision.width, E = x->model->config.embed;
    x->layers = f->code ? NULL : arena_alloc(x->memory, count, sizeof *x->layers);
    if (!x->layers) return f->code ? false : fault_memory(f, "explain", x->memory, count * sizeof *x->layers);
    memset(x->layers, 0, count * sizeof *x->layers);
    for (size_t i = 0; i < count; i++) {
        explain_layer *l = &x->layers[i];
        l->index = clip_depth(&x->model->config) - count + i;
        l->z = explain_take(x, 1, E, f);
        l->z_unit = explain_take(x, 1, E, f);
        l->m_unit = explain_take(x, 1, D, f);
    }
    if (!f->code) x->how->take(x, f);
    return f->code == FAULT_NONE;
}

/* ---- the forward pass -------------------------------------------------------------------------------------------- */
/* z = LN_post(mean over all tokens of x2) P (4.1), and what LN_post's derivative needs; a pooler's z is given. */
static void keep_z(explained *x, explain_layer *l, const real *x2, const ag_tensor *pooled, fault *f) {
    size_t n = x->n, D = x->model->config.vision.width, E = x->model->config.embed, mark = arena_mark(x->memory);
    ag_tape t = {.memory = x->memory, .cores = x->cores};
    ag_tensor *m = pooled ? NULL : ag_new(&t, 1, 1, D);
    if (m) {
        memset(m->data, 0, D * sizeof(real));
        k_sum_rows(x2, m->data, n, D);
        for (size_t i = 0; i < D; i++) m->data[i] /= (real)n;
        k_layernorm(m->data, NULL, NULL, x->model->config.vision.eps, l->m_unit, NULL, &l->m_rstd, 1, D);
    }
    const ag_tensor *z = pooled ? pooled : clip_project(&t, x->model, m);
    if (z) {
        memcpy(l->z, z->data, E * sizeof(real));
        l->z_length = explain_unit(l->z, l->z_unit, E);
        if (!k_finite(l->z_unit, E)) fault_set(f, FAULT_NAN, "z", &l->index, 1);
    } else if (!f->code)
        *f = t.fault;
    arena_reset(x->memory, mark);
}

/* z/|z| on the tape, from the tokens after the block: the definition's own words. */
static ag_tensor *tape_z(explained *x, ag_tape *t, ag_tensor *x2) {
    if (!x2) return NULL;
    ag_tensor *m = ag_scale(t, ag_fit(t, x2, 1, 1, x2->cols), 1 / (real)x->n, 0);
    return ag_normalize(t, clip_project(t, x->model, m));
}

/* A block, and the attention that LeGrad looks at: its own (4.1), or the pooler's on the block's raw output (4.19).
 * Returns the block's output; *z is z as (4.3)'s s takes it, where the tape has to differentiate it. */
static ag_tensor *run_taps(explained *x, explain_layer *l, ag_tape *t, ag_tensor *in, clip_taps *taps, ag_tensor **z,
                           const ag_tensor **raw) {
    const clip_model *m = x->model;
    bool record = x->how->records;
    t->recording = false;
    if (clip_has_pooler(&m->config)) {
        ag_tensor *x2 = l->index < m->config.vision.layers ? clip_block(t, &x->run, &m->blocks[l->index], in, NULL, false) : in;
        t->recording = record;
        ag_tensor *p = clip_pooled(t, m, x2, 1, taps, record);
        *raw = p = m->config.no_proj ? p : clip_proj(t, m, p);
        *z = record ? (x->unit ? ag_normalize(t, p) : p) : NULL;
        return p ? x2 : NULL;
    }
    t->recording = record;
    ag_tensor *x2 = clip_block(t, &x->run, &m->blocks[l->index], in, taps, record);
    *z = record ? tape_z(x, t, x2) : NULL;
    *raw = NULL;
    return x2;
}

/* An explained block: with its intermediates, and with a record where the tape has to differentiate it. */
static ag_tensor *run_explained(explained *x, explain_layer *l, ag_tape *t, ag_tensor *in, fault *f) {
    const clip_config *c = &x->model->config;
    size_t n = x->n, F = x->tower->mlp, H = x->tower->heads;
    clip_taps taps = {0};
    ag_tensor *z = NULL;
    const ag_tensor *raw = NULL;
    ag_tensor *x2 = run_taps(x, l, t, in, &taps, &z, &raw);
    if (t->fault.code || !x2) {
        if (!f->code) *f = t->fault;
        return NULL;
    }
    keep_z(x, l, x2->data, raw, f);
    if (!f->code) x->how->keep(x, l, &taps, z, f);
    show(x->options.watch, "attention", l->index, taps.A->data, 3, H, x->rows, n);
    if (taps.h) show(x->options.watch, "h", l->index, taps.h->data, 2, x->rows, F, 0);
    if (x->options.watch && !f->code && taps.h) {
        k_act(c->act_vision, 1, taps.h->data, taps.h->data, x->rows * F); /* of no more use here */
        show(x->options.watch, "act'(h)", l->index, taps.h->data, 2, x->rows, F, 0);
    }
    return x2;
}

/* The tape of the explained layers: autograd's stays, the others' is forgotten after each block. */
static void run_blocks(explained *x, real *tokens, fault *f) {
    const clip_config *c = &x->model->config;
    ag_tape *t = &x->tape;
    size_t n = x->n, D = c->vision.width, depth = clip_depth(c), start = depth - x->options.layers;
    for (size_t i = 0; i < depth && !f->code; i++) {
        ag_mark mark = ag_tape_mark(t);
        bool keep = i >= start && explain_is_taped(x);
        explain_layer *l = i < start ? NULL : &x->layers[i - start];
        t->recording = false;
        if (x->how->block) {
            x->how->block(x, i, l, tokens);
            if (l) keep_z(x, l, tokens, NULL, f);
            show(x->options.watch, "tokens", i, tokens, 2, n, D, 0);
            continue;
        }
        real *own = keep ? explain_take(x, n, D, f) : tokens; /* a record needs its input as it was */
        if (!own) return;
        if (keep) memcpy(own, tokens, n * D * sizeof(real));
        ag_tensor *in = ag_constant(t, own, 1, n, D);
        ag_tensor *out = l ? run_explained(x, l, t, in, f)
                           : clip_block(t, &x->run, &x->model->blocks[i], in, NULL, false);
        if (out && out->data != tokens)
            memcpy(tokens, out->data, n * D * sizeof(real));
        else if (!out && !f->code)
            *f = t->fault;
        show(x->options.watch, "tokens", i, tokens, 2, n, D, 0);
        if (!keep) ag_tape_reset(t, mark);
    }
}

static void forward(explained *x, const real *pixels, fault *f) {
    const clip_config *c = &x->model->config;
    size_t D = c->vision.width, E = c->embed;
    ag_tape *t = &x->tape;
    real *tokens = explain_take(x, x->n, D, f);
    if (!f->code && !ag_tape_init(t, x->memory, x->cores, x->how->records ? TAPE_NODES * x->options.layers : 1)) *f = t->fault;
    if (f->code) return;
    t->recording = false;
    x->run = clip_image_run(t, x->model, x->gh, x->gw);
    ag_mark mark = ag_tape_mark(t);
    ag_tensor *patches = clip_patches_alpha(t, x->model, pixels, x->options.alpha, x->sides[0], x->sides[1]);
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
    if (c->unit_output && !f->code) explain_unit(x->embedding, x->embedding, E);
    if (!f->code && !k_finite(x->embedding, E)) fault_set(f, FAULT_NAN, "the image embedding", NULL, 0);
}

static bool valid_request(explained *x, size_t height, size_t width, fault *f) {
    const clip_config *c = &x->model->config;
    size_t depth = clip_depth(c), p = c->patch;
    if (x->options.other)
        x->options.gradient = GRADIENT_AUTOGRAD;
    else if (x->options.layers == 0)
        x->options.layers = 1;
    if (x->options.layers > depth)
        return fault_set(f, FAULT_RANGE, "layers", (size_t[]){x->options.layers, 1, depth}, 3);
    return clip_grid(c, height, width, &x->gh, &x->gw) ||
           fault_set(f, FAULT_SHAPE, "pixels", (size_t[]){3, height, width, 3, p, p}, 6);
}

/* Which attention, and how its relevance becomes a map (MODEL.md 4.4). */
static void choose_family(explained *x) {
    const clip_config *c = &x->model->config;
    bool own = clip_has_pooler(c);
    x->first = clip_first(c);
    x->n = x->first + x->gh * x->gw;
    x->height = x->gh * c->patch;
    x->width = x->gw * c->patch;
    x->tower = own ? &c->pooler : &c->vision;
    x->rows = own ? 1 : x->n;
    x->unit = !own || c->pool == CLIP_POOL_PROBE;
    x->unit_scale = c->pool == CLIP_POOL_PROBE && !x->options.other ? 1 : c->patch;
    x->how = x->options.other ? &OTHER : GRADIENTS[x->options.gradient];
    if (x->how->instead && !explain_own_blocks(c)) x->how = x->how->instead;
}

/* jacobian and compact are of (4.6) to (4.13) alone. */
#define OTHERWISE ", for which its closed form is not made; factored, decomposed and autograd explain every model"
static bool fits_family(const explained *x, fault *f) {
    const clip_config *c = &x->model->config;
    const char *why = clip_is_resnet(c)              ? "not for a ResNet's pooler" OTHERWISE
                      : c->pool == CLIP_POOL_QUERIES ? "not for CoCa's pooler" OTHERWISE
                      : clip_is_siglip(c)            ? "not for SigLIP's pooler" OTHERWISE
                      : clip_has_pooler(c)           ? "not for PE-Core's pooler" OTHERWISE
                      : c->vision.post_norm          ? "not for post-norm blocks (EVA02 E)" OTHERWISE
                      : c->vision.layer_scale        ? "not for blocks with layer scale" OTHERWISE
                                                     : "not for EVA02's blocks" OTHERWISE;
    return !x->how->own || explain_own_blocks(c) || fault_family(f, x->how->name, why);
}

/* (4.20)  SigLIP's correction: what the usual words of every text look at says nothing about this one. */
static bool correct(explained *x, fault *f) {
    real *keep = explain_take(x, x->gh, x->gw, f);
    if (!keep || !explain_grid(x, x->options.usual, keep, f) || !map_unit_grid(keep, x->gh, x->gw, x->options.layers, keep, f))
        return false;
    for (size_t j = 0; j < x->gh * x->gw; j++) keep[j] = keep[j] <= (real)0.8;
    x->keep = keep;
    return true;
}

static bool ready_other(explained *x, fault *f) {
    x->tape.recording = true;
    return k_finite(x->embedding, x->model->config.embed) || fault_set(f, FAULT_NAN, "the image embedding", NULL, 0);
}

bool explain_open(explained *x, const clip_model *m, const real *pixels, size_t height, size_t width,
                  const explain_options *o, arena *memory, pool *cores, fault *f) {
    *x = (explained){.model = m, .options = *o, .memory = memory, .cores = cores, .sides = {height, width}};
    if (f->code || !valid_request(x, height, width, f)) return false;
    choose_family(x);
    if (!fits_family(x, f)) return false;
    x->embedding = explain_take(x, 1, m->config.embed, f);
    x->first_grid = explain_take(x, x->gh, x->gw, f);
    take_work(x, f);
    if (o->other) return !f->code && o->other->open(o->other->arg, x, pixels, f) && ready_other(x, f);
    keep_projection(x, f);
    if (take_layers(x, f)) forward(x, pixels, f);
    if (!f->code && o->usual && clip_is_siglip(&m->config)) correct(x, f);
    return f->code == FAULT_NONE;
}
