/* system_judge.c - ./train judge: who tells what is in a small picture, for the figures of `imagine` (MODEL.md 13.5).
 *
 * A judge must not know what it judges: no CLIP, no generator and no embedding takes part, and its scenes are of other seeds.
 * Model. a = V^T (x - mean)/scale in a linear space of its own;  scores = W_2 dropout(relu(W_1 (a + s noise) + b_1)) + b_2.
 * Loss. Cross entropy of the name, and of the colour.
 * Data. Single objects of drawn scenes cut out on grey, as the generator's targets are; every pair of name and colour.
 */
#include "training/systems.h"
#include "parts/judge.h"
#include "sys/random.h"
#include "training/cutouts.h"
#include <stdio.h>

enum { J_SCENES = T_OWN, J_SPACE, J_NOISE, J_DROP, J_COEFFICIENTS, J_HIDDEN, J_COUNT };
static const setting recipe[J_COUNT] = {
    SYSTEM_SETTINGS(2000, 256, 2e-3, 50, 0.05, 0.99, 4),
    [J_SCENES] = {"scenes", 16000, 8, 1e7, SET_DATA, "whose objects are cut out", false, false},
    [J_SPACE] = {"space", 6000, 2, 1e6, SET_DATA, "pictures that the linear space is made of", false, false},
    [J_NOISE] = {"noise", 0.3, 0, 10, SET_DATA, "its deviation, beside coefficients of about 1", false, true},
    [J_DROP] = {"drop", 0.3, 0, 0.9, SET_DATA, "share of hidden numbers that are 0 while it learns", false, true},
    [J_COEFFICIENTS] = {"coefficients", 192, 1, 3072, SET_SHAPE, "of a picture", false, false},
    [J_HIDDEN] = {"width", 384, 1, 65536, SET_SHAPE, "hidden numbers", false, false},
};

typedef struct {
    scene_source *source;
    cutouts cut, held;
    word_list names, colours;
    cutout_space space;
    real *a, *held_a;                        /* [scenes,K], [valid,K] */
    real *x, *keep;                          /* the batch: [batch,K], [batch,hidden] */
    uint32_t *name, *colour;                 /* [batch] */
} data;

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    size_t n = (size_t)j->s[J_SCENES].value, K = (size_t)j->s[J_COEFFICIENTS].value, B = (size_t)j->s[T_BATCH].value;
    size_t valid = (size_t)j->s[T_VALID].value, space = (size_t)j->s[J_SPACE].value, side = j->model->config.image;
    d->x = mem_alloc(B, K * sizeof *d->x), d->keep = mem_alloc(B, (size_t)j->s[J_HIDDEN].value * sizeof *d->keep);
    d->name = mem_alloc(B, sizeof *d->name), d->colour = mem_alloc(B, sizeof *d->colour);
    if (!d->x || !d->keep || !d->name || !d->colour) return err_set(e, "no memory for a batch of %zu", B);
    if (!j->options->quiet) printf("judge: drawing %zu scenes\n", n), fflush(stdout);
    if (!(d->source = scene_source_open(SCENE_DRAWN, NULL, e)) ||
        !cutouts_make(&d->cut, d->source, mix64((uint64_t)j->s[T_SEED].value, 31), n, side, j->cores, e) ||
        !words_names(d->source, &d->names, e) || !words_colours(&d->colours, e) ||
        !cutout_space_fit(&d->space, &d->cut, NULL, n < space ? n : space, K, mix64((uint64_t)j->s[T_SEED].value, 34), j->cores, e) ||
        !(d->a = cutout_space_into(&d->space, &d->cut, e)))
        return false;
    return !valid || (cutouts_make(&d->held, d->source, HELD_OUT, valid, side, j->cores, e) &&
                      (d->held_a = cutout_space_into(&d->space, &d->held, e)));
}

