/* system_alpha.c - ./train alpha: AlphaCLIP in small (Sun et al. 2024; MODEL.md 14).
 *
 * Model. Tokens = W_patch pixels + W_alpha (m - .5)/.26, W_alpha zero at first: it begins as the CLIP that it was. The text side
 *       does not learn; the rest of the image side does, at a tenth of the rate.
 * Loss. CLIP's contrast of regions with their texts, its scale fixed; equal texts are all right (14.2). Label smoothing (theirs: .1) is a
 *       setting: here it costs whole pictures.
 * Data. Scenes of one to four objects: one object's mask and its name, half of the time with its colour. In a share of the samples
 *       the mask is 1 everywhere and the text tells of the whole picture (30 % here; the paper's 10 %): without them the model
 *       forgets whole pictures. A quarter of the names are never masked.
 * Result. (1 - k) of what was learned and k of what the model was (14.3), ours: so it forgets less than it learns.
 * Unlike MaskInversion this is trained with masks.
 */
#include "training/systems.h"
#include "models/texts.h"
#include "parts/alpha.h"
#include "parts/tower.h"
#include "scenes/grammar.h"
#include "sys/random.h"
#include "training/cutouts.h"
#include "training/tuned.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- the recipe -------------------------------------------------------------------------------------------- */
enum { A_WHOLE = T_OWN, A_RATE, A_SMOOTHING, A_UNSEEN, A_KEEP, A_COUNT };
static const setting recipe[A_COUNT] = {
    SYSTEM_SETTINGS(300, 64, 3e-3, 10, 0.05, 0.9, 2),
    [A_WHOLE] = {"whole", 0.3, 0, 1, SET_DATA, "share of whole pictures; 0: the control", false, true},
    [A_RATE] = {"rate", 0.1, 0, 1, SET_FREE, "learning rate of the image side, beside that of the alpha plane", false, true},
    [A_SMOOTHING] = {"smoothing", 0, 0, 1, SET_FREE, "of labels", false, true},
    [A_UNSEEN] = {"unseen", 4, 0, 1000, SET_DATA, "every so many-th name is never masked (0: all are)", false, false},
    [A_KEEP] = {"keep", 0.2, 0, 1, SET_FREE, "share of the model's own weights that stays in the result", false, true},
};
enum { SENTENCE = 320 };

/* ---- data --------------------------------------------------------------------------------------------------- */
typedef struct {
    scene_source *source;
    word_list names;
    real *patches;           /* [batch, cells, 4pp] */
    char (*text)[SENTENCE];  /* [batch] */
    real *texts;             /* [batch, E] unit */
    size_t cells, each;
    real *name_units;        /* [names, E] */
    arena memory;
    void *room;
    /* the step's */
    const system_job *job;
    uint64_t first, seed;
    bool only_regions;
    uint32_t *right;         /* [batch] the name's index, of held-out regions */
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err why;
} data;

/* Names sorted by bytes: numbers 1, 5, 9, ... are unseen. */
static bool unseen(const data *d, const char *name) {
    size_t every = (size_t)d->job->s[A_UNSEEN].value;
    return every > 0 && word_find(&d->names, name) % every == 1;
}

/* Four planes of a patch: pixels as feed_patches has them, then the region's (1.15). mask NULL: all of the picture. */
static void four_planes(const data *d, const clip_config *c, const scene *sc, const unsigned char *mask, real *out) {
    size_t side = c->image, p = c->patch, grid = side / p;
    for (size_t k = 0; k < 4; k++)
        for (size_t y = 0; y < side; y++)
            for (size_t x = 0; x < side; x++) {
                size_t cell = y / p * grid + x / p, at = (k * p + y % p) * p + x % p, i = y * side + x;
                double v = k < 3 ? ((double)sc->image.rgb[i * 3 + k] / 255 - (double)c->mean[k]) / (double)c->std[k]
                                 : ((mask ? mask[i] / 255.0 : 1) - 0.5) / 0.26;
                out[cell * d->each + at] = (real)v;
            }
}

