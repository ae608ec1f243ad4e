/* system_align.c - ./train align: Locality Alignment, MaskEmbed (Covert et al. 2024; MODEL.md 15).
 *
 * Teacher. The model as it is, frozen, sees the picture times a mask (0 is the mean colour); its target is every token after LN_post,
 *       scaled so that their variance is 1 (15.1).
 * Student. A copy that sees the whole picture. Its tokens go through a norm and a head (zero at first), are cut by the mask, the class
 *       token always, and two blocks with positions make of them what the teacher saw (15.2).
 * Loss. Mean square over all tokens, masks and numbers (15.3). Three masks a picture: u uniform, a patch is seen where its own number is
 *       above u; the complement; everything. --masks 0 is the control: everything alone.
 * The student has no text any more: `train probe --model` asks its patches, nothing names them.
 */
#include "training/systems.h"
#include "parts/maskembed.h"
#include "sys/random.h"
#include "training/feed.h"
#include "training/tuned.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { L_MASKS = T_OWN, L_BLOCKS, L_MEASURE, L_COUNT };
static const setting recipe[L_COUNT] = {
    SYSTEM_SETTINGS(500, 16, 3e-4, 0, 0.01, 0.9, 16),
    [L_MASKS] = {"masks", 1, 0, 1, SET_DATA, "1: one, its complement and everything; 0: everything alone, the control", false, false},
    [L_BLOCKS] = {"blocks", 2, 1, MASKEMBED_MOST_BLOCKS, SET_SHAPE, "of the decoder", false, false},
    [L_MEASURE] = {"measure", 64, 1, 100000, SET_DATA, "pictures that the teacher's variance is measured on", false, false},
};

typedef struct {
    tower student;
    maskembed_net decoder;
} aligned;

typedef struct {
    scene_source *source;
    const system_job *job;
    size_t cells, numbers, each; /* of a picture's patches; masks a picture */
    real *patches, *masks;       /* [batch, cells, 3pp], [batch*each, cells] */
    real scale;                  /* s, so that the teacher's tokens have variance 1 */
    uint64_t seed, first;
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err why;
} data;

/* ---- data --------------------------------------------------------------------------------------------------- */
static void sample_task(void *arg, size_t b) {
    data *d = arg;
    const clip_config *c = &d->job->model->config;
    scene sc;
    err e = {{0}};
    if (atomic_load(&d->failed)) return;
    if (!scene_make(d->source, mix64(d->seed, 2), d->first + b, c->image, 1, 4, &sc, &e)) {
        if (!atomic_exchange(&d->failed, true)) d->why = e;
        return;
    }
    feed_patches(c, &sc.image, d->patches + b * d->numbers);
    scene_free(&sc);
    rng r = rng_start(mix64(d->seed, 1), d->first + b);
    real *m = d->masks + b * d->each * d->cells;
    float u = rng_unit(&r);
    for (size_t i = 0; i < d->cells; i++) {
        bool seen = rng_unit(&r) > u;
        if (d->each == 3) m[i] = seen, m[d->cells + i] = !seen;
        m[(d->each - 1) * d->cells + i] = 1;
    }
}

static bool make(data *d, uint64_t seed, uint64_t first, size_t count, err *e) {
    d->seed = seed, d->first = first;
    spread(d->job->cores, count, sample_task, d);
    if (!atomic_load(&d->failed)) return true;
    *e = d->why;
    return false;
}

/* (15.1)  s LN_post(tokens of pixels * m) */
static ag_tensor *target_of(const data *d, ag_tape *t, ag_tensor *patches, const real *masks) {
    const clip_model *m = d->job->model;
    size_t grid = m->config.image / m->config.patch;
    bool recording = t->recording;
    t->recording = false;
    ag_tensor *x = tower_tokens(t, m, maskembed_hide(t, patches, masks, d->each), grid, grid);
    x = ag_scale(t, clip_norm(t, &m->post_gamma, &m->post_beta, m->config.vision.eps, x), d->scale, 0);
    t->recording = recording;
    return ag_detach(t, x);
}

