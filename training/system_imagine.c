/* system_imagine.c - ./train imagine: a generator of small pictures for the model's own world (MODEL.md 13).
 *
 * Where pictures live. Single objects cut out on grey, 32x32; a = V^T (x - mean)/scale, the directions V in which they differ
 *       most (13.1).
 * Model. x_t = (1-t) x_0 + t x_1, x_0 normal, x_1 = a; a residual network says x_1 from x_t, t and the embedding (13.2).
 * Loss. mean |(x_1' - x_1)/max(1-t, .05)|^2, t = sigmoid(N(-.4, 1)): the error of the velocity (Lipman et al. 2023) (13.3).
 * Data. Scenes of one object, embedded whole, once: sqrt(E) e/|e| + noise. In a tenth of the samples a learned vector stands in
 *       its place, so that sampling can be guided (Ho and Salimans 2022) (13.4). Every ninth pair of name and colour is held out.
 * No mask, no region's embedding and no MaskInversion takes part.
 */
#include "training/systems.h"
#include "parts/generator.h"
#include "files/files.h"
#include "models/safetensors.h"
#include "sys/random.h"
#include "training/cutouts.h"
#include "training/stored.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the recipe -------------------------------------------------------------------------------------------- */
enum { I_SCENES = T_OWN, I_SPACE, I_NOISE, I_DROP, I_COEFFICIENTS, I_WIDTH, I_BLOCKS, I_COUNT };
static const setting recipe[I_COUNT] = {
    SYSTEM_SETTINGS(3000, 256, 1.5e-3, 50, 0.05, 0.998, 8),
    [I_SCENES] = {"scenes", 16000, 8, 1e7, SET_DATA, "that are embedded, once", false, false},
    [I_SPACE] = {"space", 6000, 2, 1e6, SET_DATA, "pictures that the linear space is made of", false, false},
    [I_NOISE] = {"noise", 0.3, 0, 10, SET_DATA, "its deviation, beside components of the embedding of about 1", false, true},
    [I_DROP] = {"drop", 0.1, 0, 1, SET_DATA, "share of samples that do not see the embedding", false, true},
    [I_COEFFICIENTS] = {"coefficients", 192, 1, 3072, SET_SHAPE, "of a picture", false, false},
    [I_WIDTH] = {"width", 384, 8, 4096, SET_SHAPE, "of the network", false, false},
    [I_BLOCKS] = {"blocks", 3, 1, GENERATOR_MOST_BLOCKS, SET_SHAPE, "of the network", false, false},
};
enum { FREQUENCIES = 32, EVERY_HELD = 9 };

/* ---- data --------------------------------------------------------------------------------------------------- */
typedef struct {
    scene_source *source;
    cutouts cut, held_cut;
    stored seen, held;
    word_list names, colours;
    cutout_space space;
    real *a, *held_a;  /* [scenes, K], [valid, K] */
    uint32_t *allowed; /* scenes that may be seen */
    size_t allowed_count;
    /* the batch */
    real *x1, *x0, *z, *times, *dropped; /* [batch, K], [batch, K], [batch, E], [batch], [batch] */
} data;

static void keep(void *arg, size_t i, const scene *sc) { cutout_take(arg, i, sc, 0); }

static bool held_out(size_t name, size_t colour) { return (name + 4 * colour) % EVERY_HELD == 0; }

static bool room_for(system_job *j, data *d, err *e) {
    size_t n = (size_t)j->s[I_SCENES].value, K = (size_t)j->s[I_COEFFICIENTS].value, B = (size_t)j->s[T_BATCH].value;
    d->allowed = mem_alloc(n, sizeof *d->allowed);
    d->x1 = mem_alloc(B, K * sizeof(real)), d->x0 = mem_alloc(B, K * sizeof(real));
    d->z = mem_alloc(B, j->model->config.embed * sizeof(real));
    d->times = mem_alloc(B, sizeof(real)), d->dropped = mem_alloc(B, sizeof(real));
    bool good = d->allowed && d->x1 && d->x0 && d->z && d->times && d->dropped;
    return (good || err_set(e, "no memory for %zu scenes", n)) && cutouts_room(&d->cut, n, e);
}

/* FOLDER/pictures.safetensors: embeddings and pictures of what may be seen, for the comparison with the nearest of them, and for
 * a run that goes on. */
static bool write_pictures(const system_job *j, const char *path, err *e) {
    const data *d = j->own;
    size_t n = d->allowed_count, E = d->seen.embed, N = CUTOUT_NUMBERS;
    float *z = mem_alloc(n, E * sizeof *z);
    unsigned char *pixels = mem_alloc(n, N);
    bool good = (z && pixels) || err_set(e, "no memory for %zu pictures", n);
    for (size_t i = 0; good && i < n; i++) {
        for (size_t k = 0; k < E; k++) z[i * E + k] = (float)d->seen.z[d->allowed[i] * E + k];
        memcpy(pixels + i * N, d->cut.pixels + d->allowed[i] * N, N);
    }
    st_tensor t[] = {{"embeddings", "F32", {n, E}, 2, (const unsigned char *)z, n * E * sizeof *z}, {"pictures", "U8", {n, N}, 2, pixels, n * N}};
    good = good && st_write(path, t, 2, NULL, e);
    mem_free(z), mem_free(pixels);
    return good;
}

