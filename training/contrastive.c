/* contrastive.c - one training step of CLIP (see contrastive.h). */
#include "training/contrastive.h"
#include <math.h>
#include <string.h>

/* ---- weights as one flat block ------------------------------------------------------------------- */

typedef struct {
    parameter *list;
    size_t count, numbers;
} layout_walk;

static bool place_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    layout_walk *l = arg;
    (void)w;
    if (l->list) l->list[l->count] = (parameter){kind, layer, rows, cols, l->numbers, 0};
    l->count++;
    l->numbers += parameter_place(rows, cols);
    return true;
}

/* An empty model: the config and room for its blocks' weights. */
static clip_model *empty_model(const clip_config *config, arena *memory, fault *why) {
    clip_model *m = arena_alloc(memory, 1, sizeof *m);
    clip_block_weights *b = arena_alloc(memory, config->vision.layers + config->text.layers, sizeof *b);
    if (!m || !b) {
        fault_memory(why, "weights", memory, sizeof *m);
        return NULL;
    }
    memset(m, 0, sizeof *m);
    memset(b, 0, (config->vision.layers + config->text.layers) * sizeof *b);
    m->config = *config;
    m->blocks = b;
    m->text_blocks = b + config->vision.layers;
    return m;
}

bool parameters_of(const clip_config *config, arena *memory, parameters *out, fault *why) {
    clip_model *m = empty_model(config, memory, why);
    if (!m) return false;
    layout_walk l = {0};
    clip_each_weight(m, place_weight, &l);
    l.list = arena_alloc(memory, l.count, sizeof *l.list);
    if (!l.list) return fault_memory(why, "parameters", memory, l.count * sizeof *l.list);
    l.count = l.numbers = 0;
    clip_each_weight(m, place_weight, &l);
    *out = (parameters){l.list, l.count, l.numbers};
    return true;
}

size_t parameters_scale(const parameters *p) {
    for (size_t i = 0; i < p->count; i++)
        if (p->list[i].kind == W_LOGIT_SCALE) return p->list[i].offset;
    return SIZE_MAX;
}

typedef struct {
    const real *flat;
    size_t numbers;
} bind_walk;

static bool bind_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    bind_walk *b = arg;
    (void)kind, (void)layer;
    *w = (clip_weight){.data = b->flat + b->numbers, .type = CLIP_REAL, .rows = rows, .cols = cols};
    b->numbers += parameter_place(rows, cols);
    return true;
}

clip_model *contrastive_model(const clip_config *config, const real *flat, arena *memory, fault *why) {
    clip_model *m = empty_model(config, memory, why);
    bind_walk b = {flat, 0};
    if (m) clip_each_weight(m, bind_weight, &b);
    return m;
}

/* ---- shares of the batch --------------------------------------------------------------------------------------- */

typedef struct {
    ag_mark before;
    ag_tensor *z;
    size_t first, count;
    bool image;
} chunk;

typedef struct {
    arena memory;
    ag_tape tape;
    clip_model *model; /* its leaves: the shared weights, this share's gradient */
    real *gradient;    /* [numbers] */
    ag_mark clear;     /* leaves made, no chunk begun */
    chunk *chunks;     /* in order of making */
    size_t count;
    fault why;
} share;

struct contrastive {
    clip_config config;
    contrastive_plan plan;
    parameters params;
    pool *cores;
    share *shares;
    arena memory; /* the loss's */
    ag_tape tape;
    real *zi, *zt; /* embeddings [pictures,E], [captions,E] */
    real *weights;
    /* the step's arguments, for the shares */
    const contrastive_batch *batch;
    const real *seed_i, *seed_t; /* dloss/dzi [pictures,E], dloss/dzt [captions,E] */
    real *sum;
    struct {
        const clip_model *model;
        const real *patches;
        const uint32_t *ids;
        size_t count, length;
        real *out;
    } ask;
};

/* Tensors a chunk makes, backward's included: generous, the table holds pointers only. */
static size_t nodes_of(const clip_config *c, const contrastive_plan *p) {
    size_t per = 512 + 160 * (c->vision.layers > c->text.layers ? c->vision.layers : c->text.layers);
    size_t chunks = p->pictures / p->images_chunk + p->captions / p->texts_chunk + 2 * p->shares;
    return per * (chunks + 2);
}