static void close_data(system_job *j) {
    data *d = j->own;
    mem_free(d->a), mem_free(d->held_a), mem_free(d->x), mem_free(d->keep), mem_free(d->name), mem_free(d->colour);
    cutouts_free(&d->cut), cutouts_free(&d->held), words_free(&d->names), words_free(&d->colours), cutout_space_free(&d->space);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    size_t batch = (size_t)j->s[T_BATCH].value, K = (size_t)j->s[J_COEFFICIENTS].value, hidden = (size_t)j->s[J_HIDDEN].value;
    uint64_t key = mix64((uint64_t)j->s[T_SEED].value, 32), noise = mix64((uint64_t)j->s[T_SEED].value, 33);
    double drop = j->s[J_DROP].value;
    (void)e;
    for (size_t b = 0; b < batch; b++) {
        uint64_t n = step * batch + b, own = mix64(noise, n);
        rng r = rng_start(key, n);
        size_t i = rng_below(&r, d->cut.count);
        d->name[b] = (uint32_t)word_find(&d->names, d->cut.object[i].name);
        d->colour[b] = (uint32_t)word_find(&d->colours, d->cut.object[i].colour);
        for (size_t k = 0; k < K; k++) d->x[b * K + k] = d->a[i * K + k] + (real)(j->s[J_NOISE].value * mix_normal(own, k));
        for (size_t k = 0; k < hidden; k++) d->keep[b * hidden + k] = rng_chance(&r, (float)drop) ? 0 : (real)(1 / (1 - drop));
    }
    return true;
}

static void list_weights(const system_job *j, void *net, part_list *l) {
    judge_net *n = net;
    const data *d = j->own;
    *n = (judge_net){.coefficients = (size_t)j->s[J_COEFFICIENTS].value, .hidden = (size_t)j->s[J_HIDDEN].value,
                     .names = d->names.count, .colours = d->colours.count};
    judge_weights(n, l);
}

/* Whether the best of [first, first+count) of a row of scores is `right`. */
static bool best_is(const real *score, size_t count, size_t right) {
    for (size_t i = 0; i < count; i++)
        if (!(score[i] <= score[right])) return false;
    return true;
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const judge_net *n = net;
    size_t B = last - first;
    real each = 1 / (real)j->s[T_BATCH].value;
    ag_tensor *s = judge_scores(t, n, ag_constant(t, d->x + first * n->coefficients, 1, B, n->coefficients),
                                ag_constant(t, d->keep + first * n->hidden, 1, B, n->hidden));
    for (size_t b = 0; s && b < B; b++)
        out->right += best_is(s->data + b * s->cols, n->names, d->name[first + b]) ? (double)each : 0;
    ag_tensor *name = part_cross_entropy(t, ag_columns(t, s, 0, n->names), d->name + first, UINT32_MAX, each);
    return ag_add(t, name, part_cross_entropy(t, ag_columns(t, s, n->names, n->colours), d->colour + first, UINT32_MAX, each));
}

static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const data *d = j->own;
    const judge_net *n = net;
    size_t right = 0, mark = arena_mark(memory);
    ag_tape t;
    if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    ag_tensor *s = judge_scores(&t, n, ag_constant(&t, d->held_a, 1, d->held.count, n->coefficients), NULL);
    for (size_t i = 0; s && i < d->held.count; i++) {
        size_t name = word_find(&d->names, d->held.object[i].name);
        right += name != SIZE_MAX && best_is(s->data + i * s->cols, n->names, name);
    }
    arena_reset(memory, mark);
    *share = (double)right / (double)d->held.count;
    return s ? true : err_fault(e, &t.fault);
}

static bool write_part(const system_job *j, void *net, const part_list *l, const char *path, err *e) {
    (void)net;
    data *d = j->own;
    part_list both = {0};
    size_t names, colours;
    char *name = words_lines(&d->names, &names, e), *colour = words_lines(&d->colours, &colours, e);
    part_append(&both, l);
    cutout_space_list(&d->space, &both);
    part_extra extra[] = {{"names", "U8", {names, 0}, 1, name, names}, {"colours", "U8", {colours, 0}, 1, colour, colours}};
    bool good = name && colour && part_listed(&both, e) && part_write(&both, path, "F16", extra, 2, e);
    part_list_free(&both);
    mem_free(name), mem_free(colour);
    return good;
}

const training_system judge_system = {
    .name = "judge", .what = "a reader of small pictures, who judges those of imagine",
    .recipe = recipe, .settings = J_COUNT, .data_size = sizeof(data), .net_size = sizeof(judge_net),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .write = write_part, .close = close_data,
};
