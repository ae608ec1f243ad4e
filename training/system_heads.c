/* system_heads.c - ./train heads: contrast goes on with light heads on the patches, fed by experts (CLIPTeX, arXiv 2310.14108, whose code
 * and weights are not published: the weights of the terms are ours; MODEL.md 19).
 *
 * Model. The image side learns; three linear heads on LN_post of each patch token: the cell's share of each class, its share of boundary,
 *       its depth. The text side stays.
 * Loss. Contrast of pictures with captions of all their objects (14.2) + CE + .5 BCE + .25 distance of depths without mean and spread (19.1).
 * Expert. The renderer, whose masks, edges and order are exact; a flat world has no normals. Unseen names are "background" to the heads.
 * --expert 1: one with errors, CLIP Surgery's maps of the model as it was (19.2, 19.3); they tell no order, so depth is left out. The log's
 * accuracy is then how many of the cells that show a thing it labels right.
 * --heads 0 is the control: the same pictures, steps and seeds without heads. `train probe --model FOLDER/heads` asks both.
 */
#include "training/systems.h"
#include "models/texts.h"
#include "parts/alpha.h"
#include "parts/heads.h"
#include "scenes/grammar.h"
#include "sys/random.h"
#include "training/expert.h"
#include "training/feed.h"
#include "training/looked.h"
#include "training/tuned.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { H_HEADS = T_OWN, H_UNSEEN, H_EXPERT, H_COUNT };
static const setting recipe[H_COUNT] = {
    SYSTEM_SETTINGS(250, 64, 1e-4, 10, 0.05, 0.9, 2),
    [H_HEADS] = {"heads", 1, 0, 1, SET_SHAPE, "0: none, the control", false, false},
    [H_UNSEEN] = {"unseen", 4, 0, 1000, SET_DATA, "every so many-th name is background to the class head (0: none)", false, false},
    [H_EXPERT] = {"expert", 0, 0, 1, SET_DATA, "0: the renderer, exact; 1: CLIP Surgery's maps, with their errors", false, false},
};
enum { SENTENCE = 320 };
static const size_t EXPERT_ROOM = (size_t)1 << 30; /* address space; pages come when they are touched */

typedef struct {
    tower tower;
    label_heads heads;
} headed;

typedef struct {
    scene_source *source;
    word_list names;
    const system_job *job;
    size_t cells, numbers, classes;
    real *patches, *share, *edge, *depth; /* [batch, ...] */
    real *own;                            /* [names,E] unit: the expert's texts; NULL: it is the renderer */
    double *agreed;                       /* [batch] share of cells with a thing that the expert labels right */
    char (*text)[SENTENCE];
    real *texts;
    arena memory;
    void *room;
    uint64_t first;
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err why;
} data;

/* The expert's word in the place of the renderer's. */
static bool ask_expert(data *d, const scene *sc, size_t b, err *e) {
    expert x = {d->job->model, &d->names, d->own};
    arena memory;
    size_t things = 0, right = 0, K = d->classes;
    real *truth = mem_alloc(d->cells, K * sizeof *truth), *share = d->share + b * d->cells * K;
    void *room = mem_reserve(EXPERT_ROOM);
    bool good = (truth && room) || err_set(e, "no memory for an expert");
    if (room) arena_init(&memory, room, EXPERT_ROOM);
    if (good) memcpy(truth, share, d->cells * K * sizeof *truth);
    good = good && expert_cells(&x, sc, share, d->edge + b * d->cells, &memory, e);
    for (size_t i = 0; good && i < d->cells; i++) {
        size_t k = most_of(truth + i * K, K);
        if (k + 1 < K) things++, right += share[i * K + k] > 0;
    }
    if (things) d->agreed[b] = (double)right / (double)things;
    if (room) mem_release(room, EXPERT_ROOM);
    mem_free(truth);
    return good;
}

static void sample_task(void *arg, size_t b) {
    data *d = arg;
    const system_job *j = d->job;
    const clip_config *c = &j->model->config;
    size_t grid = c->image / c->patch, order[SCENE_MOST_OBJECTS], every = (size_t)j->s[H_UNSEEN].value;
    uint64_t seed = mix64((uint64_t)j->s[T_SEED].value, 101);
    scene sc;
    err e = {{0}};
    if (atomic_load(&d->failed)) return;
    if (!scene_make(d->source, seed, d->first + b, c->image, 1, 4, &sc, &e)) {
        if (!atomic_exchange(&d->failed, true)) d->why = e;
        return;
    }
    real *share = d->share + b * d->cells * d->classes;
    feed_patches(c, &sc.image, d->patches + b * d->numbers);
    cells_of(&sc, &d->names, grid, share, d->edge + b * d->cells, d->depth + b * d->cells);
    if (d->own && !ask_expert(d, &sc, b, &e) && !atomic_exchange(&d->failed, true)) d->why = e;
    for (size_t i = 0; every && i < d->cells; i++)
        for (size_t k = 1; k < d->names.count; k += every)
            share[i * d->classes + d->names.count] += share[i * d->classes + k], share[i * d->classes + k] = 0;
    for (size_t i = 0; i < sc.count; i++) order[i] = i;
    grammar_list(sc.object, order, sc.count, SAY_COLOUR, d->text[b], SENTENCE);
    scene_free(&sc);
}