/* Numbers that one token's activations take: per block some 8 tensors of width D, 3 of F, two rows of attention. */
static size_t token_numbers(const clip_tower *t, size_t tokens) {
    return t->layers * (16 * t->width + 4 * t->mlp + 4 * t->heads * tokens + 64) + 16 * t->width;
}

static size_t loss_room(const clip_config *c, const contrastive_plan *p) {
    return sizeof(real) * (32 * p->captions * (p->pictures + 16) + 48 * p->captions * c->embed) + ((size_t)1 << 20);
}

size_t contrastive_room(const clip_config *c, const contrastive_plan *p) {
    size_t grid = c->image / c->patch, n = grid * grid + 1, word = sizeof(real);
    size_t image = word * n * (token_numbers(&c->vision, n) + 6 * c->patch * c->patch);
    size_t text = word * c->context * token_numbers(&c->text, c->context);
    size_t flat = word * (c->vocab * c->text.width + c->vision.layers * 14 * c->vision.width * c->vision.width +
                          c->text.layers * 14 * c->text.width * c->text.width + n * c->vision.width);
    /* forward keeps every chunk; backward holds some of one chunk's twice over, and weight gradients */
    size_t each = 8 * (image * p->images_chunk + text * p->texts_chunk) + 4 * flat + 8 * nodes_of(c, p) * 64;
    return image * (p->pictures + p->shares) + text * (p->captions + p->shares) + p->shares * each + loss_room(c, p) +
           ((size_t)32 << 20);
}

typedef struct {
    share *w;
    real *weights;
    const parameters *params;
    size_t next;
} leaf_walk;

static bool make_leaf(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    leaf_walk *l = arg;
    size_t at = l->params->list[l->next++].offset;
    (void)kind, (void)layer;
    w->leaf = ag_leaf(&l->w->tape, l->weights + at, l->w->gradient + at, 1, rows, cols);
    return w->leaf != NULL;
}

static bool share_start(contrastive *c, share *w, arena *memory, size_t room, fault *why) {
    size_t n = c->params.numbers,
           chunks = c->plan.pictures / c->plan.images_chunk + c->plan.captions / c->plan.texts_chunk + 2;
    unsigned char *buffer = arena_alloc(memory, room, 1);
    memset(w, 0, sizeof *w);
    if (buffer) {
        arena_init(&w->memory, buffer, room);
        w->gradient = arena_alloc(&w->memory, n, sizeof *w->gradient);
        w->chunks = arena_alloc(&w->memory, chunks, sizeof *w->chunks);
    }
    if (!w->gradient || !w->chunks)
        return fault_set(why, FAULT_MEMORY, "share", (size_t[]){n * sizeof(real), room, memory->size}, 3);
    w->model = contrastive_model(&c->config, c->weights, &w->memory, why);
    leaf_walk l = {w, c->weights, &c->params, 0};
    bool made = w->model && ag_tape_init(&w->tape, &w->memory, NULL, nodes_of(&c->config, &c->plan)) &&
                clip_each_weight(w->model, make_leaf, &l);
    if (!made) {
        if (w->tape.fault.code) *why = w->tape.fault;
        return fault_set(why, FAULT_MEMORY, "share", (size_t[]){n * sizeof(real), room, memory->size}, 3);
    }
    w->clear = ag_tape_mark(&w->tape);
    return true;
}