/* One sample: which object, or the whole. */
static void sample(data *d, size_t b, const scene *sc, rng *r) {
    const clip_config *c = &d->job->model->config;
    size_t order[SCENE_MOST_OBJECTS], k = rng_below(r, sc->count);
    bool whole = !d->only_regions && rng_chance(r, (float)d->job->s[A_WHOLE].value);
    for (size_t i = 0; i < sc->count && !d->only_regions && unseen(d, sc->object[k].name); i++) k = (k + 1) % sc->count;
    whole = whole || (!d->only_regions && unseen(d, sc->object[k].name));
    for (size_t i = 0; i < sc->count; i++) order[i] = i;
    if (whole) grammar_list(sc->object, order, sc->count, rng_chance(r, 0.5f) ? SAY_COLOUR : 0, d->text[b], SENTENCE);
    else grammar_list(sc->object, &k, 1, rng_chance(r, 0.5f) ? SAY_COLOUR : 0, d->text[b], SENTENCE);
    if (d->right) d->right[b] = (uint32_t)word_find(&d->names, sc->object[k].name);
    four_planes(d, c, sc, whole ? NULL : sc->object[k].mask, d->patches + b * d->cells * d->each);
}

static void sample_task(void *arg, size_t b) {
    data *d = arg;
    scene sc;
    err e = {{0}};
    rng r = rng_start(mix64(d->seed, 1), d->first + b);
    if (atomic_load(&d->failed)) return;
    if (scene_make(d->source, mix64(d->seed, 2), d->first + b, d->job->model->config.image, 1, 4, &sc, &e)) {
        sample(d, b, &sc, &r);
        scene_free(&sc);
    } else if (!atomic_exchange(&d->failed, true)) {
        d->why = e;
    }
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    const clip_config *c = &j->model->config;
    size_t B = (size_t)j->s[T_BATCH].value, grid = c->image / c->patch;
    if (!tower_fits(c) || c->alpha) return err_set(e, "alpha: the model is no vision transformer without a pooler and without a region's plane");
    d->job = j, d->cells = grid * grid, d->each = 4 * c->patch * c->patch;
    d->patches = mem_alloc(B, d->cells * d->each * sizeof *d->patches), d->text = mem_alloc(B, sizeof *d->text);
    d->texts = mem_alloc(B, c->embed * sizeof *d->texts), d->room = mem_reserve(TEXT_ROOM);
    if (!d->patches || !d->text || !d->texts || !d->room) return err_set(e, "no memory for a batch of %zu", B);
    arena_init(&d->memory, d->room, TEXT_ROOM);
    if (!(d->source = scene_source_open(SCENE_DRAWN, NULL, e)) || !words_names(d->source, &d->names, e)) return false;
    d->name_units = mem_alloc(d->names.count, c->embed * sizeof *d->name_units);
    return (d->name_units || err_set(e, "no memory for names")) &&
           system_texts(j, d->names.word, d->names.count, "a photo of a {}", d->name_units, e);
}

static void close_data(system_job *j) {
    data *d = j->own;
    mem_free(d->patches), mem_free(d->text), mem_free(d->texts), mem_free(d->name_units), words_free(&d->names);
    if (d->room) mem_release(d->room, TEXT_ROOM);
    if (d->source) scene_source_free(d->source);
}

static bool make(data *d, uint64_t seed, uint64_t first, size_t count, err *e) {
    d->seed = seed, d->first = first;
    spread(d->job->cores, count, sample_task, d);
    if (!atomic_load(&d->failed)) return true;
    *e = d->why;
    return false;
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    size_t B = (size_t)j->s[T_BATCH].value;
    const char *texts[65536];
    if (!make(d, mix64((uint64_t)j->s[T_SEED].value, 41), step * B, B, e)) return false;
    for (size_t b = 0; b < B; b++) texts[b] = d->text[b];
    arena_reset(&d->memory, 0);
    return texts_embed(j->weights, texts, B, NULL, 0, &d->memory, NULL, d->texts, e);
}