/* "a photo of a fish", for every name. */
static bool open_expert(system_job *j, err *e) {
    data *d = j->own;
    d->own = mem_alloc(d->names.count, j->model->config.embed * sizeof *d->own);
    return (d->own || err_set(e, "no memory for texts")) &&
           system_texts(j, d->names.word, d->names.count, "a photo of a {}", d->own, e);
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    const clip_config *c = &j->model->config;
    size_t B = (size_t)j->s[T_BATCH].value, grid = c->image / c->patch;
    if (!tower_fits(c)) return err_set(e, "heads: the model is no vision transformer without a pooler");
    if (!(d->source = scene_source_open(SCENE_DRAWN, NULL, e)) || !words_names(d->source, &d->names, e)) return false;
    d->job = j, d->cells = grid * grid, d->numbers = d->cells * 3 * c->patch * c->patch, d->classes = d->names.count + 1;
    d->patches = mem_alloc(B, d->numbers * sizeof(real)), d->share = mem_alloc(B, d->cells * d->classes * sizeof(real));
    d->edge = mem_alloc(B, d->cells * sizeof(real)), d->depth = mem_alloc(B, d->cells * sizeof(real));
    d->text = mem_alloc(B, sizeof *d->text), d->texts = mem_alloc(B, c->embed * sizeof *d->texts), d->room = mem_reserve(TEXT_ROOM);
    d->agreed = mem_alloc(B, sizeof *d->agreed);
    if (!d->patches || !d->share || !d->edge || !d->depth || !d->text || !d->texts || !d->agreed || !d->room)
        return err_set(e, "no memory for a batch of %zu", B);
    arena_init(&d->memory, d->room, TEXT_ROOM);
    return j->s[H_EXPERT].value == 0 || open_expert(j, e);
}

static void close_data(system_job *j) {
    data *d = j->own;
    mem_free(d->patches), mem_free(d->share), mem_free(d->edge), mem_free(d->depth), mem_free(d->text), mem_free(d->texts);
    mem_free(d->own), mem_free(d->agreed);
    words_free(&d->names);
    if (d->room) mem_release(d->room, TEXT_ROOM);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    size_t B = (size_t)j->s[T_BATCH].value;
    const char **texts = mem_alloc(B, sizeof *texts);
    if (!texts) return err_set(e, "no memory for %zu captions", B);
    d->first = step * B;
    spread(j->cores, B, sample_task, d);
    for (size_t b = 0; b < B; b++) texts[b] = d->text[b];
    arena_reset(&d->memory, 0);
    bool good = !atomic_load(&d->failed) && texts_embed(j->weights, texts, B, NULL, 0, &d->memory, NULL, d->texts, e);
    if (atomic_load(&d->failed)) *e = d->why;
    mem_free(texts);
    return good;
}

static void list_weights(const system_job *j, void *net, part_list *l) {
    headed *n = net;
    tower_weights(&n->tower, j->model, false, 1, l);
    n->heads = (label_heads){.width = j->model->config.vision.width, .classes = ((const data *)j->own)->classes};
    if (j->s[H_HEADS].value > 0) heads_weights(&n->heads, l);
}

static ag_tensor *patches_of(ag_tape *t, ag_tensor *x, size_t first) { /* rows first.. of each picture */
    if (!x) return NULL;
    size_t n = x->rows - first;
    uint32_t *at = arena_alloc(t->memory, x->batch * n, sizeof *at);
    if (!at) return fault_memory(&t->fault, "rows", t->memory, x->batch * n * sizeof *at), NULL;
    for (size_t i = 0; i < x->batch * n; i++) at[i] = (uint32_t)(i / n * x->rows + first + i % n);
    return ag_reshape(t, ag_rows(t, x, at, x->batch * n), x->batch, n, x->cols);
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const headed *n = net;
    const clip_model *m = &n->tower.model;
    size_t B = last - first, grid = m->config.image / m->config.patch, E = m->config.embed, batch = (size_t)j->s[T_BATCH].value;
    ag_tensor *x = tower_tokens(t, m, ag_constant(t, d->patches + first * d->numbers, B, d->cells, d->numbers / d->cells), grid, grid);
    ag_tensor *z = clip_head(t, m, x), *truth = ag_new(t, 1, B, B), *texts = ag_new(t, 1, B, E);
    for (size_t b = first; b < last; b++) out->right += d->agreed[b] / (double)batch;
    if (!z || !truth || !texts) return NULL;
    for (size_t i = 0; i < B * E; i++) texts->data[i] = (real)d->texts[first * E + i];
    for (size_t i = 0; i < B * B; i++) truth->data[i] = !strcmp(d->text[first + i / B], d->text[first + i % B]);
    ag_tensor *contrast = alpha_loss(t, z, texts->data, truth->data, clip_logit_scale(j->model), 0, 1 / (real)batch);
    if (j->s[H_HEADS].value == 0) return contrast;
    const real weight[3] = {1, (real)0.5, d->own ? 0 : (real)0.25};
    cell_labels labels = {d->share + first * d->cells * d->classes, d->edge + first * d->cells, d->depth + first * d->cells};
    ag_tensor *normed = clip_norm(t, &m->post_gamma, &m->post_beta, m->config.vision.eps, patches_of(t, x, clip_first(&m->config)));
    return ag_add(t, contrast, heads_loss(t, &n->heads, normed, &labels, weight, batch, NULL));
}

static bool write_part(const system_job *j, void *net, const part_list *l, const char *path, err *e) {
    headed *n = net;
    return tuned_write(j, &n->tower, l, "F32", path, e);
}

const training_system heads_system = {
    .name = "heads", .what = "contrast with heads on experts' labels (after CLIPTeX)",
    .recipe = recipe, .settings = H_COUNT, .data_size = sizeof(data), .net_size = sizeof(headed),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .write = write_part, .close = close_data,
};