contrastive *contrastive_new(const clip_config *config, real *weights, pool *cores, const contrastive_plan *plan,
                             arena *memory, fault *why) {
    contrastive *c = arena_alloc(memory, 1, sizeof *c);
    size_t room = loss_room(config, plan), e = config->embed;
    share *shares = arena_alloc(memory, plan->shares, sizeof *shares);
    real *zi = arena_alloc(memory, plan->pictures * e, sizeof *zi), *zt = arena_alloc(memory, plan->captions * e, sizeof *zt);
    unsigned char *buffer = arena_alloc(memory, room, 1);
    if (!c || !shares || !zi || !zt || !buffer) {
        fault_memory(why, "contrastive", memory, room);
        return NULL;
    }
    memset(c, 0, sizeof *c);
    c->config = *config, c->plan = *plan, c->cores = cores, c->shares = shares;
    c->weights = weights, c->zi = zi, c->zt = zt;
    arena_init(&c->memory, buffer, room);
    if (!parameters_of(config, memory, &c->params, why)) return NULL;
    if (!ag_tape_init(&c->tape, &c->memory, NULL, 512)) {
        *why = c->tape.fault;
        return NULL;
    }
    size_t each = arena_left(memory) / plan->shares / ARENA_ALIGN * ARENA_ALIGN;
    for (size_t i = 0; i < plan->shares; i++)
        if (!share_start(c, &shares[i], memory, each, why)) return NULL;
    return c;
}

const parameters *contrastive_parameters(const contrastive *c) { return &c->params; }

size_t contrastive_peak(const contrastive *c) {
    size_t sum = c->memory.peak;
    for (size_t i = 0; i < c->plan.shares; i++) sum += c->shares[i].memory.peak;
    return sum;
}

/* Worker i's run of n things: first..last-1. */
static void share_of(size_t n, size_t i, size_t shares, size_t *first, size_t *last) {
    *first = n * i / shares;
    *last = n * (i + 1) / shares;
}

/* ---- forward ----------------------------------------------------------------------------------------- */

static ag_tensor *image_forward(ag_tape *t, const clip_model *m, const real *patches, size_t count) {
    size_t p = m->config.patch, grid = m->config.image / p;
    return clip_image(t, m, ag_constant(t, patches, count, grid * grid, 3 * p * p), grid, grid);
}

static size_t picture_numbers(const clip_config *c) {
    size_t grid = c->image / c->patch;
    return grid * grid * 3 * c->patch * c->patch;
}

/* Remembers the chunk for the way back; its embeddings [count,E] to where the loss finds them. */
static bool keep_chunk(contrastive *c, share *w, chunk k) {
    real *z = k.image ? c->zi : c->zt;
    if (!k.z) {
        w->why = w->tape.fault;
        return false;
    }
    w->chunks[w->count++] = k;
    memcpy(z + k.first * c->config.embed, k.z->data, k.count * c->config.embed * sizeof(real));
    return true;
}

static void forward_task(void *arg, size_t index) {
    contrastive *c = arg;
    share *w = &c->shares[index];
    const contrastive_batch *b = c->batch;
    size_t first, last;
    ag_tape_reset(&w->tape, w->clear);
    w->tape.recording = true;
    w->count = 0;
    memset(w->gradient, 0, c->params.numbers * sizeof(real));
    share_of(b->captions, index, c->plan.shares, &first, &last);
    for (size_t i = first; i < last; i += c->plan.texts_chunk) {
        chunk k = {ag_tape_mark(&w->tape), NULL, i, at_most(c->plan.texts_chunk, last - i), false};
        k.z = clip_text(&w->tape, w->model, b->ids + i * b->length, k.count, b->length);
        if (!keep_chunk(c, w, k)) return;
    }
    share_of(b->pictures, index, c->plan.shares, &first, &last);
    for (size_t i = first; i < last; i += c->plan.images_chunk) {
        chunk k = {ag_tape_mark(&w->tape), NULL, i, at_most(c->plan.images_chunk, last - i), true};
        k.z = image_forward(&w->tape, w->model, b->patches + i * picture_numbers(&c->config), k.count);
        if (!keep_chunk(c, w, k)) return;
    }
}

/* ---- the loss: CLIP, Radford et al. 2021, figure 3 ------------------------------------------------------ */

/* Share of rows of logits [n,m] whose largest entry is at a right column. */
static real share_right(const real *logits, const real *y, size_t n, size_t m) {
    size_t right = 0;
    for (size_t i = 0; i < n; i++) {
        size_t best = 0;
        for (size_t j = 1; j < m; j++)
            if (logits[i * m + j] > logits[i * m + best]) best = j;
        right += y[i * m + best] > 0;
    }
    return (real)right / (real)n;
}

/* (9.1)  Y [n,m], or Y' [m,n]: each row of truth [n,m], or of its transpose, over its sum: all captions that are true of a
 * picture are as right, and all pictures that a caption is true of. */