/* The same back: only what may be seen, which is all that a run looks at. */
static bool read_pictures(system_job *j, const char *path, err *e) {
    data *d = j->own;
    safetensors *file = st_open(path, e);
    const st_tensor *z = file ? st_find(file, "embeddings") : NULL, *p = file ? st_find(file, "pictures") : NULL;
    size_t E = j->model->config.embed, N = CUTOUT_NUMBERS;
    bool good = z && p && z->rank == 2 && z->shape[1] == E && p->rank == 2 && p->shape[1] == N && p->shape[0] == z->shape[0] &&
                z->bytes == z->shape[0] * E * sizeof(float) && p->bytes == p->shape[0] * N && p->shape[0] <= d->cut.count;
    if (file && !good) (void)err_set(e, "%s: these are no pictures of this run", path);
    size_t n = good ? z->shape[0] : 0;
    good = good && (d->seen.z = mem_alloc(n, E * sizeof(real))) && st_floats(z, d->seen.z, n * E, e);
    for (size_t i = 0; good && i < n; i++) d->allowed[i] = (uint32_t)i;
    if (good) memcpy(d->cut.pixels, p->data, n * N), d->cut.count = d->allowed_count = n, d->seen.count = n, d->seen.embed = E;
    if (file) st_free(file);
    return good;
}

/* The space, and where each picture lies in it. */
static bool to_coefficients(system_job *j, data *d, err *e) {
    size_t most = (size_t)j->s[I_SPACE].value;
    return cutout_space_fit(&d->space, &d->cut, d->allowed, d->allowed_count < most ? d->allowed_count : most,
                            (size_t)j->s[I_COEFFICIENTS].value, mix64((uint64_t)j->s[T_SEED].value, 24), j->cores, e) &&
           (d->a = cutout_space_into(&d->space, &d->cut, e));
}

static bool embed_scenes(system_job *j, const stored_plan *plan, const char *path, err *e) {
    data *d = j->own;
    if (!j->options->quiet) printf("imagine: embedding %zu scenes\n", plan->count), fflush(stdout);
    if (!stored_make(&d->seen, plan, j->cores, e)) return false;
    for (size_t i = 0; i < d->cut.count; i++)
        if (!held_out(word_find(&d->names, d->cut.object[i].name), word_find(&d->colours, d->cut.object[i].colour)))
            d->allowed[d->allowed_count++] = (uint32_t)i;
    if (d->allowed_count < 2) return err_set(e, "--scenes %zu: too few that are not held out", plan->count);
    return write_pictures(j, path, e);
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    char path[LOOP_PATH + 32];
    stored_plan plan = {.model = j->model, .seed = mix64((uint64_t)j->s[T_SEED].value, 21), .count = (size_t)j->s[I_SCENES].value,
                        .least = 1, .most = 1, .keep = keep, .arg = &d->cut};
    snprintf(path, sizeof path, "%s/pictures.safetensors", j->options->folder);
    if (!room_for(j, d, e) || !(d->source = scene_source_open(SCENE_DRAWN, NULL, e)) || !words_names(d->source, &d->names, e) ||
        !words_colours(&d->colours, e))
        return false;
    plan.source = d->source;
    bool kept = j->options->resume && file_exists(path);
    if (!(kept ? read_pictures(j, path, e) : embed_scenes(j, &plan, path, e)) || !to_coefficients(j, d, e)) return false;
    plan.seed = HELD_OUT, plan.count = (size_t)j->s[T_VALID].value, plan.arg = &d->held_cut;
    return !plan.count || (cutouts_room(&d->held_cut, plan.count, e) && stored_make(&d->held, &plan, j->cores, e) &&
                            (d->held_a = cutout_space_into(&d->space, &d->held_cut, e)));
}