/* ---- the network, and its loss ---------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    tower_weights(net, j->model, true, j->s[A_RATE].value, l);
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const tower *w = net;
    const clip_config *c = &j->model->config;
    size_t B = last - first, grid = c->image / c->patch, E = c->embed;
    ag_tensor *z = clip_image(t, &w->model, ag_constant(t, d->patches + first * d->cells * d->each, B, d->cells, d->each), grid, grid);
    ag_tensor *truth = ag_new(t, 1, B, B), *texts = ag_new(t, 1, B, E);
    if (!z || !truth || !texts) return NULL;
    for (size_t i = 0; i < B * E; i++) texts->data[i] = (real)d->texts[first * E + i];
    for (size_t i = 0; i < B * B; i++) truth->data[i] = !strcmp(d->text[first + i / B], d->text[first + i % B]);
    for (size_t i = 0; i < B; i++) {
        size_t best = 0;
        real most = -INFINITY;
        for (size_t k = 0; k < B; k++) {
            real s = k_dot(z->data + i * E, texts->data + k * E, E);
            if (s > most) most = s, best = k;
        }
        out->right += truth->data[i * B + best] > 0 ? 1 / j->s[T_BATCH].value : 0;
    }
    return alpha_loss(t, z, texts->data, truth->data, clip_logit_scale(j->model), (real)j->s[A_SMOOTHING].value, 1 / (real)j->s[T_BATCH].value);
}

/* ---- held-out scenes: is the region named among all names? --------------------------------------------------------- */
static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    data *d = j->own;
    const tower *w = net;
    const clip_config *c = &j->model->config;
    size_t B = (size_t)j->s[T_BATCH].value, count = (size_t)j->s[T_VALID].value, right = 0, grid = c->image / c->patch, E = c->embed;
    uint32_t *names = mem_alloc(B, sizeof *names);
    bool good = names || err_set(e, "no memory for %zu names", B);
    d->right = names, d->only_regions = true;
    for (size_t i = 0, n; good && i < count; i += n) {
        size_t mark = arena_mark(memory);
        ag_tape t;
        n = count - i < B ? count - i : B;
        if (!ag_tape_init(&t, memory, j->cores, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        good = make(d, HELD_OUT, i, n, e);
        ag_tensor *z = good ? clip_image(&t, &w->model, ag_constant(&t, d->patches, n, d->cells, d->each), grid, grid) : NULL;
        if (good && !z) good = err_fault(e, &t.fault);
        for (size_t b = 0; good && b < n; b++) {
            double own = 0;
            bool best = true;
            for (size_t k = 0; k < E; k++) own += (double)z->data[b * E + k] * (double)d->name_units[names[b] * E + k];
            for (size_t m = 0; m < d->names.count && best; m++) {
                double s = 0;
                for (size_t k = 0; k < E; k++) s += (double)z->data[b * E + k] * (double)d->name_units[m * E + k];
                best = s <= own;
            }
            right += best;
        }
        arena_reset(memory, mark);
    }
    d->right = NULL, d->only_regions = false;
    mem_free(names);
    *share = (double)right / (double)count;
    return good;
}

/* ---- the result: a model folder, with alpha.safetensors the learned plane alone ----------------------------------------- */
static bool write_part(const system_job *j, void *net, const part_list *l, const char *path, err *e) {
    return tuned_write(j, net, l, "F16", path, e);
}

const training_system alpha_system = {
    .name = "alpha", .what = "a region's plane beside the pixels (AlphaCLIP)",
    .recipe = recipe, .settings = A_COUNT, .data_size = sizeof(data), .net_size = sizeof(tower),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .write = write_part, .close = close_data, .keep = A_KEEP,
};