static real *right_ones(contrastive *c, const contrastive_batch *b, bool transposed) {
    size_t n = b->pictures, m = b->captions, rows = transposed ? m : n, cols = transposed ? n : m;
    real *y = arena_alloc(&c->memory, n * m, sizeof *y);
    for (size_t i = 0; y && i < rows; i++) {
        real sum = 0, *row = y + i * cols;
        for (size_t j = 0; j < cols; j++) {
            size_t p = transposed ? j : i, q = transposed ? i : j;
            row[j] = b->truth ? b->truth[p * m + q] : q % n == p;
            sum += row[j];
        }
        for (size_t j = 0; j < cols; j++) row[j] /= sum;
    }
    return y;
}

/* loss = -(1/2n) sum_ij Y_ij log softmax(e^s I T^T)_ij - (1/2m) sum_ji Y'_ji log softmax(e^s T I^T)_ji (9.1)
 * with I [n,E] and T [m,E] unit rows; -1/2n stands before both, hence n/m before the second. Leaves dloss/dzi and dloss/dzt as the
 * shares' seeds and dloss/ds in *ds. */
static bool loss_task(contrastive *c, contrastive_result *out, real *scale, real *ds) {
    size_t n = c->batch->pictures, m = c->batch->captions, e = c->config.embed;
    ag_tape *t = &c->tape;
    const real *y = right_ones(c, c->batch, false), *yt = right_ones(c, c->batch, true);
    if (!y || !yt) return fault_memory(&t->fault, "truth", &c->memory, n * m * sizeof(real));
    ag_tensor *leaf[3] = {ag_leaf(t, c->zi, NULL, 1, n, e), ag_leaf(t, c->zt, NULL, 1, m, e),
                          ag_leaf(t, scale, NULL, 1, 1, 1)};
    ag_tensor *i = ag_normalize(t, leaf[0]), *k = ag_normalize(t, leaf[1]), *s = ag_exp(t, leaf[2]);
    ag_tensor *rows = ag_mul(t, ag_matmul(t, i, NO_T, k, T), s);
    ag_tensor *cols = ag_mul(t, ag_matmul(t, k, NO_T, i, T), s);
    ag_tensor *of_pictures = ag_dot(t, ag_logsoftmax(t, rows), ag_constant(t, y, 1, n, m));
    ag_tensor *of_captions = ag_dot(t, ag_logsoftmax(t, cols), ag_constant(t, yt, 1, m, n));
    ag_tensor *sum = ag_add(t, of_pictures, ag_scale(t, of_captions, (real)n / (real)m, 0));
    ag_tensor *loss = ag_scale(t, sum, (real)-0.5 / (real)n, 0);
    if (!loss || !ag_grad(t, loss, NULL, leaf, 3, 0)) return false;
    out->loss = ag_item(loss);
    out->accuracy = (share_right(rows->data, y, n, m) + share_right(cols->data, yt, m, n)) / 2;
    if (!isfinite(out->loss)) return fault_set(&t->fault, FAULT_NAN, "loss", NULL, 0);
    c->seed_i = leaf[0]->grad->data, c->seed_t = leaf[1]->grad->data;
    *ds = ag_item(leaf[2]->grad);
    return true;
}

/* ---- backward ------------------------------------------------------------------------------------------- */

/* The chunks in reverse: each gives back its memory before the one made before it is walked. */
static void backward_task(void *arg, size_t index) {
    contrastive *c = arg;
    share *w = &c->shares[index];
    size_t e = c->config.embed;
    for (size_t i = w->count; i-- > 0;) {
        chunk *k = &w->chunks[i];
        const real *seed = (k->image ? c->seed_i : c->seed_t) + k->first * e;
        ag_tensor *dz = ag_constant(&w->tape, seed, k->count, 1, e);
        if (!ag_grad(&w->tape, k->z, dz, NULL, 0, 0)) {
            w->why = w->tape.fault;
            return;
        }
        ag_tape_reset(&w->tape, k->before);
    }
}