static void close_data(system_job *j) {
    data *d = j->own;
    mem_free(d->a), mem_free(d->held_a), mem_free(d->allowed), cutout_space_free(&d->space);
    mem_free(d->x1), mem_free(d->x0), mem_free(d->z), mem_free(d->times), mem_free(d->dropped);
    cutouts_free(&d->cut), cutouts_free(&d->held_cut), stored_free(&d->seen), stored_free(&d->held);
    words_free(&d->names), words_free(&d->colours);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    size_t batch = (size_t)j->s[T_BATCH].value, E = d->seen.embed, K = (size_t)j->s[I_COEFFICIENTS].value;
    uint64_t key = mix64((uint64_t)j->s[T_SEED].value, 22), noise = mix64((uint64_t)j->s[T_SEED].value, 23);
    (void)e;
    for (size_t b = 0; b < batch; b++) {
        uint64_t n = step * batch + b, own = mix64(noise, n);
        rng r = rng_start(key, n);
        size_t i = d->allowed[rng_below(&r, d->allowed_count)];
        d->dropped[b] = rng_chance(&r, (float)j->s[I_DROP].value) ? 1 : 0;
        d->times[b] = (real)(1 / (1 + exp(0.4 - mix_normal(own, E + K))));
        for (size_t k = 0; k < E; k++)
            d->z[b * E + k] = (real)(sqrt((double)E) * (double)d->seen.z[i * E + k] + j->s[I_NOISE].value * mix_normal(own, k));
        memcpy(d->x1 + b * K, d->a + i * K, K * sizeof(real));
        for (size_t k = 0; k < K; k++) d->x0[b * K + k] = (real)mix_normal(own, E + k);
    }
    return true;
}

/* ---- the network, and its loss ---------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    generator_net *n = net;
    const setting *s = j->s;
    n->coefficients = (size_t)s[I_COEFFICIENTS].value, n->width = (size_t)s[I_WIDTH].value, n->blocks = (size_t)s[I_BLOCKS].value;
    n->embed = j->model->config.embed, n->frequencies = FREQUENCIES;
    generator_weights(n, l);
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const generator_net *n = net;
    size_t B = last - first, K = n->coefficients, at = first * K;
    (void)out;
    return generator_loss(t, n, ag_constant(t, d->x1 + at, 1, B, K), ag_constant(t, d->x0 + at, 1, B, K), d->times + first,
                          ag_constant(t, d->z + first * n->embed, 1, B, n->embed), d->dropped + first,
                          1 / (real)(K * (size_t)j->s[T_BATCH].value));
}

/* ---- held-out objects: how near is the picture? -------------------------------------------------------------------- */
/* 1 less the mean square between coefficients of the drawn end (t = 0) and the true ones, as a share of their own. */
static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const data *d = j->own;
    const generator_net *n = net;
    size_t E = n->embed, K = n->coefficients, mark = arena_mark(memory), count = d->held.count;
    generator_way how = {.steps = 1, .guidance = 1};
    double off = 0, own = 0;
    for (size_t i = 0; i < count; i++, arena_reset(memory, mark)) {
        ag_tape t;
        if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        ag_tensor *x0 = ag_new(&t, 1, 1, K);
        for (size_t k = 0; x0 && k < K; k++) x0->data[k] = (real)mix_normal(mix64(HELD_OUT, i), k);
        ag_tensor *z = ag_scale(&t, ag_constant(&t, d->held.z + i * E, 1, 1, E), (real)sqrt((double)E), 0);
        ag_tensor *drawn = generator_sample(&t, n, x0, z, &how);
        if (!drawn) return err_fault(e, &t.fault);
        for (size_t k = 0; k < K; k++) {
            double truth = (double)(d->held_a[i * K + k] * d->space.scale[k]);
            double miss = truth - (double)(drawn->data[k] * d->space.scale[k]);
            off += miss * miss, own += truth * truth;
        }
    }
    *share = 1 - off / own;
    return true;
}

/* ---- the part's file ---------------------------------------------------------------------------------------------------- */
/* "red fish" a line, for each pair that was held out. */
static char *held_pairs(const data *d, size_t *bytes) {
    char *text = mem_alloc(d->names.count * d->colours.count + 1, sizeof d->cut.object->name + sizeof d->cut.object->colour + 2);
    *bytes = 0;
    for (size_t i = 0; text && i < d->names.count; i++)
        for (size_t k = 0; k < d->colours.count; k++)
            if (held_out(i, k)) *bytes += (size_t)sprintf(text + *bytes, "%s %s\n", d->colours.word[k], d->names.word[i]);
    return text;
}

static bool write_part(const system_job *j, void *net, const part_list *l, const char *path, err *e) {
    (void)net;
    data *d = j->own;
    part_list both = {0};
    size_t bytes;
    char *held = held_pairs(d, &bytes);
    if (!held) return err_set(e, "no memory for words");
    part_append(&both, l);
    cutout_space_list(&d->space, &both);
    part_extra extra = {"held", "U8", {bytes, 0}, 1, held, bytes};
    bool good = part_listed(&both, e) && part_write(&both, path, "F16", &extra, 1, e);
    part_list_free(&both);
    mem_free(held);
    return good;
}

const training_system imagine_system = {
    .name = "imagine", .what = "a generator: small pictures from an embedding",
    .recipe = recipe, .settings = I_COUNT, .data_size = sizeof(data), .net_size = sizeof(generator_net),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .write = write_part, .close = close_data,
};