/* The scale: the variance of the teacher's numbers about the mean of each place. */
static bool measure(data *d, err *e) {
    size_t B = (size_t)d->job->s[T_BATCH].value, rounds = ((size_t)d->job->s[L_MEASURE].value + B - 1) / B, n = 0;
    double sum = 0, square = 0;
    void *room = mem_reserve((size_t)2 << 30);
    bool good = room || err_set(e, "no memory to measure the teacher");
    d->scale = 1;
    for (size_t i = 0; good && i < rounds; i++) {
        arena memory;
        ag_tape t;
        arena_init(&memory, room, (size_t)2 << 30);
        if (!ag_tape_init(&t, &memory, NULL, 1)) good = err_fault(e, &t.fault);
        t.recording = false;
        good = good && make(d, mix64((uint64_t)d->job->s[T_SEED].value, 52), i * B, B, e);
        ag_tensor *y = good ? target_of(d, &t, ag_constant(&t, d->patches, B, d->cells, d->numbers / d->cells), d->masks) : NULL;
        if (good && !y) good = err_fault(e, &t.fault);
        for (size_t k = 0; y && k < ag_size(y); k++) sum += (double)y->data[k], square += (double)y->data[k] * (double)y->data[k], n++;
    }
    if (room) mem_release(room, (size_t)2 << 30);
    double mean = n ? sum / (double)n : 0, variance = n ? square / (double)n - mean * mean : 1;
    d->scale = (real)(1 / sqrt(variance > 0 ? variance : 1));
    return good;
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    const clip_config *c = &j->model->config;
    size_t B = (size_t)j->s[T_BATCH].value, grid = c->image / c->patch;
    if (!tower_fits(c) || c->no_class_token) return err_set(e, "align: the model is no vision transformer with a class token and without a pooler");
    d->job = j, d->cells = grid * grid, d->numbers = d->cells * 3 * c->patch * c->patch, d->each = j->s[L_MASKS].value > 0 ? 3 : 1;
    d->patches = mem_alloc(B, d->numbers * sizeof *d->patches), d->masks = mem_alloc(B, d->each * d->cells * sizeof *d->masks);
    if (!d->patches || !d->masks) return err_set(e, "no memory for a batch of %zu", B);
    return (d->source = scene_source_open(SCENE_DRAWN, NULL, e)) && measure(d, e);
}

static void close_data(system_job *j) {
    data *d = j->own;
    mem_free(d->patches), mem_free(d->masks);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    size_t B = (size_t)j->s[T_BATCH].value;
    return make(j->own, mix64((uint64_t)j->s[T_SEED].value, 51), step * B, B, e);
}

/* ---- the networks, and the loss -------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    aligned *n = net;
    const clip_config *c = &j->model->config;
    size_t grid = c->image / c->patch;
    n->decoder = (maskembed_net){.tokens = grid * grid + 1, .width = c->vision.width, .heads = c->vision.heads, .mlp = c->vision.mlp,
                                 .blocks = (size_t)j->s[L_BLOCKS].value, .act = c->act_vision};
    tower_weights(&n->student, j->model, false, 1, l);
    maskembed_weights(&n->decoder, l);
}

static ag_tensor *error_of(const data *d, const aligned *n, ag_tape *t, size_t first, size_t last, real weight) {
    const clip_config *c = &d->job->model->config;
    size_t grid = c->image / c->patch;
    const real *masks = d->masks + first * d->each * d->cells;
    ag_tensor *patches = ag_constant(t, d->patches + first * d->numbers, last - first, d->cells, d->numbers / d->cells);
    ag_tensor *target = target_of(d, t, patches, masks);
    ag_tensor *y = maskembed_reconstruct(t, &n->decoder, tower_tokens(t, &n->student.model, patches, grid, grid), masks, d->each);
    return target && y ? maskembed_loss(t, y, target, weight / (real)(d->each * (d->cells + 1) * n->decoder.width)) : NULL;
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    (void)out;
    return error_of(j->own, net, t, first, last, 1 / (real)j->s[T_BATCH].value);
}

/* 1 less the error on held-out scenes: the share of the teacher's variance that is reconstructed. */
static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    data *d = j->own;
    size_t B = (size_t)j->s[T_BATCH].value, count = (size_t)j->s[T_VALID].value, mark = arena_mark(memory);
    double sum = 0;
    for (size_t i = 0, n; i < count; i += n, arena_reset(memory, mark)) {
        ag_tape t;
        n = count - i < B ? count - i : B;
        if (!ag_tape_init(&t, memory, j->cores, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        if (!make(d, HELD_OUT, i, n, e)) return false;
        ag_tensor *off = error_of(d, net, &t, 0, n, 1);
        if (!off) return err_fault(e, &t.fault);
        sum += (double)ag_item(off);
    }
    *share = 1 - sum / (double)count;
    return true;
}

static bool write_part(const system_job *j, void *net, const part_list *l, const char *path, err *e) {
    aligned *n = net;
    return tuned_write(j, &n->student, l, "F32", path, e);
}

const training_system align_system = {
    .name = "align", .what = "patches that tell of their own place (Locality Alignment)",
    .recipe = recipe, .settings = L_COUNT, .data_size = sizeof(data), .net_size = sizeof(aligned),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .write = write_part, .close = close_data,
};