/* One weight's gradient: the shares', always summed in the same order. */
static void sum_task(void *arg, size_t index) {
    contrastive *c = arg;
    const parameter *p = &c->params.list[index];
    size_t n = p->rows * p->cols;
    real *sum = c->sum + p->offset;
    memcpy(sum, c->shares[0].gradient + p->offset, n * sizeof *sum);
    for (size_t i = 1; i < c->plan.shares; i++) k_axpy(1, c->shares[i].gradient + p->offset, sum, n);
}

/* ---- the step --------------------------------------------------------------------------------------------- */

static bool shares_run(contrastive *c, pool_task *task, fault *why) {
    for (size_t i = 0; i < c->plan.shares; i++) c->shares[i].why.code = FAULT_NONE;
    spread(c->cores, c->plan.shares, task, c);
    for (size_t i = 0; i < c->plan.shares; i++) {
        share *w = &c->shares[i];
        if (w->why.code == FAULT_NONE) continue;
        *why = w->why;
        w->tape.fault.code = FAULT_NONE; /* the next step may begin anew */
        return false;
    }
    return true;
}

bool contrastive_step(contrastive *c, const contrastive_batch *b, real *gradient, contrastive_result *out, fault *why) {
    real ds = 0;
    size_t scale = parameters_scale(&c->params);
    if (b->pictures < 1 || b->pictures > c->plan.pictures)
        return fault_set(why, FAULT_RANGE, "pictures", (size_t[]){b->pictures, 1, c->plan.pictures}, 3);
    if (b->captions < b->pictures || b->captions > c->plan.captions)
        return fault_set(why, FAULT_RANGE, "captions", (size_t[]){b->captions, b->pictures, c->plan.captions}, 3);
    c->batch = b, c->sum = gradient;
    if (!shares_run(c, forward_task, why)) return false;
    size_t mark = arena_mark(&c->memory);
    ag_mark clear = ag_tape_mark(&c->tape);
    c->tape.recording = true;
    bool good = loss_task(c, out, c->weights + scale, &ds);
    if (!good)
        *why = c->tape.fault;
    else
        good = shares_run(c, backward_task, why);
    c->tape.fault.code = FAULT_NONE;
    ag_tape_reset(&c->tape, clear);
    arena_reset(&c->memory, mark);
    if (!good) return false;
    memset(gradient, 0, c->params.numbers * sizeof *gradient);
    spread(c->cores, c->params.count, sum_task, c);
    gradient[scale] = ds;
    return true;
}

/* ---- embeddings alone ------------------------------------------------------------------------------------- */

static void embed_task(void *arg, size_t index) {
    contrastive *c = arg;
    share *w = &c->shares[index];
    size_t first, last, e = c->config.embed;
    size_t most = c->ask.patches ? c->plan.images_chunk : c->plan.texts_chunk;
    ag_tape_reset(&w->tape, w->clear);
    w->tape.recording = false;
    share_of(c->ask.count, index, c->plan.shares, &first, &last);
    for (size_t i = first; i < last; i += most) {
        size_t count = at_most(most, last - i);
        ag_tensor *z =
            c->ask.patches
                ? image_forward(&w->tape, c->ask.model, c->ask.patches + i * picture_numbers(&c->config), count)
                : clip_text(&w->tape, c->ask.model, c->ask.ids + i * c->ask.length, count, c->ask.length);
        if (!z) {
            w->why = w->tape.fault;
            return;
        }
        memcpy(c->ask.out + i * e, z->data, count * e * sizeof(real));
        ag_tape_reset(&w->tape, w->clear);
    }
}

bool contrastive_images(contrastive *c, const clip_model *m, const real *patches, size_t count, real *out, fault *why) {
    c->ask.model = m, c->ask.patches = patches, c->ask.ids = NULL;
    c->ask.count = count, c->ask.length = 0, c->ask.out = out;
    return shares_run(c, embed_task, why);
}

bool contrastive_texts(contrastive *c, const clip_model *m, const uint32_t *ids, size_t count, size_t length, real *out,
                       fault *why) {
    c->ask.model = m, c->ask.patches = NULL, c->ask.ids = ids;
    c->ask.count = count, c->ask.length = length, c->ask.out = out;
    return shares_run(c, embed_task, why);
}
